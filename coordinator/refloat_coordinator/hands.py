# SPDX-License-Identifier: Apache-2.0
"""What waves do to Slurm: mark a node, give a drain back, end jobs where an operator said so.

All look first, and leave alone what is not theirs.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from refloat_contract import reasons
from refloat_contract.errors import RefloatError
from refloat_contract.messages import Event
from refloat_contract.reasons import Dialect, Hold, Progress, Trigger
from refloat_contract.words import EventKind
from refloat_coordinator.lease import Deposed
from refloat_coordinator.waves.decisions import EndJobs, Errand, GiveBack, Mark
from refloat_slurm import states
from refloat_slurm.gateway import Change, ClusterGateway, JobEnd, NodeView

log = structlog.get_logger(__name__)

DONE_ALREADY: Final = "done already"
WRITTEN: Final = "written"
NOT_OURS: Final = "not ours"
UNREACHABLE: Final = "unreachable"
_COMPLETING: Final = "COMPLETING"


async def _surely() -> None:
    """There is no other."""


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that was told to end; ``why`` is what Slurm said where it refused."""

    id: str
    user: str
    why: str = ""


OnEnded = Callable[[EndJobs, Sequence[EndedJob]], Awaitable[None]]


async def _nobody(_errand: EndJobs, _jobs: Sequence[EndedJob]) -> None:
    """Nobody wants to know."""


class Hands:
    """Writes to Slurm for the waves. The next read of the feed tells what came of it.

    ``on_written`` is told of each node that was written, so that its agent need not wait for that read; ``on_ended`` of
    the jobs that were told to end. ``still_leads`` is asked right before each write, and raises where another
    coordinator leads.
    """

    def __init__(
        self,
        gateway: ClusterGateway,
        dialect: Dialect,
        on_written: Callable[[str], None] = lambda _node: None,
        still_leads: Callable[[], Awaitable[None]] = _surely,
        on_ended: OnEnded = _nobody,
    ) -> None:
        self._gateway = gateway
        self._dialect = dialect
        self._on_written = on_written
        self._still_leads = still_leads
        self._on_ended = on_ended

    async def perform(self, errand: Errand) -> str:
        """Do it, if a fresh look at the node still allows; answers with what was done.

        Raises:
            Deposed: another coordinator leads.
        """
        try:
            view = await self._gateway.node(errand.node)
            outcome = self._verdict(errand, view)
            if outcome == WRITTEN:
                await self._still_leads()
                await self._write(errand)
        except Deposed:
            raise
        except RefloatError as error:
            # A write that timed out may be applied later: the feed shows it, and nothing is written before.
            log.warning("node_not_written", wave=errand.wave, node=errand.node, why=str(error))
            return UNREACHABLE
        shown = "+".join(sorted(view.flags))
        log.info(_name(errand), wave=errand.wave, node=errand.node, outcome=outcome, state=shown, reason=view.reason)
        return outcome

    def _verdict(self, errand: Errand, view: NodeView) -> str:
        if isinstance(errand, Mark):
            return self._may_mark(errand, view)
        # For a node that is given back, and for one whose jobs are ended: the mark must stand as the wave wrote it.
        ours = states.is_drain_set(view) and "DOWN" not in view.flags and reasons.is_same(view.reason, errand.reason)
        return WRITTEN if ours else NOT_OURS

    def _may_mark(self, errand: Mark, view: NodeView) -> str:
        if not states.is_drain_set(view):
            return WRITTEN if states.is_in_service(view) else NOT_OURS
        match reasons.parse(view.reason, self._dialect):
            case Trigger(wave=errand.wave) | Progress(wave=errand.wave):
                return DONE_ALREADY
            case Hold(cycle=cycle) if errand.replaces and (not cycle or cycle in errand.replaces):
                return WRITTEN
            case _:
                return NOT_OURS

    async def _write(self, errand: Errand) -> None:
        match errand:
            case Mark():
                await self._gateway.update(errand.node, Change.DRAIN, errand.reason)
            case GiveBack():
                await self._gateway.update(errand.node, Change.RESUME)
            case EndJobs():
                await self._end_jobs(errand)
        self._on_written(errand.node)

    async def _end_jobs(self, errand: EndJobs) -> None:
        ended: list[EndedJob] = []
        for job in await self._gateway.jobs(errand.node):
            if job.state == _COMPLETING:
                continue
            await self._still_leads()  # for each: it takes a while, and a job that was ended is gone
            why = ""
            try:
                await self._gateway.end_job(job.id, errand.how)
            except RefloatError as error:
                why = str(error)
            log.warning(
                "job_ended",
                job=job.id,
                user=job.user,
                how=errand.how,
                node=errand.node,
                wave=errand.wave,
                by=errand.by,
                why=why,
            )
            ended.append(EndedJob(job.id, job.user, why))
        if ended:
            await self._on_ended(errand, ended)


def told(errand: EndJobs, jobs: Sequence[EndedJob], at_ns: int) -> Event:
    """What the record has to learn of jobs that were told to end."""
    done = {JobEnd.REQUEUE: "requeued", JobEnd.CANCEL: "cancelled"}[errand.how]
    said = ", ".join(f"job {job.id} of {job.user}{f' (refused: {job.why})' if job.why else ''}" for job in jobs)
    return Event(
        id=f"{errand.wave}-jobs-{errand.node}-{errand.attempt}-{'-'.join(sorted(job.id for job in jobs))}"[:128],
        node=errand.node,
        at_ns=at_ns,
        kind=EventKind.JOBS_ENDED,
        title=f"Jobs {done}",
        message=f"{errand.wave}: {done}, as {errand.by or 'an operator'} asked: {said}",
        wave=errand.wave,
        operator=errand.by,
    )


def _name(errand: Errand) -> str:
    match errand:
        case Mark():
            return "node_marked"
        case GiveBack():
            return "drain_given_back"
        case EndJobs():
            return "jobs_told_to_end"
