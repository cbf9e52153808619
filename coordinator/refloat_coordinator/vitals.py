# SPDX-License-Identifier: Apache-2.0
"""How the coordinator is: as numbers for a scraper, and as yes or no for whoever restarts or routes to it."""

from collections.abc import Iterator
from dataclasses import dataclass

from refloat_contract.errors import RefloatError
from refloat_coordinator.bus import Inbox
from refloat_coordinator.clock import Clock
from refloat_coordinator.loop import Loop
from refloat_coordinator.metrics import gauges
from refloat_coordinator.metrics.gauges import Gauge
from refloat_coordinator.metrics.http import Answer, Page
from refloat_coordinator.metrics.prometheus import Metrics
from refloat_coordinator.operators.over_mqtt import Operators
from refloat_coordinator.permits.rooms import Rooms
from refloat_coordinator.record.ledger import Ledger
from refloat_coordinator.record.notifications import Notices
from refloat_coordinator.record.outbox import Outbox
from refloat_service.mqtt import Link


@dataclass(frozen=True, slots=True)
class Leading:
    """The parts of a coordinator that leads, as far as they tell numbers."""

    epoch: int
    loop: Loop
    ledger: Ledger
    inbox: Inbox
    operators: Operators
    link: Link
    outbox: Outbox | None
    notices: tuple[Notices, ...] = ()


class Vitals:
    """``leading`` is None while another coordinator leads. ``stalled_s``: a loop without a step for so long is dead."""

    def __init__(self, clock: Clock, stalled_s: float) -> None:
        self.leading: Leading | None = None
        self.metrics = Metrics(self.read)
        self._clock = clock
        self._stalled_s = stalled_s

    def pages(self) -> dict[str, Page]:
        """The pages of the HTTP server."""
        return {"/metrics": self.metrics.page, "/healthz": self.healthz, "/readyz": self.readyz}

    def is_alive(self) -> bool:
        """Whether the loop makes progress, or has none to make."""
        return self.leading is None or self._clock.now() - self.leading.loop.stepped_at < self._stalled_s

    async def healthz(self) -> Answer:
        """200 while a restart would mend nothing."""
        return Answer(200, b"alive\n") if self.is_alive() else Answer(503, b"the loop has stalled\n")

    async def readyz(self) -> Answer:
        """200 from the one that leads, once it has read Slurm's node table."""
        if self.leading is None:
            return Answer(503, b"standing by\n")
        if not self.leading.loop.fleet.reads:
            return Answer(503, b"Slurm's node table has not been read yet\n")
        return Answer(200, b"leads\n")

    async def tally(self, loop: Loop) -> None:
        """Count the loop's new events until cancelled."""
        queue = loop.followers.follow()
        try:
            while True:
                self.metrics.tally(await queue.get())
        finally:
            loop.followers.unfollow(queue)

    def fleet(self) -> list[Gauge]:
        """What is told of the nodes; nothing before they have been read."""
        if self.leading is None or not self.leading.loop.fleet.reads:
            return []
        loop = self.leading.loop
        rooms = Rooms(loop.fleet, loop.permits, loop.budget, self._clock.now())
        return gauges.measure(loop.fleet, loop.permits, rooms, loop.waves.values(), loop.breaker)

    async def read(self) -> list[Gauge]:
        """All numbers as they are now."""
        if self.leading is None:
            return [Gauge(gauges.LEADS, 0)]
        return [*self.fleet(), *self._daemon(self.leading), *await self._backlog(self.leading)]

    def _daemon(self, own: Leading) -> Iterator[Gauge]:
        loop, outbox = own.loop, own.outbox
        yield Gauge(gauges.LEADS, 1)
        yield Gauge(gauges.EPOCH, own.epoch)
        yield Gauge(gauges.SLURM, loop.fleet.slurm_ok)
        yield Gauge(gauges.READS, loop.fleet.reads)
        yield Gauge(gauges.SAVES, not loop.trouble)
        yield Gauge(gauges.AGE, self._clock.now() - loop.stepped_at)
        yield Gauge(gauges.BROKER, own.link.connected)
        yield Gauge(gauges.MALFORMED, own.inbox.malformed)
        yield Gauge(gauges.UNANSWERED, own.operators.dropped)
        if outbox is not None:
            yield Gauge(gauges.WRITTEN, outbox.delivered)
            yield Gauge(gauges.FAILURES, outbox.failures)
        for notices in own.notices:
            for outcome, count in notices.counts.items():
                yield Gauge(gauges.NOTICES, count, notices.name, outcome)

    async def _backlog(self, own: Leading) -> list[Gauge]:
        try:
            backlog = await own.ledger.backlog()
        except RefloatError:
            return []  # SAVES tells it
        return [
            Gauge(gauges.WAITING, backlog.waiting),
            Gauge(gauges.REJECTED, backlog.rejected),
            Gauge(gauges.DROPPED, backlog.dropped),
        ]
