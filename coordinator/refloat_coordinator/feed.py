# SPDX-License-Identifier: Apache-2.0
"""The feed: Slurm's node table is read once for all, and told to every agent whose node changed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
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

_IN_FLIGHT: Final = 64
_BOOT_TIME_JITTER_S: Final = 3
# Comes and goes with every pass of the scheduler, and says nothing about the node.
_NOISE: Final = frozenset({"PLANNED"})


class Feed:
    """Reads Slurm's table and publishes what changed. ``epoch`` rises whenever a coordinator begins to lead."""

    def __init__(
        self,
        gateway: SlurmGateway,
        publish: Publish,
        topics: Topics,
        clock: Clock,
        *,
        epoch: int,
        period_s: float,
        version: str = "",
        ledger: str = "",
        host: str = "",
    ) -> None:
        self._gateway = gateway
        self._publish = publish
        self._topics = topics
        self._clock = clock
        self._epoch = epoch
        self._me = CoordinatorStatus(
            online=True, epoch=epoch, period_s=period_s, version=version, ledger=ledger, host=host
        )
        self._seq = 0
        self._views: dict[str, SlurmView] = {}
        self._told: dict[str, SlurmView] = {}
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
        """Publish what is not yet told, then the heartbeat; answers whether all of it arrived.

        ``slurm_ok`` promises that every retained view is as fresh as the heartbeat, so it comes last, and only then.
        """
        told = await self._tell_views()
        beat = self._me.model_copy(update={"seq": self._seq, "slurm_ok": slurm_ok and told})
        return await self._try(Publication(self._topics.coordinator(), encode(beat), retain=True)) and told

    def forget_told(self) -> None:
        """Tell everything again: the broker is another one, or lost what it kept."""
        self._told.clear()

    def _changes(self, table: Mapping[str, NodeView]) -> tuple[SlurmView, ...]:
        changed: list[SlurmView] = []
        for name, node in table.items():
            old = self._views.get(name)
            if old is None or not _is_same(old, node):
                changed.append(view_of(node, self._epoch, self._seq))
        for name, old in self._views.items():
            if old.known and name not in table:
                changed.append(SlurmView(node=name, epoch=self._epoch, seq=self._seq, known=False))
        self._views.update((view.node, view) for view in changed)
        return tuple(changed)

    async def _tell_views(self) -> bool:
        due = [view for name, view in self._views.items() if self._told.get(name) is not view]
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
        self._told[view.node] = view
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
        flags=tuple(sorted(node.flags)),
        reason=node.reason,
        reason_user=node.reason_user,
        reason_at=node.reason_at,
        boot_time=registration.boot_time if registration else 0,
        slurmd_start_time=registration.slurmd_start_time if registration else 0,
    )


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
