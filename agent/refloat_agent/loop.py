# SPDX-License-Identifier: Apache-2.0
"""The loop: observe, decide, save, perform. The only place where deciding and acting meet.

Nothing else touches the world. A state is on disk before its actions start; a disk that refuses it stops every action
but those that protect jobs or put things back.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import structlog

from refloat_agent import boot_gate, in_service, machine
from refloat_agent.actions import WITHOUT_JOURNAL
from refloat_agent.journal import Journal
from refloat_agent.moves import Decision
from refloat_agent.observation import GateFacts, Observation, SlurmFacts, Wants
from refloat_agent.performer import Performer
from refloat_agent.ports import Clock, Processes, SlurmNode
from refloat_agent.state import Policy, State, move
from refloat_contract.errors import RefloatError
from refloat_contract.messages import Event
from refloat_contract.words import Phase
from refloat_slurm.gateway import Job

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two looks at a cycle that waits for something which does not wake us."""

    draining_s: float = 5.0
    working_s: float = 1.0


DEFAULT_PACE: Final = Pace()


@dataclass(slots=True)
class Loop:
    """One node's loop. ``tick`` is one round; ``run`` goes on until cancelled."""

    policy: Policy
    journal: Journal
    performer: Performer
    clock: Clock
    processes: Processes
    on_decision: Callable[[Decision, Observation], None]
    state: State
    pace: Pace = DEFAULT_PACE
    gate: Callable[[], GateFacts] = GateFacts
    ticks: int = 0
    journal_error: str = ""
    told: deque[Event] = field(default_factory=lambda: deque(maxlen=200))
    """The latest events of this life, for whoever asks the agent itself."""
    _again_s: float | None = None
    _outdated_s: float | None = None
    _saved: State | None = None
    _stimulus: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Something may have changed: look again at once."""
        self._stimulus.set()

    async def run(self) -> None:
        """Go round until cancelled."""
        while True:
            self._stimulus.clear()
            if await self.tick():
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._stimulus.wait()

    def _pause_s(self) -> float:
        pauses, now_s = [self._usual_pause_s()], self.clock.boottime_s()
        if self._again_s is not None:
            pauses.append(max(0.0, self._again_s - now_s))
        if self._outdated_s is not None:
            # Never at once: should a look not read what is outdated, the agent must not turn in circles.
            pauses.append(max(self.pace.working_s, self._outdated_s - now_s))
        return min(pauses)

    def _usual_pause_s(self) -> float:
        cycle = self.state.cycle
        if cycle is None:
            return self.pace.working_s if self.state.restore else self.policy.poll_s * random.uniform(1.0, 1.2)  # noqa: S311
        if cycle.phase is Phase.HELD and cycle.hold_shown:
            return self.policy.poll_s
        return self.pace.draining_s if cycle.phase is Phase.DRAINING else self.pace.working_s

    async def tick(self) -> bool:
        """One round; returns whether the state moved, so that the next phase need not wait."""
        seen = await self._observe()
        decide = machine.decide if self.state.cycle is not None else in_service.decide
        decision = decide(self.state, seen, self.policy)
        move(self.state.cycle, decision.state.cycle)
        if decision.state.cycle is None or not machine.may_harm(decision.state.cycle, self.policy):
            self.performer.stop_unsafe()
        saved = await self._save(decision.state)
        moved = saved and decision.state.cycle != self.state.cycle
        if saved or decision.state.cycle == self.state.cycle:
            self._log_move(decision.state)
            self.state = decision.state
        allowed = decision.actions if saved else tuple(a for a in decision.actions if isinstance(a, WITHOUT_JOURNAL))
        await self._tell()
        why = decision.why if saved else f"{decision.why} (the journal cannot be written: {self.journal_error})"
        self.performer.perform(allowed)
        self.ticks += 1
        self._again_s, self._outdated_s = decision.again_s, self._outdated_at(seen)
        self.on_decision(replace(decision, state=self.state, why=why), seen)
        return moved

    async def _observe(self) -> Observation:
        effects = self.performer.effects
        hint = effects.slurm.latest()
        health, gate, permit = effects.health.facts(), self.gate(), effects.reporter.permit()
        if self.state.cycle is not None:
            wanted = machine.wants(self.state, hint, self.policy, permit)
        else:
            wanted = in_service.wants(self.state, hint, health, self.policy, gate, permit)
        outcomes, busy = self.performer.take(), self.performer.busy
        slurm, error = await self._slurm(effects.slurm, hint, wanted)
        jobs, jobs_error = await self._jobs(effects.slurm, wanted)
        seen = Observation(
            now_s=self.clock.boottime_s(),
            wall_ns=self.clock.wall_ns(),
            boot_id=effects.power.boot_id(),
            slurm=slurm,
            slurm_error=error or jobs_error,
            jobs=jobs,
            steps=await _told(self.processes.steps) if wanted.steps else None,
            storage=await _told(effects.mounts.state) if wanted.storage else None,
            services=await _told(effects.services.state) if wanted.services else None,
            registered=await _told(effects.slurm.is_registered) if self._asks_registration(wanted, slurm) else None,
            health=effects.health.facts(),
            # What was not read because a denial rests is not missed a moment later.
            permit=permit if permit.rests else effects.reporter.permit(),
            gate=gate,
            outcomes=outcomes,
            busy=busy,
            image=effects.power.image(),
        )
        return boot_gate.judged(self.state, seen)

    def _outdated_at(self, seen: Observation) -> float | None:
        """When the agent has to read its node again (CLOCK_BOOTTIME), however often something else makes it look."""
        slurm = seen.slurm
        if slurm is None or slurm.from_feed or slurm.rests or seen.slurm_error:
            return None
        # Jitter keeps the nodes of a cluster from asking slurmctld in step.
        return seen.now_s - slurm.age_s + self.policy.poll_s * random.uniform(1.0, 1.2)  # noqa: S311

    def _asks_registration(self, wanted: Wants, slurm: SlurmFacts | None) -> bool:
        # It may cost slurmctld its whole node table, and means nothing once the node is resumed.
        return (
            wanted.registered
            and slurm is not None
            and slurm.fresh
            and not {"DRAIN", "DOWN"}.isdisjoint(slurm.view.flags)
        )

    async def _slurm(self, node: SlurmNode, hint: SlurmFacts | None, wanted: Wants) -> tuple[SlurmFacts | None, str]:
        if not wanted.slurm:
            return hint, ""
        try:
            return SlurmFacts(await node.read(), fresh=True), ""
        except RefloatError as error:
            return hint, str(error)

    async def _jobs(self, node: SlurmNode, wanted: Wants) -> tuple[tuple[Job, ...] | None, str]:
        if not wanted.jobs:
            return None, ""
        try:
            return await node.jobs(), ""
        except RefloatError as error:
            return None, str(error)

    async def _save(self, state: State) -> bool:
        if state == self._saved:
            return True
        try:
            await self.journal.save(state)
        except RefloatError as error:
            if self.journal_error != str(error):
                log.error("journal_not_written", error=str(error))  # noqa: TRY400 - the sentence says it all
            # A write that failed late may have replaced the file all the same: what is on disk is not known any more.
            self.journal_error, self._saved = str(error), None
            return False
        self._saved, self.journal_error = state, ""
        return True

    async def _tell(self) -> None:
        if not self.state.outbox:
            return
        try:
            await self.performer.effects.reporter.deliver(self.state.outbox)
        except RefloatError as error:
            log.warning("events_not_delivered", error=str(error), waiting=len(self.state.outbox))
            return
        self.told.extend(self.state.outbox)
        self.state = replace(self.state, outbox=())

    def _log_move(self, after: State) -> None:
        for event in after.outbox[len(self.state.outbox) :]:
            log.info(
                event.kind.value, title=event.title, message=event.message, phase=event.phase, cycle=event.cycle or None
            )


async def _told(ask: Callable[[], Awaitable[T]]) -> T | None:
    """What an adapter says; None when it could not tell."""
    try:
        return await ask()
    except RefloatError as error:
        log.warning("not_told", asked=getattr(ask, "__qualname__", repr(ask)), error=str(error))
        return None
