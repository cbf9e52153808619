# SPDX-License-Identifier: Apache-2.0
"""What is still to be published: the newest of each retained topic until it arrived, orders once."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from refloat_contract.errors import RefloatError, Refused
from refloat_coordinator.clock import Clock
from refloat_service.mqtt import Publication

log = structlog.get_logger(__name__)

_IN_FLIGHT: Final = 64
_RETRY_S: Final = 1.0


class Outgoing:
    """A mailbox with one postman, so that nobody who decides waits for the broker."""

    def __init__(self, publish: Callable[[Publication], Awaitable[None]], clock: Clock) -> None:
        self._publish = publish
        self._clock = clock
        self._retained: dict[str, Publication] = {}
        self._orders: deque[Publication] = deque()
        self._news = asyncio.Event()

    def put(self, publication: Publication) -> None:
        """Publish this soon. An order that does not arrive is dropped: its agent asks again."""
        if publication.retain:
            self._retained[publication.topic] = publication
        else:
            self._orders.append(publication)
        self._news.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            if not await self.flush():
                await self._clock.sleep(_RETRY_S)
                self._news.set()

    async def flush(self) -> bool:
        """Publish what there is; answers whether nothing is left."""
        batch = [*self._orders, *self._retained.values()]
        self._orders.clear()
        for start in range(0, len(batch), _IN_FLIGHT):
            await asyncio.gather(*(self._send(publication) for publication in batch[start : start + _IN_FLIGHT]))
        return not self._retained

    async def _send(self, publication: Publication) -> None:
        try:
            await self._publish(publication)
        except Refused as error:
            # Tried again it would be refused again; the broker's ACL is to be mended.
            log.warning("publication_refused", topic=publication.topic, why=str(error))
        except RefloatError as error:
            log.debug("not_published", topic=publication.topic, why=str(error))
            return
        if self._retained.get(publication.topic) is publication:
            del self._retained[publication.topic]
