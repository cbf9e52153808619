# SPDX-License-Identifier: Apache-2.0
"""A cycle against all that slurmctld and others do to a node and its reason, one sentence each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes import World, is_ours
from harness import POLICY, live
from slurm_world import NODE, SlurmWorld

from refloat_agent.loop import Loop
from refloat_agent.state import Policy
from refloat_slurm.gateway import Change
from refloat_slurm.simulated import Rules

Step = tuple[float, Callable[[Any], Any]]
RTS = [pytest.param(rts, id=f"ReturnToService={rts}") for rts in (0, 1, 2)]


def _asked(world: SlurmWorld) -> None:
    world.admin(drain=True, reason="reboot", user="alice")


_PASSING = frozenset({"UNKNOWN", "NOT_RESPONDING", "REBOOT_REQUESTED", "REBOOT_ISSUED"})
IDLE = frozenset({"IDLE"})


def _settled(world: World, loop: Loop) -> bool:
    if world.flags & _PASSING:
        return False
    is_done = loop.state.cycle is None and not world.going_down and not world.plan and not loop.state.outbox
    return is_done and world.mounted and world.service and not (world.drain and is_ours(world.reason))


def _run(*plan: Step, policy: Policy = POLICY, stateless: bool = True, **facts: Any) -> SlurmWorld:
    world = SlurmWorld(stateless=stateless, **facts)
    world.plan = [*sorted(plan, key=lambda step: step[0])]
    ended = live(world, _settled, policy=policy, lives=8, ticks=900)
    assert ended, (world.shown, world.trace)
    assert world.violations == [], world.trace
    assert world.ctld.jobs_harmed == 0
    return world


def _assert_served(world: SlurmWorld) -> None:
    """Rebooted once, and in service again."""
    assert (world.reboots, world.resumes, world.shown.flags) == (1, 1, IDLE), world.trace


@pytest.mark.parametrize("boot_s", [30.0, 900.0], ids=["a quick boot", "a boot longer than SlurmdTimeout"])
@pytest.mark.parametrize("rts", RTS)
def test_a_cycle_ends_right_under_every_return_to_service(rts: int, boot_s: float) -> None:
    _assert_served(_run((3.0, _asked), rules=Rules(return_to_service=rts), boot_s=boot_s))


@pytest.mark.parametrize("appends", [True, False])
def test_a_trigger_to_which_slurmctld_appends_is_still_one(*, appends: bool) -> None:
    world = _run(
        (1.0, lambda world: world.ctld.submit(500.0)),
        (3.0, _asked),
        (10.0, lambda world: world.ctld.slurmd_stopped(NODE)),
        (450.0, lambda world: world.ctld.register(NODE, world.wall_s - 900, world.wall_s)),
        rules=Rules(appends_not_responding=appends, slurmd_timeout_s=3000.0),
    )

    _assert_served(world)


def test_a_progress_to_which_slurmctld_appends_is_still_the_cycle_s() -> None:
    def silent(world: SlurmWorld) -> None:
        world.ctld.update(NODE, None, f"{world.shown.reason} : Not responding", "slurm")

    for moment in range(8, 28, 2):
        _assert_served(_run((3.0, _asked), (float(moment), silent)))


@pytest.mark.parametrize("rts", RTS)
def test_an_unexpected_reboot_is_somebody_else_s_to_look_at(rts: int) -> None:
    def lost(world: SlurmWorld) -> None:
        world.going_down, world.mounted = True, False

    world = _run((5.0, lost), (120.0, lambda _: None), rules=Rules(return_to_service=rts))

    assert (world.reboots, world.resumes) == (0, 0)
    assert ("DOWN" in world.shown.flags) == (rts < 2)


@pytest.mark.parametrize("rts", RTS)
def test_power_that_is_lost_in_mid_cycle_costs_no_second_reboot(rts: int) -> None:
    def lost(world: SlurmWorld) -> None:
        world.going_down, world.mounted = True, False

    for moment in range(4, 24, 2):
        world = _run((3.0, _asked), (float(moment), lost), rules=Rules(return_to_service=rts))
        assert world.reboots <= 1, world.trace
        assert world.shown.flags == IDLE, (world.shown, world.trace)


@pytest.mark.parametrize("moment", [4.0, 8.0, 20.0])
def test_a_reboot_by_scontrol_is_stood_back_from(moment: float) -> None:
    def reboot(world: SlurmWorld) -> None:
        world.ctld.reboot(NODE, asap=True, next_state="RESUME", reason="kernel", user="bob")

    world = _run(
        (1.0, lambda world: world.ctld.submit(40.0)),
        (3.0, _asked),
        (moment, reboot),
        rules=Rules(resume_timeout_s=600.0),
    )

    assert (world.reboots, world.resumes, world.shown.flags) == (0, 0, IDLE), world.trace


@pytest.mark.parametrize("flag", ["POWERING_DOWN", "POWERED_DOWN", "POWERING_UP", "POWER_DOWN"])
def test_power_saving_is_waited_for(flag: str) -> None:
    def touched(world: SlurmWorld) -> list[str]:
        return [line for line in world.trace if line.endswith((" stop", " unmount", " reboot"))]

    before: list[str] = []

    def over(world: SlurmWorld) -> None:
        before.extend(touched(world))
        world.ctld.unmark(NODE, flag)

    world = _run((2.0, lambda world: world.ctld.mark(NODE, flag)), (3.0, _asked), (40.0, over))

    assert before == []
    _assert_served(world)


@pytest.mark.parametrize("flag", ["MAINTENANCE", "RESERVED", "PLANNED"])
def test_a_reservation_keeps_no_cycle_from_ending(flag: str) -> None:
    world = _run((2.0, lambda world: world.ctld.mark(NODE, flag)), (3.0, _asked))

    assert (world.reboots, world.resumes, world.shown.flags) == (1, 1, IDLE | {flag}), world.trace


def test_a_node_that_slurm_no_longer_knows_by_its_name_is_left_alone() -> None:
    def rename(world: SlurmWorld) -> None:
        world.is_renamed = not world.is_renamed

    for moment in (4.0, 7.0, 9.0, 12.0):
        _assert_served(_run((3.0, _asked), (moment, rename), (moment + 60.0, rename)))


@pytest.mark.parametrize("applies", [None, True, False], ids=["restarts", "hangs and applies", "hangs and forgets"])
def test_slurmctld_may_restart_or_hang_at_any_moment(applies: bool | None) -> None:  # noqa: FBT001 - a parameter
    def away(world: SlurmWorld) -> None:
        if applies is None:
            world.ctld.stop()
        else:
            world.ctld.hang(applies_later=applies)

    for moment in range(4, 40, 3):
        world = _run((3.0, _asked), (float(moment), away), (moment + 25.0, lambda world: world.ctld.recover()))
        assert world.reboots == 1, world.trace
        assert world.shown.flags == IDLE, (world.shown, world.trace)


@pytest.mark.parametrize("stateless", [True, False])
def test_a_slurmctld_that_comes_back_with_an_older_state_breaks_nothing(*, stateless: bool) -> None:
    def older(world: SlurmWorld) -> None:
        """The trigger, as it stood before the agent wrote anything."""
        if world.drain:
            world.ctld.update(NODE, Change.RESUME, None, "slurm")
            world.ctld.update(NODE, Change.DRAIN, "reboot", "alice")

    for moment in range(4, 40, 2):
        world = _run((3.0, _asked), (float(moment), older), stateless=stateless)
        # A node that has forgotten its cycle with Slurm is asked for another: never twice for the same.
        assert len(set(world.rebooted_for)) == world.reboots <= 2, world.trace
        assert world.shown.flags == IDLE, (world.shown, world.trace)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(Change.DRAIN, "bad dimm"), (None, "bad dimm"), (Change.DOWN, "bad board"), (Change.RESUME, None)],
    ids=["drains anew", "edits the reason", "sets it down", "resumes"],
)
def test_whoever_takes_the_node_ends_the_cycle_within_a_period(change: Change | None, reason: str | None) -> None:
    def take(world: SlurmWorld) -> None:
        if world.drain:
            world.ctld.update(NODE, change, reason, "bob")

    for moment in range(4, 30, 2):
        after = (moment + POLICY.poll_s + 2.0, lambda world: world.trace.append("a period later"))
        world = _run((3.0, _asked), (float(moment), take), after)
        late = [
            line
            for line in world.trace[world.trace.index("a period later") :]
            if "before slurm" in line or "before reboot" in line
        ]
        assert late == [], world.trace
        if reason and world.shown.reason_user == "bob":
            assert world.shown.reason == reason


def test_the_drain_that_stood_before_is_put_back_when_the_cycle_is_called_off() -> None:
    def cancelled(world: SlurmWorld) -> None:
        world.ctld.update(NODE, None, "refloat-release: cancelled by bob refloat=- was: bad dimm", "root")

    for moment in (6.0, 9.0, 11.0):
        world = _run(
            (1.0, lambda world: world.admin(drain=True, reason="bad dimm", user="bob")),
            (3.0, lambda world: world.admin(drain=True, reason="reboot (alice) was: bad dimm", user="alice")),
            (moment, cancelled),
        )
        assert (world.drain, world.shown.reason, world.reboots) == (True, "bad dimm", 0), world.trace


def test_an_observer_does_none_of_it() -> None:
    world = SlurmWorld()
    world.plan = [(3.0, lambda _: _asked(world))]
    live(world, lambda *_: False, policy=replace(POLICY, acts=False), lives=1, ticks=60)

    assert (world.reboots, world.shown.reason) == (0, "reboot")
    assert world.violations == []
