# SPDX-License-Identifier: Apache-2.0
"""Perform actions beside the loop: one at a time per lane, each outcome kept for the next observation.

The machine emits an action at every look until its goal is met, so an action whose lane is busy is simply dropped. One
that ends at once without its goal being met would keep the loop, and with it slurmctld, turning: so the end of an
action wakes the loop only if the same one has not ended a moment ago; else the loop's own pace looks at it.
Mounting and unmounting share a lane, and so do all writes to Slurm: they never overtake each other.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from refloat_agent import actions
from refloat_agent.actions import Action
from refloat_agent.observation import ActionOutcome
from refloat_agent.ports import Commands, Health, Mounts, Power, Reporter, Services, SlurmNode
from refloat_agent.recipes import Way
from refloat_contract.errors import GivenUp, RefloatError
from refloat_slurm.gateway import Change

log = structlog.get_logger(__name__)

LANES: Final[dict[type[Action], str]] = {
    actions.AskPermit: "permit",
    actions.ReleasePermit: "permit-release",
    actions.StopServices: "services",
    actions.StartServices: "services",
    actions.Unmount: "storage",
    actions.Mount: "storage",
    actions.RunCommands: "commands",
    actions.Reboot: "power",
    actions.RunChecks: "checks",
    actions.TakeDown: "slurm",
    actions.WriteReason: "slurm",
    actions.DrainForHealth: "slurm",
    actions.Resume: "slurm",
}


FRESH_S: Final = 5.0
"""An action that waits long goes on only if a look within this time decided on it anew."""
_REPEATED_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Effects:
    """The adapters that actions are performed through."""

    slurm: SlurmNode
    mounts: Mounts
    services: Services
    power: Power
    commands: Commands
    health: Health
    reporter: Reporter


@dataclass(slots=True)
class Performer:
    """Starts actions as tasks of the daemon's group, and collects how they ended."""

    effects: Effects
    tasks: asyncio.TaskGroup
    wake: Callable[[], None]
    _busy: dict[str, Action] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[ActionOutcome]] = field(default_factory=dict)
    _outcomes: list[ActionOutcome] = field(default_factory=list)
    _wanted: dict[str, float] = field(default_factory=dict)
    _ends: dict[str, tuple[Action, float]] = field(default_factory=dict)

    def perform(self, wanted: Iterable[Action]) -> None:
        """Start every action whose lane is free."""
        # What is under way, and was decided once more by this look; a look that does not want it takes that back.
        self._wanted = {}
        for action in wanted:
            lane = LANES[type(action)]
            if self._busy.get(lane, action) == action:
                self._wanted[lane] = asyncio.get_running_loop().time()
            if lane not in self._busy:
                self._busy[lane] = action
                task = self.tasks.create_task(self._run(action), name=f"action {lane}")
                task.add_done_callback(functools.partial(self._ended, action))
                self._tasks[lane] = task

    def is_wanted(self, lane: str) -> bool:
        """Whether the latest look wanted what is under way in a lane, and was no long time ago."""
        now_s = asyncio.get_running_loop().time()
        return now_s - self._wanted.get(lane, float("-inf")) < FRESH_S

    def stop_unsafe(self) -> None:
        """Break off what is only done to an empty node, for instance when an administrator gave it back to users."""
        for lane, action in self._busy.items():
            if isinstance(action, actions.UNSAFE) and not self._tasks[lane].done():
                log.warning("action_stopped", action=repr(action))
                self._tasks[lane].cancel()

    def take(self) -> tuple[ActionOutcome, ...]:
        """How actions ended since the last call; only now are their lanes free again.

        An action that ends while the loop is observing is not in that observation: were its lane free at once, the
        decision, which does not know of it, would start it a second time.
        """
        outcomes, self._outcomes = tuple(self._outcomes), []
        for outcome in outcomes:
            del self._busy[LANES[type(outcome.action)]]
        return outcomes

    @property
    def busy(self) -> frozenset[str]:
        """The lanes where an action is under way, or has ended unseen."""
        return frozenset(self._busy)

    async def _run(self, action: Action) -> ActionOutcome:
        quiet = isinstance(action, actions.AskPermit | actions.RunChecks)
        (log.debug if quiet else log.info)("action", action=repr(action))
        try:
            await self._dispatch(action)
        except RefloatError as failure:
            log.warning("action_failed", action=repr(action), error=str(failure))
            return ActionOutcome(action, str(failure), final=isinstance(failure, GivenUp))
        return ActionOutcome(action)

    def _ended(self, action: Action, task: asyncio.Task[ActionOutcome]) -> None:
        if not task.cancelled() and task.exception() is not None:
            return  # a fault of ours: the task group ends the daemon
        self._outcomes.append(ActionOutcome(action, "stopped") if task.cancelled() else task.result())
        lane, now_s = LANES[type(action)], asyncio.get_running_loop().time()
        before, before_s = self._ends.get(lane, (None, 0.0))
        self._ends[lane] = (action, now_s)
        if before != action or now_s - before_s >= _REPEATED_S:
            self.wake()

    def _dispatch(self, action: Action) -> Coroutine[Any, Any, None]:  # noqa: C901 - one case per action
        effects = self.effects
        match action:
            case actions.AskPermit(permit, purpose, recipe, wave, cause):
                return effects.reporter.ask(permit, purpose, recipe, wave, cause)
            case actions.ReleasePermit(permit):
                return effects.reporter.release(permit)
            case actions.StopServices(keep_going):
                return effects.services.stop(keep_going=keep_going)
            case actions.StartServices():
                return effects.services.start()
            case actions.Unmount(cycle, reboots):
                return effects.mounts.unmount(
                    cycle, reboots=reboots, still=functools.partial(self.is_wanted, LANES[actions.Unmount])
                )
            case actions.Mount():
                return effects.mounts.mount()
            case actions.RunCommands(argvs, deadline_s, _, keep_going):
                return effects.commands.run(argvs, deadline_s, keep_going=keep_going)
            case actions.Reboot(way):
                return self._reboot(way)
            case actions.RunChecks():
                return effects.health.run_all()
            case actions.TakeDown(reason):
                return effects.slurm.update(Change.DOWN, reason)
            case actions.WriteReason(reason) | actions.DrainForHealth(reason):
                return effects.slurm.update(Change.DRAIN, reason)
            case actions.Resume():
                return effects.slurm.update(Change.RESUME)

    async def _reboot(self, way: Way) -> None:
        # A stateless node forgets its spool: what can still be told is told now.
        await self.effects.reporter.flush()
        await self.effects.power.reboot(way)
