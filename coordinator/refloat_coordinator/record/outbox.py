# SPDX-License-Identifier: Apache-2.0
"""The outbox: events leave the ledger for InfluxDB in their order, however long it was away."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from refloat_contract.errors import Transient
from refloat_coordinator.clock import Clock
from refloat_coordinator.record.influx import BadPoints, Writer, line
from refloat_coordinator.record.ledger import Ledger, Pending

log = structlog.get_logger(__name__)

BATCH: Final = 500
_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 60.0


class Outbox:
    """Delivers what the ledger holds.

    ``delivered`` counts events that the database has taken, ``rejected`` those that it never will, ``failures`` the
    writes that it did not take now.
    """

    def __init__(
        self,
        ledger: Ledger,
        writer: Writer,
        clock: Clock,
        *,
        measurement: str,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.delivered = 0
        self.rejected = 0
        self.failures = 0
        self._ledger = ledger
        self._writer = writer
        self._clock = clock
        self._measurement = measurement
        self._spread = spread
        self._news = asyncio.Event()
        self._complaint = ""

    def wake(self) -> None:
        """There is something to deliver."""
        self._news.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        again = await self._ledger.retry_rejected()
        if again:
            log.info("rejected_events_queued_again", count=again)
        self._news.set()
        delay_s = _FIRST_DELAY_S
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                while await self.deliver():
                    delay_s = _FIRST_DELAY_S
            except Transient as error:
                self.failures += 1
                self._complain(str(error))
                # Jitter: a database that comes back must not meet all its clients in the same instant.
                await self._clock.sleep(self._spread(delay_s / 2, delay_s))
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
                self._news.set()

    async def deliver(self) -> int:
        """Deliver one batch; answers with how many events are off the list.

        Raises:
            Transient: the database did not take them now; they stay.
        """
        pending = await self._ledger.pending(BATCH)
        if pending:
            await self._deliver(pending)
            if self._complaint:
                log.info("influx_takes_events_again")
            self._complaint = ""
        return len(pending)

    async def _deliver(self, batch: Sequence[Pending]) -> None:
        try:
            await self._writer.write([line(item.event, self._measurement) for item in batch])
        except BadPoints as error:
            if len(batch) == 1:
                await self._set_aside(batch[0], str(error))
                return
            # One of them is at fault: halve, until it stands alone. What was written already is the same point again.
            middle = len(batch) // 2
            await self._deliver(batch[:middle])
            await self._deliver(batch[middle:])
        else:
            await self._ledger.delivered([item.seq for item in batch])
            self.delivered += len(batch)

    async def _set_aside(self, item: Pending, why: str) -> None:
        self.rejected += 1
        await self._ledger.reject(item.seq, why)
        log.error("event_rejected", id=item.event.id, why=why, so_far=self.rejected)

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            log.warning("influx_does_not_take_events", why=why)
        self._complaint = why
