# SPDX-License-Identifier: Apache-2.0
"""`refloat cycle`: what an agent would do, for people and programs; and what is written to Slurm by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon, Refloat

from refloat_cli import ordering, whoami
from refloat_contract.messages import CycleInfo, Event, NodeReport
from refloat_contract.words import EventKind, Phase
from refloat_slurm.gateway import Change
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld

PLAN = {
    "node": "n1",
    "recipe": "reboot",
    "trigger": "reboot",
    "waits": ["job 4711 of alice is RUNNING on the node"],
    "steps": [
        {"number": 1, "step": "unmount", "does": ["a: umount /a", "b: umount /b"], "limits": "600 s, 5 attempts"},
        {"number": 2, "step": "reboot", "does": ["systemctl reboot"], "limits": "900 s, 5 attempts"},
    ],
}


async def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    return {**PLAN, "recipe": asked["recipe"]}


def test_a_plan_says_what_it_waits_for_and_then_each_step(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("cycle", "plan", "--socket", daemon({"plan": _answer}).path)

    assert ended.status == 0
    assert ended.out.splitlines() == [
        "n1: recipe reboot, asked for by reason=reboot",
        "",
        "waits for  job 4711 of alice is RUNNING on the node",
        "",
        " 1 unmount  a: umount /a",
        "            b: umount /b",
        "            (600 s, 5 attempts)",
        " 2 reboot   systemctl reboot",
        "            (900 s, 5 attempts)",
    ]


def test_the_recipe_that_is_named_is_asked_for(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("cycle", "plan", "--recipe", "firmware", "--json", "--socket", daemon({"plan": _answer}).path)

    assert json.loads(ended.out)["recipe"] == "firmware"


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> SimulatedSlurmctld:
    """Six nodes, and a command line that reaches them as root, run by alice."""
    slurmctld = SimulatedSlurmctld([f"n{number}" for number in range(1, 7)], now=1000.0)

    async def gateway(_: str) -> SimulatedGateway:
        return SimulatedGateway(slurmctld)

    monkeypatch.setattr(ordering, "open_gateway", gateway)
    monkeypatch.setattr(ordering, "_CONFIGS", ())
    monkeypatch.setattr(whoami, "name", lambda: "alice")
    for number in range(1, 7):
        slurmctld.register(f"n{number}", 900.0)
    return slurmctld


def shown(slurm: SimulatedSlurmctld, node: str) -> tuple[bool, str]:
    view = slurm.view(node)
    return "DRAIN" in view.flags, view.reason


def test_a_cycle_is_asked_for_with_who_asks_and_why(refloat: Refloat, slurm: SimulatedSlurmctld) -> None:
    ended = refloat("cycle", "start", "n[1-2]", "--image", "compute-2", "--because", "new kernel=6.1 was: x")

    reason = "reboot image=compute-2 (alice: new kernel 6.1 x)"
    assert ended.status == 0
    assert ended.out.splitlines() == [f"n{n}: done: reason={reason!r}" for n in (1, 2)]
    assert shown(slurm, "n1") == shown(slurm, "n2") == (True, reason)
    assert shown(slurm, "n3") == (False, "")


def test_nodes_that_are_not_free_are_named_and_left_alone(refloat: Refloat, slurm: SimulatedSlurmctld) -> None:
    stands = {
        "n1": "bad dimm",
        "n2": "rebooting refloat=c1 boot=aaaaaaaa",
        "n3": "refloat-hold: it failed refloat=c2",
        "n4": "refloat: labd: gone",
    }
    for node, reason in stands.items():
        slurm.update(node, Change.DRAIN, reason, "bob")

    ended = refloat("cycle", "start", "n[1-5,9]", "--json")

    told = {one["node"]: (one["outcome"], one["told"]) for one in json.loads(ended.out)}
    assert ended.status == 1
    assert told["n1"] == ("refused", "IDLE+DRAIN by bob: bad dimm (--over-drain?)")
    assert told["n2"] == ("refused", "it is in a cycle already: rebooting refloat=c1 boot=aaaaaaaa")
    assert told["n3"] == ("refused", "it is held (it failed): refloat cycle retry, or release")
    assert told["n4"][0] == told["n5"][0] == "done"
    assert told["n9"] == ("refused", "Slurm has no such node")
    assert all(shown(slurm, node) == (True, stands[node]) for node in ("n1", "n2", "n3"))


def test_a_drain_that_is_cycled_over_stands_in_the_trigger(refloat: Refloat, slurm: SimulatedSlurmctld) -> None:
    slurm.update("n1", Change.DRAIN, "bad dimm", "bob")

    assert refloat("cycle", "start", "n1", "--over-drain").status == 0
    assert shown(slurm, "n1") == (True, "reboot (alice) was: bad dimm")
    assert refloat("cycle", "cancel", "n1").status == 0
    assert shown(slurm, "n1") == (True, "refloat-release: cancelled by alice refloat=- was: bad dimm")


def test_a_dry_run_writes_nothing(refloat: Refloat, slurm: SimulatedSlurmctld) -> None:
    ended = refloat("cycle", "start", "n1", "--dry-run")

    assert (ended.status, ended.out) == (0, "n1: would: would write state=DRAIN reason='reboot (alice)'\n")
    assert shown(slurm, "n1") == (False, "")


def test_groups_are_the_coordinators_to_know(
    refloat: Refloat, slurm: SimulatedSlurmctld, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def expand(asked: dict[str, Any]) -> list[str]:
        return {"@rack:r1": ["n1", "n2"]}[asked["nodes"]]

    monkeypatch.setenv("REFLOAT_COORDINATOR_SOCKET", str(daemon({"expand": expand}).path))
    ended = refloat("cycle", "start", "@rack:r1", "--dry-run")

    assert ended.status == 0
    assert [line.split(":")[0] for line in ended.out.splitlines()] == ["n1", "n2"]


def test_a_running_cycle_is_cancelled_and_a_held_one_released(refloat: Refloat, slurm: SimulatedSlurmctld) -> None:
    slurm.update("n1", Change.DRAIN, "rebooting refloat=c1 boot=aaaaaaaa was: bad dimm")
    slurm.update("n2", Change.DRAIN, "refloat-hold: it failed refloat=c2 was: bad fan")

    assert refloat("cycle", "release", "n1").status == 1
    assert refloat("cycle", "cancel", "n2").status == 1
    assert refloat("cycle", "cancel", "n1", "--because", "wrong node").status == 0
    assert refloat("cycle", "release", "n2").status == 0
    assert shown(slurm, "n1")[1] == "refloat-release: cancelled by alice: wrong node refloat=c1 was: bad dimm"
    assert shown(slurm, "n2")[1] == "refloat-release: released by alice refloat=c2 was: bad fan"
    assert refloat("cycle", "cancel", "n1").status == 0
    assert "is in no cycle (IDLE)" in refloat("cycle", "cancel", "n3").out


def test_a_held_cycle_is_asked_for_anew_as_the_record_knows_it(
    refloat: Refloat, daemon: Daemon, slurm: SimulatedSlurmctld
) -> None:
    slurm.update("n1", Change.DRAIN, "refloat-hold: it failed refloat=c1 was: bad dimm")
    guessed = CycleInfo(id="c1", recipe="reboot", image="compute-2")
    report = NodeReport(at=0, boot_id="b", phase=Phase.HELD, since=1, cycle=guessed)
    event = Event(
        id="e1",
        node="n1",
        at_ns=1,
        kind=EventKind.HOLD,
        title="",
        message="",
        cycle="c1",
        recipe="reconfigure",
        wave="w1",
    )

    async def status(_: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"node": "n1", "online": True, "report": report, "slurm": None}]

    async def events(_: dict[str, Any]) -> list[Event]:
        return [event]

    ended = refloat("cycle", "retry", "n1", "--socket", daemon({"status": status, "events": events}).path)

    assert ended.status == 0
    assert shown(slurm, "n1") == (True, "gpfs-restart image=compute-2 wave=w1 (alice) was: bad dimm")


def test_a_held_cycle_that_nobody_knows_is_not_guessed(
    refloat: Refloat, slurm: SimulatedSlurmctld, tmp_path: Path
) -> None:
    slurm.update("n1", Change.DRAIN, "refloat-hold: it failed refloat=c1")

    ended = refloat("cycle", "retry", "n1", "--socket", tmp_path / "nobody.sock")

    assert (ended.status, "say --recipe" in ended.out) == (1, True)
    assert refloat("cycle", "retry", "n1", "--recipe", "reboot").status == 0
    assert shown(slurm, "n1")[1] == "reboot (alice)"


def test_an_unknown_recipe_is_wrong_usage(refloat: Refloat, slurm: SimulatedSlurmctld) -> None:
    ended = refloat("cycle", "start", "n1", "--recipe", "flash")

    assert (ended.status, "known recipes: reboot, reconfigure" in ended.err) == (2, True)


def test_a_slurmctld_that_does_not_answer_is_told(refloat: Refloat, slurm: SimulatedSlurmctld) -> None:
    slurm.stop()

    assert refloat("cycle", "start", "n1").status == 3


def test_a_host_without_slurm_says_so(refloat: Refloat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    ended = refloat("cycle", "start", "n1")

    assert (ended.status, "this host has no scontrol" in ended.err) == (3, True)
