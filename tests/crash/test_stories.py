# SPDX-License-Identifier: Apache-2.0
"""Every story that may cross a cycle, killed once at every point of it; and proof that the watcher catches faults."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import fakes
import pytest
from fakes import World
from harness import POLICY, live, sample

from refloat_agent import in_service, machine
from refloat_agent.loop import Loop
from refloat_agent.observation import HealthFacts
from refloat_agent.state import Policy, State, initial
from refloat_contract import reasons
from refloat_contract.reasons import short_boot
from refloat_contract.words import EventKind, Phase, Verdict

COORDINATED = replace(POLICY, has_coordinator=True)
AGAIN = replace(POLICY, recipes={**POLICY.recipes, "reboot": replace(POLICY.recipes["reboot"], image_retries=2)})
DISKS = [pytest.param(True, id="stateless"), pytest.param(False, id="stateful")]
Settled = Callable[[World, Loop], bool]
Plan = tuple[tuple[float, Callable[[World], None]], ...]


def _in_service(world: World, loop: Loop) -> bool:
    up = world.mounted and world.service and not world.going_down
    return loop.state.cycle is None and not world.drain and up and not loop.state.outbox


def _held(world: World, loop: Loop) -> bool:
    cycle = loop.state.cycle
    shown = cycle is not None and cycle.phase is Phase.HELD and cycle.hold_shown
    return shown and world.reason.startswith("refloat-hold:") and not loop.state.outbox


def _left_alone(world: World, loop: Loop) -> bool:
    quiet = loop.state.cycle is None and not loop.state.outbox and not world.going_down
    return quiet and world.mounted and world.service and not world.plan


def _given_back(world: World, loop: Loop) -> bool:
    return _left_alone(world, loop) and not (world.drain and fakes.is_ours(world.reason))


@dataclass(frozen=True)
class Story:
    """How the world differs from a happy one, and how it must end."""

    world: Mapping[str, Any] = field(default_factory=dict)
    plan: Plan = ()
    policy: Policy = POLICY
    settled: Settled = _in_service
    reboots: int = 1
    resumes: int | None = 1
    lives: int = 12


def _set(**values: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        for name, value in values.items():
            setattr(world, name, value)

    return change


def _jump(seconds: float) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.wall_s += seconds

    return change


def _admin(*, drain: bool, reason: str) -> Callable[[World], None]:
    return lambda world: world.admin(drain=drain, reason=reason, user="alice")


STORIES = {
    "a mount fails twice": Story({"mount_fails": 2}),
    "a mount never succeeds": Story({"mount_fails": 10_000}, settled=_held, resumes=0),
    "a check fails after the boot": Story({"fails_after_boot": "labd is not running"}, settled=_held, resumes=0),
    "the wrong image boots": Story({"image": "compute-2"}, settled=_held, resumes=0),
    "the wrong image boots once": Story(
        {"image": "compute-1", "next_images": ["compute-2", "compute-1"]}, policy=AGAIN, reboots=2
    ),
    "the wrong image boots each time": Story({"image": "compute-2"}, policy=AGAIN, settled=_held, reboots=3, resumes=0),
    "the first resume comes too early for Slurm": Story({"unlucky_resumes": 1}, resumes=2),
    "every resume is lost": Story({"unlucky_resumes": 10_000}, settled=_held, resumes=None),
    "a job is suspended on the node": Story({"suspended": True, "job_until_s": 112.0}),
    "the clock jumps ahead and back": Story(
        plan=tuple((5.0 * n, _jump(-86_400.0 if n % 2 else 86_400.0)) for n in range(1, 9))
    ),
    "a permit is denied at first": Story(
        {"coordinator": True, "grants": False}, ((15.0, _set(grants=True)),), COORDINATED
    ),
    "the coordinator is not heard of at first": Story(
        {"coordinator": None}, ((15.0, _set(coordinator=True)),), COORDINATED
    ),
    "the coordinator is absent": Story(policy=COORDINATED),
    "the coordinator goes away with its word ungiven": Story(
        {"coordinator": True, "grants": False}, ((20.0, _set(coordinator=False)),), COORDINATED
    ),
    "the disk is full for a while": Story(plan=((3.0, _set(disk_full=True)), (33.0, _set(disk_full=False))), lives=14),
    "slurmctld is away for longer than any deadline": Story(
        plan=((2.0, _set(slurm_down=True)), (400.0, _set(slurm_down=False)))
    ),
}


def _run(story: Story, kills: frozenset[int], *, stateless: bool, plan: Plan = ()) -> World:
    world = World(kills=kills, stateless=stateless, **{"job_until_s": 104.0, **copy.deepcopy(dict(story.world))})
    world.admin(drain=True, reason="reboot image=compute-1")
    world.plan = sorted([*story.plan, *plan], key=lambda each: each[0])
    ended = live(world, story.settled, policy=story.policy, lives=story.lives, ticks=1200)
    assert ended or world.violations, world.trace
    return world


def _assert_right(world: World, story: Story) -> None:
    assert world.violations == [], world.trace
    assert world.reboots == story.reboots, world.trace
    assert story.resumes in {world.resumes, None}, world.trace
    times = [event.at_ns for event in world.events.values()]
    assert len(set(times)) == len(times), world.trace


@pytest.mark.parametrize("stateless", DISKS)
@pytest.mark.parametrize("name", STORIES)
def test_a_story_ends_right_wherever_the_agent_is_killed(name: str, *, stateless: bool) -> None:
    story = STORIES[name]
    alive = _run(story, frozenset(), stateless=stateless)
    _assert_right(alive, story)

    for point in sample(range(1, min(alive.boundaries, 150) + 1), 3):
        _assert_right(_run(story, frozenset({point}), stateless=stateless), story)


@pytest.mark.parametrize("stateless", DISKS)
def test_slurmctld_may_go_away_in_any_phase(*, stateless: bool) -> None:
    length = int(_run(Story(), frozenset(), stateless=stateless).age_s)

    for begin in range(length):
        plan = ((float(begin), _set(slurm_down=True)), (begin + 90.0, _set(slurm_down=False)))
        _assert_right(_run(Story(), frozenset(), stateless=stateless, plan=plan), Story())


@pytest.mark.parametrize("stateless", DISKS)
def test_any_one_save_may_fail(*, stateless: bool) -> None:
    saves = _run(Story(), frozenset(), stateless=stateless).saves

    for first in range(1, saves + 1):
        for kills in (frozenset[int](), frozenset({3 * first})):
            story = Story({"full_saves": frozenset(range(first, first + 3))})
            _assert_right(_run(story, kills, stateless=stateless), story)


@pytest.mark.parametrize("stateless", DISKS)
@pytest.mark.parametrize(("drain", "reason"), [(True, "bad dimm, alice"), (False, "")])
def test_an_administrator_may_end_a_cycle_at_any_moment(reason: str, *, drain: bool, stateless: bool) -> None:
    story = Story(settled=_left_alone, resumes=None)
    length = int(_run(Story(), frozenset(), stateless=stateless).age_s)

    for moment in range(1, length - 1):
        for kills in (frozenset[int](), frozenset({2 * moment})):
            plan = ((float(moment), _admin(drain=drain, reason=reason)),)
            world = _run(story, kills, stateless=stateless, plan=plan)
            assert world.violations == [], world.trace
            assert world.reboots <= 1, world.trace
            assert (world.drain, world.reason) in {(drain, reason), (False, "Node unexpectedly rebooted")}, world.trace


@pytest.mark.parametrize("stateless", DISKS)
def test_a_foreign_drain_that_stood_before_is_given_back(*, stateless: bool) -> None:
    def given_back(world: World, loop: Loop) -> bool:
        return _left_alone(world, loop) and world.reboots == 1 and world.reason == "bad dimm, alice"

    plan: Plan = ((0.0, _admin(drain=True, reason="bad dimm, alice")), (12.0, _admin(drain=True, reason="reboot")))
    story = Story(settled=given_back, resumes=0)
    points = _run(story, frozenset(), stateless=stateless, plan=plan).boundaries

    # Killed before it has ever seen the foreign drain, no agent can give it back.
    for point in range(12, points + 1):
        world = _run(story, frozenset({point}), stateless=stateless, plan=plan)
        _assert_right(world, story)
        assert world.drain


@pytest.mark.parametrize("stateless", DISKS)
@pytest.mark.parametrize("prior", ["", "bad dimm, alice"])
def test_a_cycle_may_be_called_off_at_any_moment(prior: str, *, stateless: bool) -> None:
    line = reasons.write_release("alice: by mistake", "", prior)
    length = int(_run(Story(), frozenset(), stateless=stateless).age_s)

    for moment in range(1, length - 1):
        for kills in (frozenset[int](), frozenset({2 * moment})):
            plan = ((float(moment), _release(line)),)
            world = _run(Story(settled=_given_back, resumes=None), kills, stateless=stateless, plan=plan)
            assert world.violations == [], world.trace
            assert world.reboots <= 1, world.trace
            assert not world.drain or world.reason == prior, world.trace


def _release(line: str) -> Callable[[World], None]:
    """What `refloat cycle cancel` does: it writes only over a cycle's own words."""

    def write(world: World) -> None:
        if world.drain and world.reason.startswith("reboot"):
            world.reason, world.reason_user = line, "alice"

    return write


