# SPDX-License-Identifier: Apache-2.0
"""Operators over MQTT: a real mosquitto with the access list that is shipped, the coordinator, and the command line."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mosquitto import ALICE, BOB, CLUSTER, Client, Site

from refloat_cli.operator_file import OperatorSettings
from refloat_cli.pki.authority import COORDINATOR
from refloat_cli.remote import BrokerWay
from refloat_contract.errors import Misconfigured, Refused, Transient
from refloat_contract.messages import NodeReport, NodeStatus, OperatorAnswer, OperatorRequest, decode, encode
from refloat_contract.operators import Assembly
from refloat_contract.topics import Kind, Topics
from refloat_contract.words import Phase, Verdict
from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.daemon import Coordinator
from refloat_slurm.gateway import AdminLevel
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld

pytestmark = pytest.mark.broker

TOPICS = Topics(CLUSTER)
START: Mapping[str, Any] = {"nodes": "n[1-2]", "max_unavailable": 2}


@dataclass(slots=True)
class Scene:
    """A coordinator that leads at the broker, and its Slurm."""

    site: Site
    folder: Path
    slurm: SimulatedSlurmctld
    rights: str = "act"

    def way(self, name: str = ALICE, **changes: Any) -> BrokerWay:
        """How this operator's command line asks."""
        mqtt = self.site.settings(name, protocol="3.1.1", **changes)
        return BrokerWay(OperatorSettings(cluster=CLUSTER, mqtt=mqtt))

    def marked(self) -> set[str]:
        """The nodes that are drained in Slurm."""
        return {name for name, view in self.slurm.views().items() if "DRAIN" in view.flags}

    @contextlib.asynccontextmanager
    async def leads(self) -> AsyncIterator[None]:
        """While a coordinator does."""
        wanted = {
            "cluster": CLUSTER,
            "state_dir": self.folder / "c",
            "socket": self.folder / "c.sock",
            "mqtt": self.site.settings(COORDINATOR),
            "feed": {"period_s": 0.1},
            "http": {"listen": ""},
            "limits": {"max_unavailable": 2},
            "operators": {"over_mqtt": self.rights},
        }
        coordinator = Coordinator(CoordinatorSettings.model_validate(wanted), gateway=SimulatedGateway(self.slurm))
        running = asyncio.create_task(coordinator.run())
        try:
            async with asyncio.timeout(10):
                await coordinator.ready.wait()
            yield
        finally:
            coordinator.stop()
            async with asyncio.timeout(10):
                await running


@pytest.fixture
async def scene(site: Site, tmp_path: Path) -> Scene:
    async with site.client(COORDINATOR) as before:  # whoever led here with another ledger is forgotten
        await before.says(TOPICS.coordinator(), b"", retain=True)
    slurm = SimulatedSlurmctld(["n1", "n2"], clock=time.time)
    report = NodeReport(at=1.0, boot_id="b", phase=Phase.IN_SERVICE, since=1.0, verdict=Verdict.HEALTHY)
    for name in ("n1", "n2"):
        slurm.register(name, time.time() - 60)
        async with site.client(name) as agent:  # a node without an agent is in no wave
            status = encode(NodeStatus(node=name, online=True, report=report))
            await agent.says(TOPICS.node(name, Kind.STATUS), status, retain=True)
    slurm.accounting = {"alice": AdminLevel.OPERATOR, "bob": AdminLevel.NONE}
    return Scene(site, tmp_path, slurm)


async def test_a_named_operator_asks_and_gets_what_the_socket_would_say(scene: Scene) -> None:
    async with scene.leads():
        way = scene.way()
        found = await way.call("status", nodes="n[1-2]")
        with pytest.raises(Refused, match="unknown command 'reboot_all'"):
            await way.call("reboot_all")
        with pytest.raises(Misconfigured, match="cannot be read"):
            await way.call("status", nodes="n[1-")

    assert [one["node"] for one in found] == ["n1", "n2"]
    assert found[0]["slurm"]["flags"] == ["IDLE"]


async def test_whom_slurm_calls_operator_begins_a_wave_and_is_named_in_the_record(scene: Scene) -> None:
    async with scene.leads():
        way = scene.way()
        report = await way.call("wave_start", spec=dict(START))
        async with asyncio.timeout(10):
            while scene.marked() != {"n1", "n2"}:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.02)
        await way.call("wave_abort", id=report["id"])
        events = await way.call("events", waves=[report["id"]])

    assert report["by"] == "alice over MQTT"
    told = {event["kind"]: event["operator"] for event in events}
    assert (told["wave_started"], told["wave_aborted"]) == ("alice over MQTT", "alice over MQTT")


@pytest.mark.parametrize(
    ("rights", "accounting", "says"),
    [
        ("act", {"alice": AdminLevel.NONE}, "alice is neither operator nor administrator in Slurm's accounting"),
        ("act", {}, "alice is neither operator nor administrator"),
        ("act", None, "Slurm does not tell whether alice may: You are not running a supported accounting_storage"),
        ("look", {"alice": AdminLevel.ADMINISTRATOR}, "over MQTT operators may only look here"),
    ],
)
async def test_a_change_without_slurms_word_is_refused_and_nothing_happens_in_slurm(
    scene: Scene, rights: str, accounting: dict[str, AdminLevel] | None, says: str
) -> None:
    scene.rights, scene.slurm.accounting = rights, accounting
    async with scene.leads():
        with pytest.raises(Refused, match=says):
            await scene.way().call("wave_start", spec=dict(START))
        waves = await scene.way().call("wave_list")
        await asyncio.sleep(0.3)

    assert waves == []
    assert scene.marked() == set()


