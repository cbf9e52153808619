# SPDX-License-Identifier: Apache-2.0
"""The simulated slurmctld follows the rules that were measured on real ones."""

import asyncio
from dataclasses import replace

import pytest

from refloat_contract.errors import Refused, Transient, UnknownNode
from refloat_slurm.gateway import Change
from refloat_slurm.simulated import Rules, SimulatedSlurmctld, run

START = 1000.0
RULES = Rules(slurmd_timeout_s=30, not_responding_s=20)
OLD_RELEASE = replace(RULES, keeps_stale_reasons=False, appends_not_responding=False)


def cluster(rules: Rules = RULES, nodes: int = 2) -> SimulatedSlurmctld:
    return SimulatedSlurmctld([f"n{number}" for number in range(1, nodes + 1)], rules=rules, now=START)


def pass_time(slurmctld: SimulatedSlurmctld, seconds: float) -> None:
    slurmctld.tick(slurmctld.now + seconds)


def reboot(slurmctld: SimulatedSlurmctld, name: str = "n1", seconds: float = 10) -> None:
    slurmctld.node_down(name)
    pass_time(slurmctld, seconds)
    slurmctld.register(name, slurmctld.now - 3, slurmctld.now)


def state(slurmctld: SimulatedSlurmctld, name: str = "n1") -> str:
    flags = slurmctld.view(name).flags
    base = next(iter(flags & {"IDLE", "DOWN", "MIXED", "ALLOCATED", "UNKNOWN"}))
    return "+".join([base, *sorted(flags - {base})])


@pytest.mark.parametrize("return_to_service", [0, 1, 2])
@pytest.mark.parametrize(
    ("changes", "held", "returning"),
    [
        ((), "DOWN", "IDLE"),
        ((Change.DRAIN,), "IDLE+DRAIN", "IDLE+DRAIN"),
        ((Change.DOWN,), "DOWN", "IDLE"),
        ((Change.DRAIN, Change.DOWN), "DOWN+DRAIN", "IDLE+DRAIN"),
    ],
)
def test_what_a_node_is_after_a_reboot(
    changes: tuple[Change, ...], held: str, returning: str, return_to_service: int
) -> None:
    slurmctld = cluster(replace(RULES, return_to_service=return_to_service))
    for change in changes:
        slurmctld.update("n1", change, "mine")

    reboot(slurmctld)

    assert state(slurmctld) == (returning if return_to_service == 2 else held)
    unasked = "" if return_to_service == 2 else "Node unexpectedly rebooted"
    assert slurmctld.view("n1").reason == ("mine" if changes else unasked)


def test_resume_after_the_boot_returns_the_node_once_it_answers() -> None:
    slurmctld = cluster()
    slurmctld.update("n1", Change.DRAIN, "reboot")
    slurmctld.update("n1", Change.DOWN, "rebooting")
    reboot(slurmctld)
    slurmctld.update("n1", Change.RESUME)

    view = slurmctld.view("n1")
    assert view.flags == {"IDLE", "NOT_RESPONDING"}
    assert view.registration is not None
    assert view.registration.boot_time == 0
    pass_time(slurmctld, 1)
    view = slurmctld.view("n1")
    assert view.flags == {"IDLE"}
    assert view.registration is not None
    assert view.registration.boot_time == 1007


@pytest.mark.parametrize(("rules", "reason"), [(RULES, "rebooting"), (OLD_RELEASE, "Node unexpectedly rebooted")])
def test_resume_before_the_boot_takes_the_node_down_again(rules: Rules, reason: str) -> None:
    slurmctld = cluster(rules)
    slurmctld.update("n1", Change.DOWN, "rebooting")
    slurmctld.node_down("n1")
    pass_time(slurmctld, 2)
    slurmctld.update("n1", Change.RESUME)
    pass_time(slurmctld, 6)
    assert state(slurmctld) == "IDLE+NOT_RESPONDING"
    slurmctld.register("n1", slurmctld.now - 2, slurmctld.now)

    assert state(slurmctld) == "DOWN"
    assert slurmctld.view("n1").reason == reason


