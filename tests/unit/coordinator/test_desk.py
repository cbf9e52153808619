# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_json
from unit.coordinator.cluster import Agent, Cluster, Run
from unit.coordinator.world import event, status, view, wave_over

from refloat_contract.errors import BadMessage, Misconfigured, RefloatError, Refused, Transient
from refloat_contract.words import EventKind, Phase, Turn, Verdict, WaveState
from refloat_coordinator.fleet import Fleet, Heard
from refloat_coordinator.operators.desk import Desk
from refloat_coordinator.permits.groups import Groups
from refloat_coordinator.record.ledger import Ledger
from refloat_service.callers import CALLER, Caller
from refloat_service.peers import Peer


class Room:
    """A desk in a cluster of three nodes that has been read once."""

    def __init__(self, ledger: Ledger) -> None:
        self.cluster = Cluster({name: Agent(name) for name in ("n1", "n2", "n10")})
        for agent in self.cluster.agents.values():
            self.cluster.report(agent)
        self.run = Run(self.cluster, ledger, 1)
        self.desk = Desk(self.run.loop, ledger, self.cluster.clock, self.cluster)

    async def opened(self) -> "Room":
        self.run.connect()
        await self.run.turn()
        return self

    async def ask(self, command: str, **arguments: Any) -> Any:
        answer = await self.desk.handlers()[command](arguments)  # type: ignore[misc]
        to_json(answer)
        return answer


@pytest.fixture
async def room(ledger: Ledger) -> Room:
    return await Room(ledger).opened()


async def test_a_wave_from_its_plan_to_its_end(room: Room) -> None:
    spec = {"nodes": "n[1-2]", "canary": 1, "max_unavailable": 2}
    plan = await room.ask("wave_plan", spec=spec)
    report = await room.ask("wave_start", spec=spec)
    await room.run.turn()
    shown = await room.ask("wave_show", id=report.id)
    for _ in range(40):
        await room.run.turn()
    ended = await room.ask("wave_show", id=report.id)

    assert (plan["first"], plan["canary"], plan["counts"]) == ("n1", "n1", {Turn.WAITING: 1, Turn.MARKED: 1})
    assert [node.turn for node in shown["nodes"]] == [Turn.MARKED, Turn.WAITING]
    assert ended["report"].state is WaveState.DONE
    assert [wave.id for wave in await room.ask("wave_list")] == [report.id]


async def test_a_plan_changes_nothing(room: Room) -> None:
    await room.ask("wave_plan", spec={"nodes": "n[1-2]"})
    await room.run.turn()

    assert room.run.loop.waves == {}
    assert room.cluster.agents["n1"].reason == ""


async def test_a_plan_names_who_would_be_skipped(room: Room) -> None:
    room.cluster.agents["n1"].flags, room.cluster.agents["n1"].reason = frozenset({"IDLE", "DRAIN"}), "bad DIMM"
    await room.run.turn()
    plan = await room.ask("wave_plan", spec={"nodes": "n[1-2],n99", "max_unavailable": 2})

    why = {node.node: (node.turn, node.why) for node in plan["nodes"]}
    assert why["n1"] == (Turn.SKIPPED, "drained: bad DIMM")
    assert why["n99"] == (Turn.SKIPPED, "unknown to Slurm")


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("n1", BadMessage, "needs a spec"),
        ({}, Misconfigured, "nodes: Field required"),
        ({"nodes": "n[1-"}, Misconfigured, "cannot be read"),
        ({"nodes": ""}, Misconfigured, "empty"),
        ({"nodes": "@all"}, Misconfigured, "there is no group @all"),
        ({"nodes": "n[1-999999999]"}, Misconfigured, "more than 100000"),
        ({"nodes": "n1;reboot"}, Misconfigured, "cannot be a node's name"),
        ({"nodes": "n1", "recipe": "explode"}, Misconfigured, "known recipes: reboot, reconfigure"),
        ({"nodes": "n1", "image": "a b"}, Misconfigured, "cannot stand in a reason"),
        (
            {"nodes": "n1", "max_unavailable": 0},
            Misconfigured,
            "max_unavailable: .*a number of nodes such as 2, or a share",
        ),
        ({"nodes": "n1", "max_unavailable": "101%"}, Misconfigured, "or a share of them such as '5%'"),
        ({"nodes": "n1", "per_group": {"rack": 1}}, Misconfigured, "no kind of group is called 'rack'"),
        ({"nodes": "n1", "per_group": {"partition": "few"}}, Misconfigured, "per_group.partition: .*a number of nodes"),
        ({"nodes": "n1", "window": "tonight"}, Misconfigured, "'tonight' is no window: write it like"),
        ({"nodes": "n1", "order": "random"}, Misconfigured, "order: Input should be 'name', 'idle-first' or 'soonest"),
        ({"nodes": "n1", "on_deadline": "requeue"}, Misconfigured, "says nothing without a deadline"),
        ({"nodes": "n1", "blocker": "'"}, Misconfigured, "No closing quotation"),
        ({"nodes": "n1", "canaries": 1}, Misconfigured, "no 'canaries'"),
    ],
)
async def test_a_bad_spec_is_refused_with_a_sentence(
    room: Room, spec: object, error: type[RefloatError], says: str
) -> None:
    with pytest.raises(error, match=says):
        await room.ask("wave_start", spec=spec)


