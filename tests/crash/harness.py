# SPDX-License-Identifier: Apache-2.0
"""Drive the real loop and performer through the fake world, life after life, until the node has settled."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar, cast

import fakes
import structlog

from refloat_agent.journal import Journal
from refloat_agent.loop import Loop
from refloat_agent.performer import Effects, Performer
from refloat_agent.recipes import OnFailure, Recipe, Step, StepKind, Way, short_form
from refloat_agent.state import Policy
from refloat_contract.reasons import DEFAULT_WORDS, Dialect, Word
from refloat_contract.words import Phase

T = TypeVar("T")
ALL = os.environ.get("REFLOAT_CRASH") == "all"
"""The whole campaign (`make crash`), which takes minutes; else a sample of it, spread evenly."""


def sample(things: Iterable[T], one_in: int) -> list[T]:
    """Each of these in the whole campaign, else one in so many."""
    return list(things)[:: 1 if ALL else one_in]


HOOK = (("site-hook",),)
RECIPES = MappingProxyType(
    {
        "reboot": Recipe("reboot", short_form(reboot=True)),
        "reconfigure": Recipe("reconfigure", short_form(run=(("apply-config",),))),
        "firmware": Recipe(
            "firmware",
            (
                Step(StepKind.STOP),
                Step(StepKind.UNMOUNT, pre=HOOK),
                Step(StepKind.RUN, argv=(("fwupdate", "--apply"),), deadline_s=30.0, retries=2),
                Step(StepKind.RUN, argv=(("fwlog",),), retries=1, on_failure=OnFailure.SKIP, post=HOOK),
                Step(StepKind.REBOOT, pre=HOOK),
                Step(StepKind.RUN, argv=(("fwupdate", "--verify"),)),
                Step(StepKind.MOUNT, post=HOOK),
                Step(StepKind.START),
                Step(StepKind.CHECK, pre=HOOK),
                Step(StepKind.RESUME, pre=HOOK),
            ),
        ),
        "soft": Recipe(
            "soft",
            (
                Step(StepKind.STOP),
                Step(StepKind.UNMOUNT),
                Step(StepKind.REBOOT, how=Way.SOFT),
                *(Step(kind) for kind in (StepKind.MOUNT, StepKind.START, StepKind.CHECK, StepKind.RESUME)),
            ),
        ),
    }
)
POLICY = Policy(
    node="n1",
    recipes=RECIPES,
    dialect=Dialect((*DEFAULT_WORDS, Word("firmware", "flashing", "firmware"), Word("soft", "softening", "soft"))),
    poll_s=5.0,
    retry_s=1.0,
    deadlines_s=MappingProxyType(
        {
            Phase.STOPPING: 60.0,
            Phase.UNMOUNTING: 60.0,
            Phase.RUNNING: 60.0,
            Phase.REBOOTING: 300.0,
            Phase.MOUNTING: 60.0,
            Phase.STARTING: 60.0,
            Phase.CHECKING: 60.0,
            Phase.RESUMING: 60.0,
        }
    ),
)


async def a_loop(world: fakes.World, policy: Policy, tasks: asyncio.TaskGroup) -> Loop:
    effects = Effects(
        slurm=world.slurm(),
        mounts=fakes.FakeMounts(world),
        services=fakes.FakeServices(world),
        power=fakes.FakePower(world),
        commands=fakes.FakeCommands(world),
        health=fakes.FakeHealth(world),
        reporter=fakes.FakeReporter(world),
    )
    journal = fakes.FakeJournal(world)
    state = await journal.load(world.boot_id)
    if Journal.is_new(state) and policy.acts:
        state = replace(state, restore=True)  # as the daemon does: mount_at_boot
    return Loop(
        policy=policy,
        journal=cast("Journal", journal),
        performer=Performer(effects, tasks, wake=lambda: None),
        clock=fakes.FakeClock(world),
        processes=fakes.FakeProcesses(world),
        on_decision=lambda decision, seen: None,
        state=state,
    )


@contextmanager
def _silence() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.reset_defaults()


def _nobody(_: Loop) -> None:
    """Watch nothing."""


async def _life(
    world: fakes.World,
    policy: Policy,
    step: Callable[[fakes.World, Loop], bool],
    ticks: int,
    watch: Callable[[Loop], None],
) -> bool:
    """One life of the agent; returns whether the node has settled."""
    async with asyncio.TaskGroup() as tasks:
        loop = await a_loop(world, policy, tasks)
        watch(loop)
        if world.checked_s is None:
            await loop.performer.effects.health.run_all()
        dark = 0
        for _ in range(ticks):
            await loop.tick()
            for _ in range(4):
                await asyncio.sleep(0)
            world.advance(1.0)
            if step(world, loop):
                return True
            dark += world.going_down
            if dark > 2:
                return False
    return False


def live(
    world: fakes.World,
    step: Callable[[fakes.World, Loop], bool],
    *,
    policy: Policy = POLICY,
    lives: int = 12,
    ticks: int = 400,
    watch: Callable[[Loop], None] = _nobody,
) -> bool:
    """Let the agent live, die and live again; True once ``step`` (called after every tick) says that it is settled."""
    # One event loop for all lives, and no log: each would cost as much as the lives themselves.
    with asyncio.Runner() as runner, _silence():
        for _ in range(lives):
            try:
                if runner.run(_life(world, policy, step, ticks, watch)):
                    return True
            except* fakes.Killed:
                pass
            if world.going_down:
                world.power_cycle()
            world.advance(2.0)
    return False


class _Tasks:
    """What the performer needs of a TaskGroup, in a life that is led tick by tick."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[object]] = []

    def create_task(self, work: Coroutine[object, object, object], *, name: str) -> asyncio.Task[object]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.append(task)
        return task

    def reap(self) -> None:
        """Raise what killed the agent inside an action."""
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error


class Driver:
    """An agent that lives tick by tick, and is born again after each death; the world may be changed in between."""

    def __init__(self, world: fakes.World, policy: Policy = POLICY) -> None:
        self.world, self.policy = world, policy
        self.loop: Loop | None = None
        self._tasks = _Tasks()
        self._life = ExitStack()
        self._runner = self._life.enter_context(asyncio.Runner())
        self._life.enter_context(_silence())
        self._dark = 0

    def tick(self) -> None:
        """One look of the agent, and a second of the world."""
        try:
            self._runner.run(self._look())
        except fakes.Killed:
            self.die()
        self.world.advance(1.0)
        self._dark = self._dark + 1 if self.world.going_down else 0
        if self._dark > 2:
            self.die()

    async def _look(self) -> None:
        if self.loop is None:
            self.loop = await a_loop(self.world, self.policy, cast("asyncio.TaskGroup", self._tasks))
            if self.world.checked_s is None:
                await self.loop.performer.effects.health.run_all()
        await self.loop.tick()
        for _ in range(4):
            await asyncio.sleep(0)
        self._tasks.reap()

    def die(self) -> None:
        """The agent is gone, with all that it had begun; the machine, too, if it was going down."""
        for task in self._tasks.tasks:
            task.cancel()
        self._tasks, self.loop, self._dark = _Tasks(), None, 0
        if self.world.going_down:
            self.world.power_cycle()
        self.world.advance(2.0)

    def close(self) -> None:
        """Let nothing be left behind."""
        self._life.close()