@pytest.mark.parametrize(("rules", "reason"), [(RULES, "reboot"), (OLD_RELEASE, "")])
def test_a_reason_may_outlive_the_resume(rules: Rules, reason: str) -> None:
    slurmctld = cluster(rules)
    slurmctld.update("n1", Change.DRAIN, "reboot")
    slurmctld.update("n1", Change.RESUME)

    assert slurmctld.view("n1").reason == reason


@pytest.mark.parametrize(
    ("change", "rules", "expected", "reason", "user"),
    [
        (None, RULES, "DOWN+NOT_RESPONDING", "Not responding", "slurm"),
        (Change.DRAIN, RULES, "DOWN+DRAIN+NOT_RESPONDING", "mine : Not responding", "slurm"),
        (Change.DRAIN, OLD_RELEASE, "DOWN+DRAIN+NOT_RESPONDING", "mine", "root"),
        (Change.DOWN, RULES, "DOWN+NOT_RESPONDING", "mine", "root"),
    ],
)
def test_what_silence_leads_to(change: Change | None, rules: Rules, expected: str, reason: str, user: str) -> None:
    slurmctld = cluster(rules)
    if change is not None:
        slurmctld.update("n1", change, "mine")
    slurmctld.slurmd_stopped("n1")
    pass_time(slurmctld, 19)
    assert "NOT_RESPONDING" not in slurmctld.view("n1").flags
    pass_time(slurmctld, 1)
    assert "NOT_RESPONDING" in slurmctld.view("n1").flags
    pass_time(slurmctld, 10)

    view = slurmctld.view("n1")
    assert (state(slurmctld), view.reason, view.reason_user) == (expected, reason, user)


@pytest.mark.parametrize(("return_to_service", "expected"), [(0, "DOWN"), (1, "IDLE"), (2, "IDLE")])
def test_a_silent_node_that_did_not_boot_returns_by_itself(return_to_service: int, expected: str) -> None:
    slurmctld = cluster(replace(RULES, return_to_service=return_to_service))
    slurmctld.slurmd_stopped("n1")
    pass_time(slurmctld, 60)
    slurmctld.register("n1", START, slurmctld.now)

    assert state(slurmctld) == expected


def test_a_stale_reason_prevents_the_return_by_itself() -> None:
    slurmctld = cluster()
    slurmctld.update("n1", Change.DRAIN, "old")
    slurmctld.update("n1", Change.RESUME)
    pass_time(slurmctld, 1)
    slurmctld.slurmd_stopped("n1")
    pass_time(slurmctld, 60)
    slurmctld.register("n1", START, slurmctld.now)

    assert (state(slurmctld), slurmctld.view("n1").reason) == ("DOWN", "old : Not responding")


def test_a_silence_that_ended_has_no_consequences() -> None:
    slurmctld = cluster()
    slurmctld.slurmd_stopped("n1")
    pass_time(slurmctld, 15)
    slurmctld.register("n1", START + 1, slurmctld.now)
    slurmctld.slurmd_stopped("n1")
    pass_time(slurmctld, 15)

    assert state(slurmctld) == "IDLE"


@pytest.mark.parametrize("flags", [(), ("MAINTENANCE", "RESERVED")])
def test_resume_is_refused_where_there_is_nothing_to_resume(flags: tuple[str, ...]) -> None:
    slurmctld = cluster()
    slurmctld.mark("n1", *flags)

    with pytest.raises(Refused, match="Invalid node state"):
        slurmctld.update("n1", Change.RESUME)


def test_undrain_leaves_down_and_never_complains() -> None:
    slurmctld = cluster()
    slurmctld.update("n1", Change.UNDRAIN)
    assert state(slurmctld) == "IDLE"
    slurmctld.update("n1", Change.DRAIN, "a")
    slurmctld.update("n1", Change.DOWN, "b")
    slurmctld.update("n1", Change.UNDRAIN)
    assert state(slurmctld) == "DOWN+NOT_RESPONDING"
    pass_time(slurmctld, 1)

    assert (state(slurmctld), slurmctld.view("n1").reason) == ("DOWN", "b")