async def test_a_trigger_word_will_do_for_its_recipe(room: Room) -> None:
    report = await room.ask("wave_start", spec={"nodes": "n1", "recipe": "gpfs-restart"})

    assert report.spec.recipe == "reconfigure"


async def test_no_wave_begins_before_slurm_was_read_or_while_nothing_can_be_saved(ledger: Ledger) -> None:
    room = Room(ledger)
    with pytest.raises(Transient, match="has not been read"):
        await room.ask("wave_start", spec={"nodes": "n1"})
    await room.opened()
    room.run.loop.trouble = "the disk is full"
    with pytest.raises(Transient, match="the disk is full"):
        await room.ask("wave_start", spec={"nodes": "n1"})


async def test_pause_resume_abort_and_skip(room: Room) -> None:
    wave = (await room.ask("wave_start", spec={"nodes": "n[1-2]"})).id
    assert (await room.ask("wave_pause", id=wave)).state is WaveState.PAUSED
    assert (await room.ask("wave_resume", id=wave)).state is WaveState.RUNNING
    assert (await room.ask("wave_skip", id=wave, nodes="n2")).counts == {Turn.WAITING: 1, Turn.SKIPPED: 1}
    assert (await room.ask("wave_retry", id=wave, nodes=["n2"])).counts == {Turn.WAITING: 2}
    with pytest.raises(Refused, match="holds no node"):
        await room.ask("wave_retry", id=wave)
    with pytest.raises(Misconfigured, match="which nodes"):
        await room.ask("wave_skip", id=wave)
    await room.ask("wave_abort", id=wave)
    await room.run.turn()
    with pytest.raises(Refused, match="has ended: aborted"):
        await room.ask("wave_pause", id=wave)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("wave_show", {}),
        ("wave_show", {"id": "w9"}),
        ("wave_pause", {"id": "w9"}),
        ("why", {"node": 7}),
        ("events", {"limit": 0}),
        ("events", {"since": "yesterday"}),
        ("events", {"kinds": ["rebooot"]}),
        ("events", {"kinds": "reboot"}),
        ("events", {"checks": [7]}),
        ("status", {"nodes": {"n1": 1}}),
    ],
)
async def test_bad_questions_are_refused(room: Room, command: str, arguments: dict[str, Any]) -> None:
    with pytest.raises((Refused, Misconfigured)):
        await room.ask(command, **arguments)


async def test_status_is_in_the_order_that_people_count_in(room: Room) -> None:
    rows = await room.ask("status")

    assert [row["node"] for row in rows] == ["n1", "n2", "n10"]
    assert all(row["online"] and row["slurm"].flags == ("IDLE",) for row in rows)
    assert [row["node"] for row in await room.ask("status", nodes="n2")] == ["n2"]


