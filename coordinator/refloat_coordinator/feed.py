# SPDX-License-Identifier: Apache-2.0
"""The feed: Slurm's node table is read once for all, and told to every agent whose node changed.

Slurm has no answer for "what has changed since": only the C library can ask whether anything has, and while jobs come
and go something always has. So the whole table is read, at the cost of one call, and compared here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Final

import structlog

from refloat_contract.errors import RefloatError
from refloat_contract.messages import CoordinatorStatus, SlurmView, encode
from refloat_contract.topics import Kind, Topics
from refloat_coordinator.clock import Clock
from refloat_coordinator.fleet import Read, Unread
from refloat_service.mqtt import Publication
from refloat_slurm.gateway import NodeView, SlurmGateway

log = structlog.get_logger(__name__)

Publish = Callable[[Publication], Awaitable[None]]

BEATS_PER_S: Final = 1000
"""So many copies of the heartbeat may reach agents in a second: with more nodes than that in a period it is longer."""
_IN_FLIGHT: Final = 64
_BOOT_TIME_JITTER_S: Final = 3
# Comes and goes with every pass of the scheduler, and says nothing about the node.
_NOISE: Final = frozenset({"PLANNED"})


_NOBODY: Final = CoordinatorStatus(online=True)


class Feed:
    """Reads Slurm's table and publishes what changed.

    ``epoch`` rises whenever a coordinator begins to lead; ``me`` is the one that does. ``heartbeat_s`` is the time
    between two heartbeats; what changed is told at once.
    """

    def __init__(
        self,
        gateway: SlurmGateway,
        publish: Publish,
        topics: Topics,
        clock: Clock,
        *,
        epoch: int,
        heartbeat_s: float,
        me: CoordinatorStatus = _NOBODY,
    ) -> None:
        self._gateway = gateway
        self._publish = publish
        self._topics = topics
        self._clock = clock
        self._epoch = epoch
        self._me = me.model_copy(update={"online": True, "epoch": epoch, "period_s": heartbeat_s})
        self._seq = 0
        self._table: Mapping[str, NodeView] = {}
        self._views: dict[str, SlurmView] = {}
        self._untold: dict[str, SlurmView] = {}
        self._beat: CoordinatorStatus | None = None
        self._beat_at = 0.0
        self._was_ok = True

    @property
    def seq(self) -> int:
        """How many reads were good."""
        return self._seq

    async def read(self) -> Read | Unread:
        """Read the table once; answers with what changed since the last good read."""
        began_at = self._clock.now()
        try:
            table = await self._gateway.nodes()
        except RefloatError as error:
            self._say(ok=False, why=str(error))
            return Unread(str(error))
        self._say(ok=True)
        self._seq += 1
        return Read(began_at, self._changes(table))

    async def tell(self, *, slurm_ok: bool) -> bool:
        """Publish what is not yet told, then the heartbeat if it is due; answers whether all of it arrived.

        ``slurm_ok`` promises that every retained view is as fresh as the heartbeat, so it comes last, and only then.
        """
        told = await self._tell_views()
        beat = self._new_beat(slurm_ok=slurm_ok and told)
        if self._is_due(beat):
            # The next one makes up for one that is lost: no need to have thousands of receipts.
            if not await self._try(Publication(self._topics.coordinator(), encode(beat), retain=True, qos=0)):
                return False
            self._beat, self._beat_at = beat, self._clock.now()
        return told

    def forget_told(self) -> None:
        """Tell everything again: the broker is another one, or lost what it kept."""
        self._untold = dict(self._views)
        self._beat = None

    def _new_beat(self, *, slurm_ok: bool) -> CoordinatorStatus:
        nodes = len(self._table)
        period_s = max(self._me.period_s, nodes / BEATS_PER_S)
        return self._me.model_copy(
            update={"seq": self._seq, "period_s": period_s, "nodes": nodes, "slurm_ok": slurm_ok}
        )

    def _is_due(self, beat: CoordinatorStatus) -> bool:
        last = self._beat
        if last is None or last.slurm_ok != beat.slurm_ok:
            return True
        # By the nearest read, not by the one after it.
        return self._clock.now() - self._beat_at > 0.9 * beat.period_s

    def _changes(self, table: Mapping[str, NodeView]) -> tuple[SlurmView, ...]:
        before, self._table = self._table, table
        changed: list[SlurmView] = []
        for name, node in table.items():
            if before.get(name) == node:
                continue
            old = self._views.get(name)
            if old is None or not _is_same(old, node):
                changed.append(view_of(node, self._epoch, self._seq))
        gone = before.keys() - table.keys()
        changed += [SlurmView(node=name, epoch=self._epoch, seq=self._seq, known=False) for name in sorted(gone)]
        news = {view.node: view for view in changed}
        self._views.update(news)
        self._untold.update(news)
        return tuple(changed)

    async def _tell_views(self) -> bool:
        due = list(self._untold.values())
        for start in range(0, len(due), _IN_FLIGHT):
            batch = due[start : start + _IN_FLIGHT]
            arrived = await asyncio.gather(*(self._tell_view(view) for view in batch))
            if not all(arrived):
                return False  # the broker is gone: the rest follows when it is back
        return True

    async def _tell_view(self, view: SlurmView) -> bool:
        topic = self._topics.node(view.node, Kind.SLURM)
        if not await self._try(Publication(topic, encode(view), retain=True)):
            return False
        if self._untold.get(view.node) is view:
            del self._untold[view.node]
        return True

    async def _try(self, publication: Publication) -> bool:
        try:
            await self._publish(publication)
        except RefloatError as error:
            log.debug("not_published", topic=publication.topic, why=str(error))
            return False
        return True

    def _say(self, *, ok: bool, why: str = "") -> None:
        if ok and not self._was_ok:
            log.info("slurm_answers_again")
        if not ok and self._was_ok:
            log.warning("slurm_does_not_answer", why=why)
        self._was_ok = ok


def view_of(node: NodeView, epoch: int, seq: int) -> SlurmView:
    """The node as it is told to its agent."""
    registration = node.registration
    return SlurmView(
        node=node.name,
        epoch=epoch,
        seq=seq,
        flags=_listed(node.flags),
        reason=node.reason,
        reason_user=node.reason_user,
        reason_at=node.reason_at,
        boot_time=registration.boot_time if registration else 0,
        slurmd_start_time=registration.slurmd_start_time if registration else 0,
    )


@lru_cache(maxsize=1024)
def _listed(flags: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(flags))


def _is_same(view: SlurmView, node: NodeView) -> bool:
    boot, started = (node.registration.boot_time, node.registration.slurmd_start_time) if node.registration else (0, 0)
    return (
        view.known
        and frozenset(view.flags) - _NOISE == node.flags - _NOISE
        and (view.reason, view.reason_user, view.reason_at) == (node.reason, node.reason_user, node.reason_at)
        and view.slurmd_start_time == started
        and bool(view.boot_time) == bool(boot)
        and abs(view.boot_time - boot) <= _BOOT_TIME_JITTER_S
    )
