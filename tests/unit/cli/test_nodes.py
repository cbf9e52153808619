# SPDX-License-Identifier: Apache-2.0
import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon, Refloat

from refloat_cli import asking, following
from refloat_cli.ways import SocketWay
from refloat_contract.messages import Event, Failure, NodeReport, SlurmView
from refloat_contract.words import EventKind, Phase, Verdict
from refloat_service.control import Handler


def a_node(
    name: str, phase: Phase = Phase.IN_SERVICE, verdict: Verdict = Verdict.HEALTHY, **more: Any
) -> dict[str, Any]:
    report = NodeReport(at=0, boot_id="b", phase=phase, since=1, verdict=verdict, why=more.pop("why", ""), **more)
    slurm = SlurmView(node=name, epoch=1, seq=1, flags=("IDLE", "DRAIN"), reason="a reason")
    return {"node": name, "online": True, "report": report, "slurm": slurm}


def answers(answer: Any) -> Handler:
    async def handle(arguments: dict[str, Any]) -> Any:
        return answer(arguments) if callable(answer) else answer

    return handle


GOOD = a_node("n1")
HELD = a_node("n2", Phase.HELD, why="[x] is not mounted")
SICK = a_node("n3", verdict=Verdict.UNHEALTHY, failing=(Failure(check="scratch", message="not mounted"),))
AWAY = {**a_node("n4"), "online": False, "slurm": SlurmView(node="n4", epoch=1, seq=1, flags=("IDLE",), reason="old")}
NEVER = {"node": "n5", "online": False, "report": None, "slurm": None}


def test_status_has_a_line_for_each_node(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("status", "--socket", daemon({"status": answers([GOOD, HELD, SICK, AWAY, NEVER])}).path)

    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in ended.out.splitlines() if " n" in line[:2]}
    assert lines["n1"] == "IDLE+DRAIN IN_SERVICE HEALTHY a reason"
    assert lines["n2"].startswith("IDLE+DRAIN HELD ")
    assert lines["n2"].endswith("HEALTHY [x] is not mounted")
    assert lines["n3"] == "IDLE+DRAIN IN_SERVICE UNHEALTHY scratch: not mounted"
    assert lines["n4"] == "IDLE IN_SERVICE, away HEALTHY"
    assert lines["n5"] == "unknown no agent"
    assert ended.out.endswith("5 nodes: 2 without agent, 1 in service, 1 held, 1 unhealthy\n")


@pytest.mark.parametrize(
    ("found", "named", "status"),
    [
        ([GOOD], False, 0),
        ([GOOD, HELD], False, 1),
        ([SICK], True, 1),
        ([GOOD, AWAY], False, 0),
        ([GOOD, AWAY], True, 3),
        ([NEVER], True, 3),
        ([], False, 0),
    ],
)
def test_the_exit_status_of_status(
    found: list[dict[str, Any]],
    named: bool,  # noqa: FBT001 - a parameter of the test
    status: int,
    refloat: Refloat,
    daemon: Daemon,
) -> None:
    socket = daemon({"status": answers(found)}).path

    assert refloat("status", *(["n[1-9]"] if named else []), "--socket", socket).status == status


def test_the_nodes_that_are_named_are_asked_for(refloat: Refloat, daemon: Daemon) -> None:
    socket = daemon({"status": answers(lambda asked: [{**GOOD, "node": asked["nodes"]}])}).path

    assert json.loads(refloat("status", "n[1-2]", "--json", "--socket", socket).out)[0]["node"] == "n[1-2]"


def test_an_agent_tells_of_its_node_and_its_checks(refloat: Refloat, daemon: Daemon) -> None:
    check = {"check": "scratch", "status": "FAILED", "message": "[not] mounted", "at_s": 1.0, "duration_s": 0.002}
    answer = {"node": "n1", "report": SICK["report"], "slurm": SICK["slurm"], "permit": None, "checks": [check]}

    ended = refloat("status", "--socket", daemon({"status": answers(answer)}).path)

    assert ended.status == 1
    assert "1 node: 1 unhealthy" in ended.out
    assert "scratch   FAILED   2 ms   [not] mounted" in ended.out