@pytest.mark.parametrize("stateless", DISKS)
def test_a_held_node_is_given_back_wherever_the_agent_is_killed(*, stateless: bool) -> None:
    def repair(world: World) -> None:
        world.check_fails = world.fails_after_boot = ""
        world.admin(drain=True, reason=reasons.write_release("alice: repaired", "c1"), user="alice")

    story = Story({"fails_after_boot": "labd is not running"}, ((105.0, repair),))
    points = _run(story, frozenset(), stateless=stateless).boundaries

    # What comes before the release is killed at every point elsewhere.
    for point in range(points - 40, points + 1):
        _assert_right(_run(story, frozenset({point}), stateless=stateless), story)


def test_without_a_grant_a_node_is_held_in_the_end_and_never_touched() -> None:
    policy = replace(COORDINATED, deadlines_s={**POLICY.deadlines_s, Phase.DRAINING: 60.0})
    story = Story({"coordinator": True, "grants": False}, policy=policy, settled=_held, reboots=0, resumes=0)

    world = _run(story, frozenset(), stateless=True)

    _assert_right(world, story)
    assert world.mounted


def test_observing_only_touches_nothing() -> None:
    world = World(job_until_s=104.0)
    world.admin(drain=True, reason="reboot")

    live(world, lambda world, loop: False, policy=replace(POLICY, acts=False), lives=1, ticks=60)

    assert world.violations == []
    assert not [line for line in world.trace if not line.endswith(("deliver", "save", "checks"))]