@pytest.mark.parametrize("change", [Change.DRAIN, Change.DOWN])
def test_a_drain_without_a_reason_is_refused(change: Change) -> None:
    slurmctld = cluster()

    with pytest.raises(Refused, match="reason"):
        slurmctld.update("n1", change)
    assert state(slurmctld) == "IDLE"


def test_the_same_state_and_reason_again_leave_user_and_time() -> None:
    slurmctld = cluster()
    slurmctld.update("n1", Change.DRAIN, "mine")
    pass_time(slurmctld, 5)
    slurmctld.update("n1", Change.DRAIN, "mine", user="slurm")
    first = slurmctld.view("n1")
    slurmctld.update("n1", None, "other", user="slurm")
    second = slurmctld.view("n1")

    assert (first.reason_user, first.reason_at) == ("root", 1000)
    assert (second.reason, second.reason_user, second.reason_at) == ("other", "slurm", 1005)


def test_an_unknown_node_is_unknown() -> None:
    slurmctld = cluster()

    for call in (slurmctld.view, slurmctld.jobs_on, slurmctld.node_down, slurmctld.reboot):
        with pytest.raises(UnknownNode):
            call("n9")
    with pytest.raises(UnknownNode):
        slurmctld.submit(10, node="n9")


def test_a_stopped_slurmctld_answers_nobody_and_then_does_not_know_its_nodes_for_a_moment() -> None:
    slurmctld = cluster()
    slurmctld.update("n2", Change.DRAIN, "mine")
    slurmctld.stop()
    for call in (slurmctld.views, lambda: slurmctld.view("n1"), lambda: slurmctld.update("n1", Change.DRAIN, "x")):
        with pytest.raises(Transient, match="Unable to contact"):
            call()
    slurmctld.recover()

    assert state(slurmctld) == "UNKNOWN"
    assert state(slurmctld, "n2") == "UNKNOWN+DRAIN"
    registration = slurmctld.view("n1").registration
    assert registration is not None
    assert registration.boot_time == 0
    with pytest.raises(Refused):
        slurmctld.update("n2", Change.RESUME)
    slurmctld.update("n1", Change.DRAIN, "now")
    pass_time(slurmctld, 3)
    assert (state(slurmctld), state(slurmctld, "n2")) == ("IDLE+DRAIN", "IDLE+DRAIN")
    assert slurmctld.max_out == 2


@pytest.mark.parametrize(("applies_later", "expected"), [(True, "DOWN+DRAIN"), (False, "IDLE")])
def test_an_update_that_timed_out_may_be_applied_later(applies_later: bool, expected: str) -> None:  # noqa: FBT001
    slurmctld = cluster()
    slurmctld.hang(applies_later=applies_later)
    for change, reason in ((Change.RESUME, None), (Change.DRAIN, "mine"), (Change.DOWN, "mine")):
        with pytest.raises(Transient, match="timed out"):
            slurmctld.update("n1", change, reason)
    slurmctld.recover()

    assert state(slurmctld) == expected


def test_every_change_is_logged_at_its_exact_time() -> None:
    slurmctld = cluster()
    slurmctld.submit(5, node="n1")
    slurmctld.tick(START + 100)

    assert [(entry.at - START, sorted(entry.after)) for entry in slurmctld.transitions] == [
        (0, ["ALLOCATED"]),
        (5, ["COMPLETING", "IDLE"]),
        (6, ["IDLE"]),
    ]


def test_the_most_nodes_out_of_service_at_once_are_counted() -> None:
    slurmctld = cluster(nodes=4)
    for name in ("n1", "n2", "n3"):
        slurmctld.update(name, Change.DRAIN, "x")
    slurmctld.update("n1", Change.RESUME)
    pass_time(slurmctld, 1)

    assert (slurmctld.out, slurmctld.max_out) == (2, 3)


def test_time_comes_from_a_clock_and_never_goes_back() -> None:
    now = START
    slurmctld = SimulatedSlurmctld(["n1"], clock=lambda: now)
    now += 5
    slurmctld.update("n1", Change.DRAIN, "mine")
    now -= 3
    slurmctld.tick()

    assert slurmctld.view("n1").reason_at == 1005
    assert slurmctld.now == 1005


