# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import Callable
from typing import Any

from fakes import FakeCommands, FakeHealth, FakeMounts, FakePower, FakeReporter, FakeServices, FakeSlurm, World

from refloat_agent import actions
from refloat_agent.observation import ActionOutcome
from refloat_agent.performer import LANES, Effects, Performer
from refloat_contract.errors import Refused
from refloat_contract.words import Purpose


class SlowMounts(FakeMounts):
    """Unmounting takes until it is let go."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.go = asyncio.Event()
        self.begun = 0

    async def unmount(self, cycle: str, *, reboots: bool, still: Callable[[], bool]) -> None:
        self.begun += 1
        await self.go.wait()
        raise Refused("umount: target is busy")


def _performer(world: World, mounts: Any, tasks: asyncio.TaskGroup) -> Performer:
    effects = Effects(
        FakeSlurm(world),
        mounts,
        FakeServices(world),
        FakePower(world),
        FakeCommands(world),
        FakeHealth(world),
        FakeReporter(world),
    )
    return Performer(effects, tasks, wake=lambda: None)


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_every_action_has_a_lane() -> None:
    named = {each for each in vars(actions).values() if isinstance(each, type) and each.__module__ == actions.__name__}

    assert named == set(LANES)


async def test_an_action_under_way_is_not_started_again_and_holds_its_lane_until_its_outcome_is_taken() -> None:
    world = World()
    async with asyncio.TaskGroup() as tasks:
        mounts = SlowMounts(world)
        performer = _performer(world, mounts, tasks)
        performer.perform([actions.Unmount()])
        await _settle()
        performer.perform([actions.Unmount(), actions.Mount(), actions.RunChecks()])
        await _settle()
        assert (mounts.begun, performer.busy) == (1, frozenset({"storage", "checks"}))

        mounts.go.set()
        await _settle()
        assert "storage" in performer.busy

        outcomes = performer.take()
        assert set(outcomes) == {
            ActionOutcome(actions.RunChecks()),
            ActionOutcome(actions.Unmount(), "umount: target is busy"),
        }
        assert (performer.busy, performer.take()) == (frozenset(), ())
    assert not any("mount" in line for line in world.trace)


async def test_what_may_harm_jobs_is_stopped_and_what_puts_back_is_not() -> None:
    world = World()
    async with asyncio.TaskGroup() as tasks:
        mounts = SlowMounts(world)
        performer = _performer(world, mounts, tasks)
        performer.perform([actions.Unmount(), actions.StartServices()])
        performer.stop_unsafe()
        await _settle()

        assert set(performer.take()) == {
            ActionOutcome(actions.Unmount(), "stopped"),
            ActionOutcome(actions.StartServices()),
        }
        performer.perform([actions.Mount()])
        await _settle()

    assert world.mounted
    assert "before mount" in world.trace[-2]


async def test_events_are_handed_over_before_the_reboot() -> None:
    world = World(mounted=False, reason="rebooting refloat=c1")
    async with asyncio.TaskGroup() as tasks:
        _performer(world, FakeMounts(world), tasks).perform([actions.Reboot()])

    assert [line.partition(" ")[2] for line in world.trace] == ["flush", "before reboot", "after reboot"]


async def test_what_is_under_way_is_wanted_only_as_long_as_every_look_decides_on_it_anew() -> None:
    world = World()
    async with asyncio.TaskGroup() as tasks:
        mounts = SlowMounts(world)
        performer = _performer(world, mounts, tasks)
        performer.perform([actions.Unmount("c1")])
        begun = performer.is_wanted("storage")
        performer.perform([])
        not_proven = performer.is_wanted("storage")
        performer.perform([actions.Unmount("c1")])
        again = performer.is_wanted("storage")
        performer.perform([actions.Unmount("c2")])
        other = performer.is_wanted("storage")
        mounts.go.set()

    assert (begun, not_proven, again, other) == (True, False, True, False)


async def test_what_ends_again_and_again_does_not_keep_the_loop_turning() -> None:
    world, woken = World(), []
    async with asyncio.TaskGroup() as tasks:
        performer = _performer(world, FakeMounts(world), tasks)
        performer.wake = lambda: woken.append(performer.busy)
        for _ in range(3):
            performer.perform([actions.AskPermit("c1", Purpose.CYCLE, "reboot", "")])
            await _settle()
            assert len(performer.take()) == 1
        assert woken == [{"permit"}]

        performer.perform([actions.AskPermit("c2", Purpose.CYCLE, "reboot", "")])
        await _settle()
        assert len(woken) == 2
