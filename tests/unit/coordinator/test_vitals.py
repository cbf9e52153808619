# SPDX-License-Identifier: Apache-2.0
import asyncio

from prometheus_client.parser import text_string_to_metric_families
from unit.coordinator.cluster import Agent, Cluster, Run
from unit.coordinator.world import event, eventually

from refloat_contract.topics import Topics
from refloat_contract.words import EventKind, Phase
from refloat_coordinator.metrics import gauges
from refloat_coordinator.metrics.prometheus import EVENTS, OUTAGES, PHASES, PREFIX
from refloat_coordinator.operators.desk import Desk
from refloat_coordinator.operators.over_mqtt import Operators
from refloat_coordinator.record.ledger import Ledger
from refloat_coordinator.vitals import Leading, Vitals
from refloat_service.mqtt import Link, MqttSettings


class Scene:
    """A coordinator of three nodes, and its vitals."""

    def __init__(self, ledger: Ledger) -> None:
        self.cluster = Cluster({name: Agent(name) for name in ("n1", "n2", "n3")})
        self.run = Run(self.cluster, ledger, 1)
        self.vitals = Vitals(self.cluster.clock, stalled_s=30)
        link = Link(MqttSettings(), client_id="x")
        clock, slurm = self.cluster.clock, self.cluster.admin_level
        operators = Operators({}, slurm, link.publish, Topics("c"), clock, "look")
        operators.dropped = 3
        self.leading = Leading(7, self.run.loop, ledger, self.run.inbox, operators, link, None)
        self.desk = Desk(self.run.loop, ledger, self.cluster.clock)

    async def scraped(self) -> dict[str, float]:
        page = await self.vitals.metrics.page()
        assert page.status == 200
        return {
            f"{sample.name}{sorted(sample.labels.values())}": sample.value
            for family in text_string_to_metric_families(page.body.decode())
            for sample in family.samples
        }


async def test_what_is_scraped_is_what_is_so(ledger: Ledger) -> None:
    scene = Scene(ledger)
    scene.vitals.leading = scene.leading
    scene.cluster.report(scene.cluster.agents["n1"])
    scene.cluster.agents["n3"].flags, scene.cluster.agents["n3"].reason = frozenset({"DOWN"}), "bad DIMM"
    scene.run.connect()
    await scene.run.turn()
    wave = (await scene.desk.wave_start({"spec": {"nodes": "n[1-2]"}})).id
    await scene.run.turn()
    found = await scene.scraped()

    assert found["refloat_nodes['IN_SERVICE']"] == 1
    assert found["refloat_nodes['unheard']"] == 2
    assert found["refloat_agents_online[]"] == 1
    assert found["refloat_nodes_out[]"] == 1
    assert (
        found[f"refloat_wave_nodes{sorted([wave, 'waiting'])}"] + found[f"refloat_wave_nodes{sorted([wave, 'marked'])}"]
        == 2
    )
    assert found["refloat_leads[]"] == 1
    assert found["refloat_epoch[]"] == 7
    assert found["refloat_slurm_reads_total[]"] == 2
    assert found["refloat_operator_requests_dropped_total[]"] == 3
    assert found["refloat_outbox_waiting[]"] == 1  # the wave's beginning


async def test_every_family_is_told_even_by_one_that_stands_by(ledger: Ledger) -> None:
    text = (await Scene(ledger).vitals.metrics.page()).body.decode()
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}

    counted = {name.removesuffix("_total") for name in named}
    for family in (*gauges.FLEET, *gauges.DAEMON):
        assert (PREFIX + family.name).removesuffix("_total") in counted
    assert f"{PREFIX}leads 0.0" in text
    assert "process_resident_memory_bytes" in named


async def test_phases_outages_and_events_are_counted(ledger: Ledger) -> None:
    scene = Scene(ledger)
    entered = event(kind=EventKind.PHASE_ENTERED).model_copy(update={"measures": {"draining_s": 12.0}})
    healed = event(kind=EventKind.HEALTH_RESUMED).model_copy(update={"check": "mounts", "duration_s": 90.0})
    cycled = event(kind=EventKind.RESUMED).model_copy(update={"duration_s": 200.0})
    left = event(kind=EventKind.REBOOT)
    back = event(kind=EventKind.BOOTED, at_ns=left.at_ns + 150 * 10**9)
    for one in (entered, healed, left, back, cycled):
        scene.vitals.metrics.tally(one)
    found = await scene.scraped()

    assert found[f"{PREFIX}{EVENTS}['phase_entered']"] == 1
    assert found[f"{PREFIX}{PHASES}_sum['{Phase.DRAINING}']"] == 12
    assert found[f"{PREFIX}{PHASES}_sum['{Phase.REBOOTING}']"] == 150
    assert found[f"{PREFIX}{OUTAGES}_sum['mounts']"] == 90
    assert found[f"{PREFIX}{OUTAGES}_sum['reboot']"] == 200


async def test_events_are_tallied_as_they_are_recorded(ledger: Ledger) -> None:
    scene = Scene(ledger)
    scene.vitals.leading = scene.leading
    tally = asyncio.create_task(scene.vitals.tally(scene.run.loop))
    await scene.run.turn()
    await scene.desk.wave_start({"spec": {"nodes": "n1"}})
    await scene.run.turn()

    async def is_counted() -> bool:
        return (await scene.scraped()).get(f"{PREFIX}{EVENTS}['wave_started']") == 1

    await eventually(is_counted)
    tally.cancel()
    await asyncio.gather(tally, return_exceptions=True)


async def test_alive_and_ready(ledger: Ledger) -> None:
    scene = Scene(ledger)
    assert (await scene.vitals.healthz()).status == 200
    assert b"standing by" in (await scene.vitals.readyz()).body
    scene.vitals.leading = scene.leading
    assert b"not been read" in (await scene.vitals.readyz()).body
    await scene.run.turn()
    assert (await scene.vitals.readyz()).status == 200
    scene.cluster.clock.time += 31
    assert (await scene.vitals.healthz()).status == 503
