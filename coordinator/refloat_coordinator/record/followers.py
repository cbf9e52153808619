# SPDX-License-Identifier: Apache-2.0
"""Followers: who wants to see every new event of the record as it comes."""

import asyncio
from collections.abc import Collection
from typing import Final

from refloat_contract.messages import Event

_BACKLOG: Final = 10_000


class Followers:
    """A queue for each; one that is not emptied misses events, which the ledger has."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Event]] = set()

    def follow(self) -> asyncio.Queue[Event]:
        """A queue that gets every new event from now on; give it back to `unfollow`."""
        queue: asyncio.Queue[Event] = asyncio.Queue(_BACKLOG)
        self._queues.add(queue)
        return queue

    def unfollow(self, queue: asyncio.Queue[Event]) -> None:
        """No longer fill this queue."""
        self._queues.discard(queue)

    def tell(self, events: Collection[Event]) -> None:
        """Pass on what is new in the record."""
        for queue in self._queues:
            for event in events:
                if not queue.full():
                    queue.put_nowait(event)
