# SPDX-License-Identifier: Apache-2.0
"""The agenda: what will happen when, so that simulated time can jump from event to event."""

import heapq
import itertools
import math
from collections.abc import Callable, Iterator


class Agenda:
    """Actions by time; those of one time happen in the order in which they were put down."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do ``action`` so many seconds from now."""
        heapq.heappush(self._entries, (self.now + seconds, next(self._sequence), action))

    @property
    def next_at(self) -> float:
        """When the next action is due; infinity when there is none."""
        return self._entries[0][0] if self._entries else math.inf

    def until(self, now: float) -> Iterator[Callable[[], None]]:
        """Move time on to ``now``, never back, and yield each action as its time comes."""
        while self._entries and self._entries[0][0] <= now:
            at, _, action = heapq.heappop(self._entries)
            self.now = max(self.now, at)
            yield action
        self.now = max(self.now, now)