def test_an_agent_tells_what_wakes_its_checks_and_what_it_costs(refloat: Refloat, daemon: Daemon) -> None:
    counts = {"events": 4711, "looks": 12, "coalesced": 4699, "dropped": 3}
    mounts = {"name": "mounts", "open": True, "why": "", "watched": 2, "left_out": {}, **counts}
    pressure = {**mounts, "name": "pressure", "open": False, "why": "No such file or directory"}
    costs = {"rss_bytes": 40 << 20, "cpu_percent": 0.05, "wakeups_per_s": 0.4, "rates_over_s": 300.0}
    answer = {
        "node": "n1",
        "report": GOOD["report"],
        "slurm": GOOD["slurm"],
        "permit": None,
        "checks": [],
        "events": [mounts, pressure],
        "counters": costs,
        "helpers": {"helpers": 3, "abandoned": 1},
    }

    ended = refloat("status", "--socket", daemon({"status": answers(answer)}).path)

    assert ended.status == 0
    assert "mounts      watched   4711   12      4699        3" in ended.out
    assert "pressure    missing" in ended.out
    assert "No such file or directory" in ended.out
    assert "agent: 40 MB, 0.05 % of a core, 0.4 wake-ups/s (over 5 min), 3 helpers, 1 of them" in ended.out


def test_on_a_compute_node_the_agent_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "AGENT", tmp_path / "agent.sock")
    monkeypatch.setattr(asking, "COORDINATOR", tmp_path / "coordinator.sock")
    assert asking.either(None, None) == SocketWay(asking.COORDINATOR)

    (tmp_path / "agent.sock").touch()
    assert asking.either(None, None) == SocketWay(asking.AGENT)

    (tmp_path / "coordinator.sock").touch()
    assert asking.either(None, None) == SocketWay(asking.COORDINATOR)


def test_why_says_what_to_do_about_a_hold(refloat: Refloat, daemon: Daemon) -> None:
    held = {"n1": "unmount /scratch busy: pid 991 python uid 1000", "n2": "ask alice", "n3": ""}
    why = answers(lambda asked: {"sentence": f"{asked['node']} is", "lines": [], "held": held[asked["node"]]})
    socket = daemon({"why": why}).path

    assert "What to do: On the node: `ps -o" in refloat("why", "n1", "--socket", socket).out
    assert refloat("why", "n2", "--socket", socket).out == "n2 is\n"
    assert refloat("why", "n3", "--socket", socket).out == "n3 is\n"


def test_why_says_its_sentence_and_what_it_is_drawn_from(refloat: Refloat, daemon: Daemon) -> None:
    answer = {"sentence": "n1 waits for [a] permit", "lines": ["Slurm: IDLE+DRAIN", "agent: online"]}
    socket = daemon({"why": answers(lambda asked: {**answer, "node": asked["node"]})}).path

    assert (
        refloat("why", "n1", "--socket", socket).out
        == "n1 waits for [a] permit\n  Slurm: IDLE+DRAIN\n  agent: online\n"
    )
    assert json.loads(refloat("why", "n1", "--socket", socket, "--json").out) == {**answer, "node": "n1"}


def an_event(name: str) -> Event:
    return Event(id=name, node="n1", at_ns=10**18, kind=EventKind.HOLD, title="Held", message="[why]", duration_s=65)


def test_events_are_listed_with_what_was_asked(refloat: Refloat, daemon: Daemon) -> None:
    asked: list[dict[str, Any]] = []

    async def handle(arguments: dict[str, Any]) -> list[Event]:
        asked.append(arguments)
        return [an_event("e1")]

    socket = daemon({"events": handle}).path

    ended = refloat("events", "n1", "--since", "2001-09-09", "--limit", "5", "--socket", socket)

    assert asked == [{"nodes": "n1", "limit": 5, "since": 999993600.0}]
    assert "2001-09-09 01:46:40   n1     hold   Held: [why] (1m05s)" in ended.out


