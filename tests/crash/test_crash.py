# SPDX-License-Identifier: Apache-2.0
"""Killed anywhere, it ends right: every kill point of a full cycle, and every pair of them.

By default every point and a sample of the pairs; all of them with REFLOAT_CRASH=all (`make crash`)."""

from itertools import combinations

import fakes
import pytest
from harness import live, sample

from refloat_agent.loop import Loop
from refloat_contract.words import EventKind


def _back_and_used(world: fakes.World, loop: Loop) -> bool:
    return loop.state.cycle is None and world.jobs_started == 1 and not world.busy and not loop.state.outbox


def _run(kills: frozenset[int], *, stateless: bool, reason: str) -> fakes.World:
    world = fakes.World(kills=kills, stateless=stateless, job_until_s=104.0)
    world.admin(drain=True, reason=reason)
    world.queued = True
    assert live(world, _back_and_used), world.trace
    return world


def _assert_right(world: fakes.World, *, reboots: int) -> None:
    assert world.violations == [], world.trace
    assert (world.reboots, world.resumes) == (reboots, 1), world.trace
    assert world.mounted, world.trace
    assert world.service, world.trace
    assert [e.kind for e in world.events.values()].count(EventKind.RESUMED) == 1, world.trace


RECIPES = [("reboot image=compute-1", 1), ("gpfs-restart", 0)]
STEPS = [("firmware image=compute-1 wave=w1", 1), ("soft", 1)]
DISKS = [pytest.param(True, id="stateless"), pytest.param(False, id="stateful")]


@pytest.mark.parametrize("stateless", DISKS)
@pytest.mark.parametrize(("reason", "reboots"), RECIPES + STEPS)
def test_a_cycle_that_nobody_kills_ends_right(reason: str, reboots: int, *, stateless: bool) -> None:
    world = _run(frozenset(), stateless=stateless, reason=reason)

    _assert_right(world, reboots=reboots)
    assert world.boundaries > 20


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stateless", DISKS)
@pytest.mark.parametrize(("reason", "reboots"), RECIPES)
def test_killed_at_every_point_and_every_pair_of_points_it_ends_right(
    reason: str, reboots: int, *, stateless: bool
) -> None:
    points = range(1, _run(frozenset(), stateless=stateless, reason=reason).boundaries + 1)
    campaign = [frozenset({one}) for one in points]
    campaign += sample((frozenset(pair) for pair in combinations(points, 2)), 19)

    for kills in campaign:
        _assert_right(_run(kills, stateless=stateless, reason=reason), reboots=reboots)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stateless", DISKS)
@pytest.mark.parametrize(("reason", "reboots"), STEPS)
def test_a_recipe_of_steps_ends_right_killed_at_every_point_and_again_soon(
    reason: str, reboots: int, *, stateless: bool
) -> None:
    points = range(1, _run(frozenset(), stateless=stateless, reason=reason).boundaries + 1)
    # Every pair would take minutes: after the first kill the second comes where the same step begins anew.
    campaign = [frozenset({one}) for one in points]
    campaign += sample((frozenset({one, one + gap}) for one in points for gap in range(1, 8)), 9)

    for kills in campaign:
        _assert_right(_run(kills, stateless=stateless, reason=reason), reboots=reboots)


@pytest.mark.parametrize("stateless", DISKS)
def test_a_journal_that_is_lost_at_any_point_before_the_reboot_costs_no_second_reboot(*, stateless: bool) -> None:
    points = range(1, _run(frozenset(), stateless=stateless, reason="firmware").boundaries + 1)

    for point in points:
        world = fakes.World(kills=frozenset({point}), stateless=stateless, job_until_s=104.0, forgets=True)
        world.admin(drain=True, reason="firmware")
        world.queued = True
        assert live(world, _back_and_used), world.trace
        # What was still to be told of this boot is lost with the journal, and nothing else.
        assert (world.violations, world.reboots, world.resumes) == ([], 1, 1), world.trace
        assert world.mounted