async def test_the_driver_ticks_while_nobody_asks() -> None:
    now = START

    def clock() -> float:
        nonlocal now
        now += 1
        return now

    slurmctld = SimulatedSlurmctld(["n1"], clock=clock)
    slurmctld.submit(3)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await run(slurmctld, 0.001)

    assert slurmctld.jobs_run == 1


# scontrol reboot


def asked(slurmctld: SimulatedSlurmctld, **options: bool | str) -> SimulatedSlurmctld:
    slurmctld.reboot("n1", reason="R", **options)  # type: ignore[arg-type]
    return slurmctld


def test_a_reboot_asap_drains_waits_for_the_job_and_returns_the_node() -> None:
    slurmctld = cluster()
    slurmctld.submit(8, node="n1", cpus=1)
    asked(slurmctld, asap=True, next_state="RESUME")
    assert state(slurmctld) == "MIXED+DRAIN+REBOOT_REQUESTED"
    pass_time(slurmctld, 10)
    view = slurmctld.view("n1")
    assert state(slurmctld) == "DOWN+DRAIN+REBOOT_ISSUED"
    assert (view.reason, view.reason_user) == ("R : reboot issued", "slurm")
    assert slurmctld.reboots_issued == ["n1"]
    reboot(slurmctld)

    assert state(slurmctld) == "IDLE"
    assert slurmctld.jobs_harmed == 0


def test_a_reboot_that_is_not_asap_lets_new_jobs_start() -> None:
    slurmctld = cluster(nodes=1)
    slurmctld.submit(8, cpus=1)
    asked(slurmctld)
    slurmctld.submit(8, cpus=1)

    assert state(slurmctld) == "ALLOCATED+REBOOT_REQUESTED"


@pytest.mark.parametrize(
    ("drained", "asap", "next_state", "expected", "reason"),
    [
        (False, False, "DOWN", "DOWN", "R : reboot issued : reboot complete"),
        (False, False, "", "IDLE", "R : reboot issued"),
        (False, True, "", "IDLE", "R : reboot issued"),
        (True, True, "RESUME", "IDLE", "R : reboot issued"),
        (True, True, "", "IDLE+DRAIN", "R : reboot issued"),
    ],
)
def test_what_a_node_is_after_a_reboot_by_scontrol(
    drained: bool,  # noqa: FBT001
    asap: bool,  # noqa: FBT001
    next_state: str,
    expected: str,
    reason: str,
) -> None:
    slurmctld = cluster()
    if drained:
        slurmctld.update("n1", Change.DRAIN, "admin")
    asked(slurmctld, asap=asap, next_state=next_state)
    pass_time(slurmctld, 1)
    reboot(slurmctld)

    assert (state(slurmctld), slurmctld.view("n1").reason) == (expected, reason)


def test_a_reboot_that_never_returns_times_out_and_keeps_the_node() -> None:
    slurmctld = asked(cluster())
    pass_time(slurmctld, 1)
    slurmctld.node_down("n1")
    pass_time(slurmctld, 60)

    assert state(slurmctld) == "DOWN+DRAIN+NOT_RESPONDING"
    assert slurmctld.view("n1").reason == "R : reboot issued : reboot timed out"


def test_a_restart_of_slurmd_is_no_reboot() -> None:
    slurmctld = asked(cluster())
    pass_time(slurmctld, 1)
    slurmctld.register("n1", START + 1, slurmctld.now)

    assert state(slurmctld) == "DOWN+REBOOT_ISSUED"


def test_a_reboot_can_be_cancelled_until_it_is_issued() -> None:
    slurmctld = asked(cluster(), asap=True)
    slurmctld.cancel_reboot("n1")
    assert (state(slurmctld), slurmctld.view("n1").reason) == ("IDLE", "")
    pass_time(slurmctld, 2)
    assert slurmctld.reboots_issued == []
    asked(slurmctld)
    pass_time(slurmctld, 1)

    with pytest.raises(Refused):
        slurmctld.cancel_reboot("n1")