async def test_neither_a_node_nor_another_operator_can_ask_in_an_operators_name(scene: Scene, site: Site) -> None:
    forged = OperatorRequest(id="0" * 32, operator=ALICE, command="wave_start", arguments={"spec": dict(START)})
    async with scene.leads():
        async with site.client("n1", TOPICS.answer(ALICE)) as n1, site.client(BOB, TOPICS.answer(ALICE)) as bob:
            refused = [await who.says(TOPICS.asks(ALICE), encode(forged)) for who in (n1, bob)]
            in_its_own = forged.model_copy(update={"operator": "n1"})
            said = [await n1.says(TOPICS.asks("n1"), encode(message)) for message in (in_its_own, forged)]
            await scene.way().call("wave_list")
            overheard = [*n1.heard, *bob.heard]
        waves = await scene.way().call("wave_list")

    assert all("Not authorized" in each for each in refused)
    assert said == ["", ""]  # the broker lets a node speak in its own name; nobody listens
    assert overheard == []
    assert waves == []


async def answers(client: Client, request: OperatorRequest, count: int) -> list[dict[str, Any]]:
    """So many answers to a request, in their order; then none for a while."""
    async with asyncio.timeout(10):
        while len(client.heard) < count:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    texts = [Assembly(request.id).add(decode(OperatorAnswer, payload)) for _, payload in client.heard]
    return [json.loads(text) for text in texts if text is not None]


async def test_a_request_that_comes_several_times_acts_once_and_gets_the_same_answer(scene: Scene, site: Site) -> None:
    asked = OperatorRequest(id="1" * 32, operator=ALICE, command="wave_start", arguments={"spec": dict(START)})
    async with scene.leads():
        async with site.client(ALICE, TOPICS.answer(ALICE)) as alice:
            await alice.says(TOPICS.asks(ALICE), encode(asked))
            (given,) = await answers(alice, asked, 1)
            with_ticket = asked.model_copy(update={"ticket": given["ticket"]})
            for _ in range(3):
                await alice.says(TOPICS.asks(ALICE), encode(with_ticket))
            await answers(alice, asked, 2)
            await alice.says(TOPICS.asks(ALICE), encode(with_ticket))
            told = await answers(alice, asked, 3)
        waves = await scene.way().call("wave_list")
    results = [answer["result"] for answer in told[1:]]

    assert [wave["id"] for wave in waves] == [results[0]["id"]]
    assert all(result == results[0] for result in results)

    async with scene.leads():  # another life: it has never heard of the ticket
        async with site.client(ALICE, TOPICS.answer(ALICE)) as alice:
            await alice.says(TOPICS.asks(ALICE), encode(with_ticket))
            (late,) = await answers(alice, asked, 1)
        after = await scene.way().call("wave_list")

    assert "whether it was carried out then is in the record" in late["error"]["message"]
    assert [wave["id"] for wave in after] == [results[0]["id"]]


async def test_an_answer_that_is_larger_than_the_broker_lets_pass_comes_in_parts(scene: Scene) -> None:
    nodes = [f"node-with-a-long-name-{number:05}" for number in range(50_000)]
    async with scene.leads():
        expanded = await scene.way().call("expand", nodes="node-with-a-long-name-[00000-49999]")

    assert len(json.dumps(nodes)) > 1_400_000
    assert expanded == nodes


async def test_without_a_coordinator_the_command_line_says_what_to_look_at(scene: Scene) -> None:
    with pytest.raises(Transient, match=r"the broker at localhost:\d+ is there, but no coordinator leads"):
        await scene.way().call("wave_list", 0.5)


async def test_what_the_access_list_forbids_is_said_by_the_broker(scene: Scene) -> None:
    mqtt = scene.site.settings(ALICE)
    with pytest.raises(Refused, match="the broker refused refloat/v1/other/operator/refloat-operator-alice/request"):
        await BrokerWay(OperatorSettings(cluster="other", mqtt=mqtt)).call("wave_list")


async def test_a_certificate_that_is_no_operators_is_told_before_anything_is_said(scene: Scene) -> None:
    with pytest.raises(Misconfigured, match="'n1' is not the name of an operator: refloat-operator-USER"):
        await scene.way("n1").call("wave_list")


async def test_a_broker_that_refuses_says_why(scene: Scene, site: Site) -> None:
    with pytest.raises(Transient, match=r"the broker refuses our certificate .*trusts another authority"):
        await scene.way(port=site.broker.port).call("wave_list")


async def test_the_command_asks_over_mqtt_where_a_broker_is_named(scene: Scene, site: Site, tmp_path: Path) -> None:
    mqtt = site.settings(ALICE, protocol="3.1.1").model_dump(mode="json", exclude_none=True)
    lines = [f"{key} = {json.dumps(value)}" for key, value in mqtt.items()]
    (tmp_path / "operator.toml").write_text(f'cluster = "{CLUSTER}"\n[mqtt]\n' + "\n".join(lines) + "\n")

    async def refloat(*words: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from refloat_cli.entry import main; main()",
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "REFLOAT_BROKER": str(tmp_path / "operator.toml")},
        )
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async with scene.leads():
        started = await refloat("wave", "start", "n1")
        wave = started[1].split()[1]
        watching = asyncio.create_task(refloat("wave", "watch", wave, "--json"))
        await scene.way().call("wave_abort", id=wave)
        watched = await watching
    last = json.loads(watched[1].splitlines()[-1])

    assert (started[0], watched[0]) == (0, 1), (started[2], watched[2])
    assert (last["report"]["state"], last["report"]["by"]) == ("aborted", "alice over MQTT")
