# SPDX-License-Identifier: Apache-2.0
"""This node in Slurm: the coordinator's feed while it is fresh, own reads when it is not or when it matters."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final

import structlog

from refloat_agent.observation import SlurmFacts
from refloat_agent.ports import Clock, Processes
from refloat_contract.errors import RefloatError, Transient
from refloat_contract.messages import CoordinatorStatus, SlurmView
from refloat_slurm.gateway import Change, Job, NodeView, Registration, SlurmGateway

log = structlog.get_logger(__name__)

FEED_PERIODS: Final = 3
"""A feed that has been silent for more periods than this is stale."""
REGISTRATION_TOLERANCE_S: Final = 5.0
"""Between slurmd's start as the kernel has it and as slurmd told it to slurmctld: both by this node's clock."""
BACK_OFF_S: Final = (1.0, 15.0)
READS_PER_S: Final = 25.0
"""What the agents of all nodes together ask of slurmctld, on average, when their feed falls silent: so few that the
chance of twice as many in any one second is nil. Only looks that nothing asks for are put off; a decision is not."""
FIRST_LOOK_S: Final = 40.0


@dataclass(slots=True)
class AgentSlurm:
    """One node, through a gateway and the feed."""

    gateway: SlurmGateway
    node: str
    clock: Clock
    processes: Processes
    _own: NodeView | None = None
    _own_s: float = 0.0
    _fed: SlurmView | None = None
    _fed_s: float = 0.0
    _heartbeat: CoordinatorStatus | None = None
    _heartbeat_s: float = 0.0
    _rest_until_s: float | None = None
    _nodes: int = 0
    _failures: int = 0
    _retry_s: float = 0.0
    _failure: str = ""
    _doubted: bool = False
    stale_feed: int = field(default=0)

    def offer(self, view: SlurmView, *, kept: bool = False) -> None:
        """Take the feed's view of this node; one that is older than what is known is ignored, and counted.

        One that the broker ``kept`` for us is as old as the last heartbeat, any other as new as it seems.
        """
        known = self._fed
        if known is not None and (view.epoch, view.seq) < (known.epoch, known.seq):
            self.stale_feed += 1
            return
        self._fed = view
        if not kept:
            self._fed_s = self.clock.boottime_s()

    def heartbeat(self, status: CoordinatorStatus) -> None:
        """Take the coordinator's word that its feed is alive."""
        self._heartbeat = status
        self._heartbeat_s = self.clock.boottime_s()
        self._nodes = status.nodes or self._nodes
        if status.online and status.slurm_ok:
            self._rest_until_s = None  # the next silence is another one

    def doubt(self) -> None:
        """What is known may be outdated: the next decision reads the node itself."""
        self._doubted = True

    def feed_age_s(self) -> float | None:
        """How old the feed's view of this node may be; None when there is no feed to trust."""
        beat, view = self._heartbeat, self._fed
        if beat is None or view is None or not (beat.online and beat.slurm_ok and view.known):
            return None
        now_s = self.clock.boottime_s()
        # A view comes before the heartbeat of the read that saw it, so its seq may be the higher one.
        if view.epoch != beat.epoch or now_s - self._heartbeat_s > FEED_PERIODS * beat.period_s:
            return None
        return now_s - max(self._heartbeat_s, self._fed_s)

    def latest(self) -> SlurmFacts | None:
        """The newest view at hand; none after a doubt, until the node was read again."""
        if self._doubted:
            return None
        now_s = self.clock.boottime_s()
        feed_age_s, own_age_s = self.feed_age_s(), now_s - self._own_s
        if feed_age_s is not None:
            self._rest_until_s = None
        if self._fed is not None and feed_age_s is not None and (self._own is None or feed_age_s < own_age_s):
            return SlurmFacts(_from_feed(self._fed), fresh=False, age_s=feed_age_s, from_feed=True)
        rests = feed_age_s is None and now_s < self._rest_until(now_s)
        fed_age_s = now_s - max(self._fed_s, self._heartbeat_s)
        if self._fed is not None and self._fed.known and rests and (self._own is None or fed_age_s < own_age_s):
            return SlurmFacts(_from_feed(self._fed), fresh=False, age_s=fed_age_s, rests=True)
        return SlurmFacts(self._own, fresh=False, age_s=own_age_s, rests=rests) if self._own is not None else None

    def _rest_until(self, now_s: float) -> float:
        """Until when slurmctld is not asked just to look: every node has lost its feed in the same instant."""
        if self._rest_until_s is None:
            over_s = self._nodes / READS_PER_S
            # All were woken in this instant, and many look again at about the same time: not at this first look yet.
            self._rest_until_s = now_s + min(over_s, FIRST_LOOK_S) + over_s * random.random()  # noqa: S311 - spreading load
        return self._rest_until_s

    async def read(self) -> NodeView:
        """Read the node now, unless the last attempt failed so recently that slurmctld is better left alone.

        Raises:
            RefloatError: what the gateway raised, or the last failure again while backing off.
        """
        now_s = self.clock.boottime_s()
        if now_s < self._retry_s:
            raise Transient(self._failure)
        doubted, self._doubted = self._doubted, False
        try:
            view = await self.gateway.node(self.node)
        except RefloatError as error:
            self._doubted = doubted or self._doubted
            self._back_off(error)
            raise
        if self._failures:
            log.info("slurm_answers_again", after_failures=self._failures)
        self._failures, self._retry_s, self._failure = 0, 0.0, ""
        # As old as the question: what the feed or a poke says meanwhile is newer.
        self._own, self._own_s = view, now_s
        if self._rest_until_s is not None:
            # Never sooner: while some look for the first time, nobody is to look again.
            self._rest_until_s = self._own_s + self._nodes / READS_PER_S * random.uniform(1.0, 1.2)  # noqa: S311 - the same
        return view

    def _back_off(self, error: RefloatError) -> None:
        least, most = BACK_OFF_S
        delay_s = min(most, least * 2**self._failures) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        if self._failures == 0:
            log.warning("slurm_does_not_answer", error=str(error), retry_after_s=round(delay_s, 1))
        self._failures = min(self._failures + 1, 10)
        self._retry_s, self._failure = self.clock.boottime_s() + delay_s, str(error)

    async def jobs(self) -> tuple[Job, ...]:
        """The jobs that hold the node."""
        return await self.gateway.jobs(self.node)

    async def is_registered(self) -> bool:
        """Whether the slurmd that runs here is the one that slurmctld has registered.

        BootTime is computed by slurmctld and jitters, and its clock is not ours; SlurmdStartTime comes from this node.
        The feed tells both; to ask for them may cost slurmctld its whole node table.
        """
        fed = self._fed if self.feed_age_s() is not None else None
        view = _from_feed(fed) if fed is not None else await self.gateway.node_in_full(self.node)
        known = view.registration or Registration(0, 0)
        if "NOT_RESPONDING" in view.flags or not known.slurmd_start_time:
            return False
        starts = await asyncio.to_thread(self.processes.started_at, "slurmd")
        return any(abs(start - known.slurmd_start_time) <= REGISTRATION_TOLERANCE_S for start in starts)

    async def update(self, change: Change, reason: str | None = None) -> None:
        """Write to Slurm; the next read tells whether it took."""
        await self.gateway.update(self.node, change, reason)


def _from_feed(view: SlurmView) -> NodeView:
    return NodeView(
        name=view.node,
        flags=frozenset(view.flags),
        reason=view.reason,
        reason_user=view.reason_user,
        reason_at=view.reason_at,
        registration=Registration(view.boot_time, view.slurmd_start_time),
    )