# The watcher is worth something only if it barks.


def _violations(story: Story, plan: Plan = (), *, stateless: bool = False) -> list[str]:
    world = World(stateless=stateless, **{"job_until_s": 112.0, **story.world})
    world.admin(drain=True, reason="reboot image=compute-1")
    world.plan = sorted([*story.plan, *plan], key=lambda each: each[0])
    live(world, story.settled, policy=story.policy, lives=6, ticks=200)
    return world.violations


def test_the_watcher_sees_a_job_harmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "unsafe", lambda seen: None)

    assert any("while a job runs" in line for line in _violations(Story()))


def test_the_watcher_sees_a_foreign_drain_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ended_by_others", lambda cycle, view, policy: None)

    found = _violations(Story(), ((14.0, _admin(drain=True, reason="bad dimm, alice")),))

    assert any("was overwritten" in line for line in found)


def test_the_watcher_sees_a_resume_without_passed_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "not_passed", lambda health, since_s: None)
    monkeypatch.setattr(machine, "unproven", lambda seen: None)

    assert "resumed without passed checks of this boot" in _violations(Story({"fails_after_boot": "labd is gone"}))


def test_the_watcher_sees_an_early_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "unproven", lambda seen: None)
    monkeypatch.setattr(fakes.FakeHealth, "facts", lambda self: HealthFacts(Verdict.HEALTHY, oldest_s=1e9))

    found = _violations(Story(), stateless=True)

    assert "resumed before this boot had registered" in found


def test_the_watcher_sees_leave_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "permit", lambda *_: (True, (), ""))

    found = _violations(Story({"coordinator": True, "grants": False}, policy=COORDINATED))

    assert any("without a permit" in line for line in found)


def test_the_watcher_sees_a_second_reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    real = in_service._adopt

    def forgetful(state: Any, seen: Any, policy: Any, view: Any, progress: Any) -> Any:
        short = short_boot(seen.boot_id)
        return real(state, seen, policy, view, replace(progress, boot=short))

    monkeypatch.setattr(in_service, "_adopt", forgetful)

    assert any("rebooted twice" in line for line in _violations(Story(), stateless=True))


def test_the_watcher_sees_two_events_under_one_id(monkeypatch: pytest.MonkeyPatch) -> None:
    async def same_name(self: fakes.FakeJournal, boot_id: str) -> State:
        return self.world.saved or initial(boot_id, "000000")

    monkeypatch.setattr(fakes.FakeJournal, "load", same_name)
    world = World(stateless=False, check_fails="labd is gone", disk_full=True)

    for kills, check in ((frozenset[int](), "labd is gone"), (frozenset[int](), "another fault")):
        world.kills, world.check_fails, world.checked_s = kills, check, None
        live(world, lambda world, loop: loop.ticks > 5, lives=1, ticks=20)
        world.admin(drain=False, reason="")

    assert any("share the id" in line for line in world.violations)


def test_with_a_full_disk_a_failed_check_drains_and_no_two_events_share_an_id() -> None:
    world = World(stateless=False, check_fails="labd is gone", disk_full=True)

    for check in ("labd is gone", "another fault"):
        world.check_fails, world.checked_s = check, None
        live(world, lambda world, loop: loop.ticks > 8, lives=1, ticks=20)
        assert world.drain, world.trace
        assert check in world.reason, world.trace
        world.admin(drain=False, reason="")

    assert world.violations == []
    assert EventKind.HEALTH_DRAINED in {event.kind for event in world.events.values()}