async def test_watching_ends_with_the_wave(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    # Time is the turns' alone: a watcher that moved it while the disk is written would keep the waves at rest.
    monkeypatch.setattr(room.cluster.clock, "sleep", lambda _seconds: asyncio.sleep(0.001))
    wave = (await room.ask("wave_start", spec={"nodes": "n[1-2]"})).id

    async def live() -> None:
        for _ in range(60):
            await room.run.turn()

    living = asyncio.create_task(live())
    states = [shown["report"].state async for shown in room.desk.wave_watch({"id": wave})]
    await living

    assert states[-1] is WaveState.DONE
    assert len(states) > 3


async def test_events_are_listed_and_followed(room: Room) -> None:
    following = room.desk.events_follow({"nodes": "coordinator"})
    first = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    await room.ask("wave_start", spec={"nodes": "n1"})
    await room.run.turn()
    followed = await first
    await following.aclose()  # type: ignore[attr-defined]

    assert followed in await room.ask("events", nodes="coordinator")
    assert await room.ask("events", since=room.cluster.clock.time + 99) == []


async def test_events_are_asked_for_by_kind_check_and_wave(room: Room, ledger: Ledger) -> None:
    failed = event("e1", "n1", EventKind.CHECK_FAILED, wave="").model_copy(update={"check": "mounts"})
    await ledger.record([failed, event("e2", "n1", EventKind.HOLD, wave="w7"), event("e3", "n2", EventKind.REBOOT)])

    async def found(**asked: Any) -> list[str]:
        return [told.id for told in await room.ask("events", **asked)]

    assert await found(kinds=["check-failed", "HOLD"]) == ["e1", "e2"]
    assert await found(checks=["mounts"]) == ["e1"]
    assert await found(waves=["w7"], nodes="n[1-2]") == ["e2"]
    assert await found(kinds=["reboot"], nodes="n1") == []
    with pytest.raises(Misconfigured, match=r"no event is a 'rebooot'; did you mean reboot\? \(known: agent_started, "):
        await found(kinds=["rebooot"])


async def test_only_what_fits_is_followed(room: Room, ledger: Ledger) -> None:
    following = room.desk.events_follow({"kinds": ["wave_started"], "waves": ["w7"]})
    first = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    for told in (
        event("e1", kind=EventKind.WAVE_STARTED, wave="w1"),
        event("e2", kind=EventKind.WAVE_STARTED, wave="w7"),
    ):
        room.run.loop._announce([told])

    assert (await first).id == "e2"
    await following.aclose()  # type: ignore[attr-defined]


async def test_why_names_the_wave_and_what_it_waits_for(room: Room) -> None:
    await room.ask("wave_start", spec={"nodes": "n[1-2]"})
    await room.run.turn()
    await room.run.turn()
    answer = await room.ask("why", node="n2")

    assert answer["sentence"].startswith("n2 is waiting in wave w")
    assert "budget wave" in answer["sentence"]
    assert answer["lines"][0] == "Slurm: IDLE"


def test_why_for_all_that_can_be() -> None:
    from unit.coordinator.world import fleet_of, will  # noqa: PLC0415 - only here

    from refloat_coordinator.operators.explain import explain  # noqa: PLC0415 - only here

    def sentence(fleet: Fleet, name: str = "n1") -> str:
        return str(explain(name, fleet, {}, [], [event()])["sentence"])

    held = fleet_of(view(), Heard(status(phase=Phase.HELD, why="it cannot mount")))
    assert explain("n1", held, {}, [], [])["held"] == "it cannot mount"
    draining = Heard(status(phase=Phase.DRAINING, why="job 7 of alice runs"))
    assert explain("n1", fleet_of(view(), draining), {}, [], [])["held"] == ""
    assert sentence(fleet_of(view(), draining)) == "n1 is in phase DRAINING: job 7 of alice runs"
    assert sentence(fleet_of(view(), draining, will())).startswith("n1 is in phase DRAINING when its agent was last")
    assert sentence(fleet_of(view("n1", "DOWN", "bad DIMM"))) == "n1 is out: down: bad DIMM"
    assert sentence(fleet_of(view(), status())) == "n1 is in service"
    denied = status(verdict=Verdict.UNHEALTHY, why="unhealthy (refloat: x: y); permit: incident b1: x began to fail")
    assert sentence(fleet_of(view(), denied)) == f"n1 is in service still: {denied.report.why if denied.report else ''}"
    off = fleet_of(view("n1", "IDLE+CLOUD+POWERED_DOWN"))
    assert sentence(off).startswith("n1 is switched off by Slurm's power saving")
    assert sentence(Fleet()).startswith("nothing is known of n1")
    assert wave_over("n1").nodes == {"n1"}


async def test_a_plan_shows_batches_what_stands_in_the_way_and_what_it_costs(room: Room) -> None:
    room.cluster.agents["n1"].flags, room.cluster.agents["n1"].reason = frozenset({"IDLE", "DRAIN"}), "bad DIMM"
    room.cluster.run_job("7", "n2", room.cluster.clock.now() + 1800)
    await room.run.turn()
    spec = {"nodes": "*", "reason": "new kernel", "deadline_s": 60}
    stuck = await room.ask("wave_plan", spec=spec)
    plan = await room.ask("wave_plan", spec=spec | {"max_unavailable": 2})

    assert plan["reason"] == "reboot wave=plan (new kernel)"
    assert plan["blocks"] == [{"turn": "skipped", "why": "drained: bad DIMM", "nodes": "n1", "count": 1}]
    assert (stuck["batches"], stuck["estimate"]["left"]) == ([], "n[2,10]")
    assert stuck["estimate"]["stuck"] == "budget wave plan: 1 of 1 out: n1 (drained: bad DIMM)"
    assert [batch["nodes"] for batch in plan["batches"]] == ["n[2,10]"]
    assert plan["estimate"]["overdue"] == "n2"
    assert "a node is taken to be out for 10m00s: no cycle of recipe reboot is in the record" in plan["notes"]
    assert any("these nodes are held then, and stay drained" in note for note in plan["notes"])


async def test_a_plan_takes_how_long_nodes_were_out_from_the_record(room: Room, ledger: Ledger) -> None:
    entered = event("a", "n1", EventKind.PHASE_ENTERED, at_ns=10**18)
    await ledger.record([entered, event("b", "n1", EventKind.RESUMED, at_ns=10**18 + 120 * 10**9)])
    plan = await room.ask("wave_plan", spec={"nodes": "n[1-2]"})

    assert (plan["estimate"]["out_s"], plan["estimate"]["duration_s"]) == (120, 240)
    assert plan["notes"][0] == "a node is out for 2m00s: the median of the last 1 cycles of recipe reboot"


async def test_a_plan_of_nodes_that_another_wave_has_says_so(room: Room) -> None:
    report = await room.ask("wave_start", spec={"nodes": "n[1-2]"})
    plan = await room.ask("wave_plan", spec={"nodes": "n[2,10]"})

    assert plan["conflict"] == f"wave {report.id} is about n2 already: wait for its end, or abort it"


async def test_a_plan_asks_the_blocker(room: Room) -> None:
    blocked = await room.ask("wave_plan", spec={"nodes": "n1", "blocker": "/bin/sh -c 'echo backup; exit 1'"})
    free = await room.ask("wave_plan", spec={"nodes": "n1", "blocker": "/bin/true"})

    assert blocked["blocker"] == "blocked by sh: backup"
    assert (free["blocker"], free["first"]) == ("lets 1 nodes go", "n1")


ALICE = Peer(1 << 30, 987654321, frozenset())


@contextlib.contextmanager
def called_by(peer: Peer, *, may_act: bool) -> Iterator[None]:
    token = CALLER.set(Caller(peer, may_act))
    try:
        yield
    finally:
        CALLER.reset(token)


async def test_only_root_may_name_any_blocker(room: Room, ledger: Ledger) -> None:
    spec = {"nodes": "n1", "blocker": "/bin/true --now"}
    listed = Desk(room.run.loop, ledger, room.cluster.clock, room.cluster, ["/bin/true --now"])
    with called_by(ALICE, may_act=True):
        with pytest.raises(Refused, match="is not one that operators may name"):
            await room.ask("wave_start", spec=spec)
        with pytest.raises(Refused, match="is not one that operators may name"):
            await room.ask("wave_plan", spec=spec)
        report = await listed.wave_start({"spec": spec})

    assert report.spec.blocker == "/bin/true --now"


async def test_a_plan_of_somebody_who_may_only_read_runs_no_command(room: Room, ledger: Ledger, tmp_path: Path) -> None:
    command = f"/usr/bin/touch {tmp_path}/ran"
    listed = Desk(room.run.loop, ledger, room.cluster.clock, room.cluster, [command])
    with called_by(ALICE, may_act=False):
        plan = await listed.wave_plan({"spec": {"nodes": "n1", "blocker": command}})

    assert plan["blocker"] == "not asked: you may only read here"
    assert not (tmp_path / "ran").exists()


async def test_who_asked_for_what_is_in_the_record(room: Room) -> None:
    with called_by(ALICE, may_act=True):
        report = await room.ask("wave_start", spec={"nodes": "n[1-2]"})
        await room.run.turn()
        paused = await room.ask("wave_pause", id=report.id)
        await room.ask("wave_resume", id=report.id)
        await room.ask("wave_skip", id=report.id, nodes="n2")
        await room.ask("wave_retry", id=report.id, nodes="n2")
        await room.ask("wave_abort", id=report.id)
        await room.ask("wave_abort", id=report.id)  # twice is once
    told = await room.ask("events")

    assert (report.by, paused.why) == ("uid 987654321", "paused by uid 987654321")
    of_operators = [(event.kind, event.operator) for event in told if event.operator]
    assert of_operators == [
        (kind, "uid 987654321")
        for kind in (
            EventKind.WAVE_STARTED,
            EventKind.WAVE_PAUSED,
            EventKind.WAVE_RESUMED,
            EventKind.NODES_SKIPPED,
            EventKind.NODES_RETRIED,
            EventKind.WAVE_ABORTED,
        )
    ]
    assert next(e.message for e in told if e.kind is EventKind.NODES_SKIPPED).endswith(
        "n2 taken out of the wave, by uid 987654321"
    )


async def test_groups_and_patterns_are_hostlists(room: Room) -> None:
    racks = Groups({"rack": {"r1": frozenset({"n1", "n2"})}})
    room.run.loop.budget = replace(room.run.loop.budget, groups=racks)

    assert await room.ask("expand", nodes="@rack:r1") == ["n1", "n2"]
    assert await room.ask("expand", nodes="*!@r1") == ["n10"]
    report = await room.ask("wave_start", spec={"nodes": "@rack:r1", "per_group": {"rack": 1}})
    assert report.counts == {Turn.WAITING: 2}


async def test_nodes_that_are_alike_are_told_together(room: Room) -> None:
    room.cluster.agents["n2"].flags, room.cluster.agents["n2"].reason = frozenset({"IDLE", "DRAIN"}), "bad DIMM"
    await room.run.turn()
    alike, other = await room.ask("summary")

    assert (alike["nodes"], alike["count"], alike["slurm"]) == ("n[1,10]", 2, "in use or idle")
    assert (other["nodes"], other["slurm"], other["why"]) == ("n2", "DRAIN", "bad DIMM")
    assert {one["phase"] for one in (alike, other)} == {Phase.IN_SERVICE}


async def test_canaries_are_taken_from_the_nodes_that_are_free_soonest(room: Room) -> None:
    now = room.cluster.clock.now()
    room.cluster.run_job("7", "n1", now + 7200)
    room.cluster.run_job("8", "n2", now + 60)
    await room.run.turn()
    spec = {"nodes": "n[1-2]", "canary": 1, "order": "soonest-free"}
    report = await room.ask("wave_start", spec=spec)
    shown = await room.ask("wave_show", id=report.id)

    assert [node.node for node in shown["nodes"]] == ["n2", "n1"]
