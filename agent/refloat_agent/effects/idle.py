# SPDX-License-Identifier: Apache-2.0
"""Checks that only an idle node can bear: one at a time, when no job is on the node, and stopped when one comes."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from refloat_agent.idleness import not_idle, not_idle_by_flags
from refloat_agent.observation import PermitFacts
from refloat_agent.ports import IdleLeave, Processes, SlurmNode
from refloat_contract.errors import RefloatError
from refloat_contract.words import Phase

log = structlog.get_logger(__name__)
RETRY_S: Final = 30.0
WATCH_S: Final = 1.0
RENEW_S: Final = 30.0
# Out of these the node is taken down or brought up: nothing else may hold its storage then.
_QUIET: Final = frozenset({Phase.IN_SERVICE, Phase.CHECKING})


@dataclass(frozen=True, slots=True)
class Idleness:
    """Whether the node is in no job's hands: by Slurm's flags, its job list and the process table."""

    slurm: SlurmNode
    processes: Processes
    phase: Callable[[], Phase]

    async def why_not(self) -> str | None:
        """Why no idle node's check may begin, by facts read for this question; None when one may.

        slurmctld is only asked when nothing at hand says no already.
        """
        try:
            return await self.why_stop() or not_idle(
                await self.slurm.read(), await self.slurm.jobs(), await self.processes.steps()
            )
        except RefloatError as error:
            return str(error)

    async def why_stop(self) -> str | None:
        """Why one that runs must end now, by what is at hand: the newest view of Slurm, and the job steps here."""
        if self.phase() not in _QUIET:
            return f"the node's cycle is in {self.phase()}"
        hint = self.slurm.latest()
        if hint is not None and (why := not_idle_by_flags(hint.view)) is not None:
            return why
        try:
            steps = await self.processes.steps()
        except RefloatError as error:
            return str(error)
        return f"a job step runs: {steps[0].title}" if steps else None


class Coordinators(Protocol):
    """The way to a coordinator, if there is one: the agent's bus."""

    def permit(self) -> PermitFacts:
        """Whether there is one."""
        ...

    async def ask_idle(self, check: str) -> str | None:
        """Ask it for leave; why not, or None."""
        ...

    async def end_idle(self, check: str) -> None:
        """Give the leave back."""
        ...


@dataclass(frozen=True, slots=True)
class Leave:
    """The coordinator's leave; without a coordinator the policy decides."""

    bus: Coordinators
    proceed: bool

    async def take(self, check: str) -> str | None:
        """Ask, or ask again to keep it."""
        match self.bus.permit().coordinator:
            case True:
                return await self.bus.ask_idle(check)
            case None:
                return "waiting to hear whether there is a coordinator"
            case _:
                return None if self.proceed else "no coordinator to ask for leave (without_coordinator = 'wait')"

    async def give_back(self, check: str) -> None:
        """Let another node have it."""
        if self.bus.permit().coordinator:
            await self.bus.end_idle(check)


@dataclass(slots=True)
class IdleLooks:
    """Has the idle node's checks looked at when their time has come and the node allows it."""

    idleness: Idleness
    leave: IdleLeave
    look: Callable[[str], Awaitable[None]]
    retry_s: float = RETRY_S
    watch_s: float = WATCH_S
    renew_s: float = RENEW_S
    """How often the leave is asked for again; it ends by itself."""
    waiting: dict[str, str] = field(default_factory=dict)
    """The checks that are due, each with what it waits for; empty while it is looked at."""
    stopped: int = 0
    _stimulus: asyncio.Event = field(default_factory=asyncio.Event)
    _job: asyncio.Event = field(default_factory=asyncio.Event)

    def ask_for(self, checks: Iterable[str]) -> None:
        """Look at these once as soon as the node allows it."""
        for check in checks:
            self.waiting.setdefault(check, "its turn")
        self._stimulus.set()

    def job_comes(self) -> None:
        """A job is about to start here: end what runs, at once."""
        self._job.set()

    async def run(self) -> None:
        """Look at one after the other, until cancelled."""
        while True:
            self._stimulus.clear()
            if all([await self._try(check) for check in tuple(self.waiting)]):
                await self._stimulus.wait()
            else:
                # Not all nodes ask slurmctld in step.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.retry_s * random.uniform(0.8, 1.2)):  # noqa: S311 - jitter
                        await self._stimulus.wait()

    async def _try(self, check: str) -> bool:
        """Look at it if it may be; returns whether that has been done."""
        self._job.clear()
        why = await self.idleness.why_not() or await self.leave.take(check)
        if why is not None:
            self.waiting[check] = why
            return False
        try:
            # Asking for leave takes time in which a job may have come.
            why = "a job came" if self._job.is_set() else await self.idleness.why_stop()
            why = why or await self._watched(check)
        finally:
            await self.leave.give_back(check)
        if why is not None:
            self.waiting[check] = why
            return False
        del self.waiting[check]
        return True

    async def _watched(self, check: str) -> str | None:
        """Look at it, and end that when a job comes: then say why."""
        self.waiting[check] = ""
        looking = asyncio.ensure_future(self.look(check))
        watching = asyncio.ensure_future(self._until_wanted())
        renewing = asyncio.ensure_future(self._until_denied(check))
        try:
            await asyncio.wait({looking, watching, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                looking.result()
                return None
            self.stopped += 1
            why = watching.result() if watching.done() else renewing.result()
            log.info("idle_check_stopped", check=check, why=why)
            return why
        finally:
            for task in (looking, watching, renewing):
                task.cancel()
            await asyncio.wait({looking, watching, renewing})

    async def _until_denied(self, check: str) -> str:
        while True:
            await asyncio.sleep(self.renew_s)
            if (why := await self.leave.take(check)) is not None:
                return why

    async def _until_wanted(self) -> str:
        while (why := await self.idleness.why_stop()) is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.watch_s):
                    await self._job.wait()
                    return "a job comes"
        return why