def test_what_is_asked_for_is_also_what_is_followed(refloat: Refloat, daemon: Daemon) -> None:
    asked: list[dict[str, Any]] = []

    async def handle(arguments: dict[str, Any]) -> list[Event]:
        asked.append(arguments)
        return []

    async def follow(arguments: dict[str, Any]) -> AsyncIterator[Event]:
        asked.append(arguments)
        yield an_event("e1")

    socket = daemon({"events": handle, "events_follow": follow}).path
    only = ("--kind", "hold", "--kind", "reboot", "--check", "mounts", "--wave", "w1")
    refloat("events", "n[1-2]", *only, "--since", "2h", "--follow", "--socket", socket)
    fits = {"nodes": "n[1-2]", "kinds": ["hold", "reboot"], "checks": ["mounts"], "waves": ["w1"]}

    assert fits in asked
    assert [given for given in asked if "limit" in given and given.items() >= fits.items() and "since" in given]


def test_what_has_not_happened_yet_is_not_asked_for(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("events", "--since", "2999-01-01", "--socket", daemon({}).path)

    assert ended.status == 2
    assert "lies in the future" in ended.err


def test_following_tells_the_past_and_then_the_new_without_repeating(refloat: Refloat, daemon: Daemon) -> None:
    async def follow(_: dict[str, Any]) -> AsyncIterator[Event]:
        for name in ("e2", "e3"):
            yield an_event(name)

    past = [an_event("e1"), an_event("e2")]
    socket = daemon({"events": answers(past), "events_follow": follow}).path

    ended = refloat("events", "--follow", "--json", "--socket", socket)

    assert [json.loads(line)["id"] for line in ended.out.splitlines()] == ["e1", "e2", "e3"]


def test_following_listens_before_it_asks_for_the_past(daemon: Daemon) -> None:
    listens = asyncio.Event()
    order: list[str] = []

    async def follow(_: dict[str, Any]) -> AsyncIterator[Event]:
        order.append("follow")
        listens.set()
        yield an_event("new")

    async def events(_: dict[str, Any]) -> list[Event]:
        await asyncio.wait_for(listens.wait(), 5)
        order.append("events")
        return []

    socket = daemon({"events": events, "events_follow": follow}).path

    async def told() -> list[str]:
        return [event["id"] async for event in following.events(socket, {})]

    assert asyncio.run(told()) == ["new"]
    assert order == ["follow", "events"]


ALIKE = {"verdict": "HEALTHY", "slurm": "in use or idle", "image": "compute-2", "agent": "online", "why": ""}
SUMMARY = [
    {**ALIKE, "phase": "IN_SERVICE", "count": 998, "nodes": "n[1-998]"},
    {**ALIKE, "phase": "REBOOTING", "count": 1, "nodes": "n999", "slurm": "DOWN+DRAIN", "agent": "away"},
    {**ALIKE, "phase": "", "verdict": "", "image": "", "agent": "none", "count": 1, "nodes": "n1000"},
]
HELD_ONE = {**ALIKE, "phase": "HELD", "count": 1, "nodes": "n7", "why": "no link"}


def test_status_without_nodes_shows_those_that_are_alike_in_one_line(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("status", "--socket", daemon({"summary": answers(SUMMARY)}).path)

    lines = [line.split() for line in ended.out.splitlines()]
    assert any(line[:3] == ["998", "IN_SERVICE", "HEALTHY"] and line[-1] == "n[1-998]" for line in lines)
    assert any(line[:3] == ["1", "REBOOTING,", "away"] for line in lines)
    assert any(line[:3] == ["1", "no", "agent"] for line in lines)
    assert ended.out.endswith("1000 nodes; refloat status --long shows each\n")
    assert ended.status == 0


def test_status_with_a_held_node_among_many_is_1(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("status", "--socket", daemon({"summary": answers([*SUMMARY, HELD_ONE])}).path)

    assert (ended.status, "no link" in ended.out) == (1, True)


def test_status_long_has_a_line_for_each_node(refloat: Refloat, daemon: Daemon) -> None:
    socket = daemon({"summary": answers(SUMMARY), "status": answers([GOOD, HELD])}).path
    long, asked_json = refloat("status", "--long", "--socket", socket), refloat("status", "--json", "--socket", socket)

    assert (long.status, "held" in long.out) == (1, True)
    assert len(json.loads(asked_json.out)) == 2
