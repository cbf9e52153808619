# SPDX-License-Identifier: Apache-2.0
"""What a source of events is, and how one waits for the kernel: on the loop, and never more often than it must."""

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from refloat_checks.wakes import Wake

REST_S: Final = 0.05
W = TypeVar("W", bound=Wake)


@dataclass(slots=True)
class Counts:
    """What became of a source's events since the agent's start.

    ``events`` were read; ``looks`` followed, at so many checks; ``coalesced`` wake-ups found a look on its way already;
    ``dropped`` are those that the kernel had no room for, after which all checks of the source are woken.
    """

    events: int = 0
    looks: int = 0
    coalesced: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Subscription(Generic[W]):
    """What a source is asked to watch, and whom it tells."""

    wakes: tuple[W, ...]
    counts: Counts
    tell: Callable[[W], None]
    leave: Callable[[W, str], None]
    """Says why a wake-up cannot be watched for, while others can."""

    def tell_all(self) -> None:
        """Anything may have changed."""
        for wake in self.wakes:
            self.tell(wake)

    def missed(self, events: int = 1) -> None:
        """Events were lost on the way: which ones is not known, so all levels are looked at."""
        self.counts.dropped += events
        self.tell_all()


class Source(Protocol):
    """Tells what may have changed."""

    async def serve(self, opened: Callable[[], None]) -> None:
        """Open what tells, call ``opened``, and go on until it is lost or cancelled; close it in the end.

        Raises OSError or a RefloatError when it is not there, or no longer.
        """
        ...


async def readable(file: int) -> None:
    """Wait until there is something to read."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(file, tell)
    try:
        await ready
    finally:
        loop.remove_reader(file)


async def whenever_readable(file: int, handle: Callable[[], None]) -> None:
    """Call ``handle`` when there is something to read, then rest: a storm costs 20 calls a second at most."""
    while True:
        await readable(file)
        handle()
        await asyncio.sleep(REST_S)


@dataclass(slots=True)
class Rested:
    """Passes on how many events there were: the first at once, those that come while it rests all together after it."""

    handle: Callable[[int], None]
    _waiting: int = 0
    _rest: asyncio.TimerHandle | None = None

    def event(self) -> None:
        """Take one."""
        self._waiting += 1
        if self._rest is None:
            self._pass_on()

    def _pass_on(self) -> None:
        events, self._waiting = self._waiting, 0
        self._rest = asyncio.get_running_loop().call_later(REST_S, self._rested)
        self.handle(events)

    def _rested(self) -> None:
        self._rest = None
        if self._waiting:
            self._pass_on()

    def stop(self) -> None:
        """Pass nothing on any more."""
        if self._rest is not None:
            self._rest.cancel()


async def whenever_urgent(file: int, opened: Callable[[], None], handle: Callable[[int], None]) -> None:
    """Call ``handle`` with the number of priority events of a file (POLLPRI, POLLERR), which no loop knows by itself.

    The kernel tells each such event once, to whoever polls next. An epoll of ours turns it into something to read; it
    stays in the loop's from the beginning to the end, for to add it again would be such a poll, and lose what it told.
    """
    loop, rested = asyncio.get_running_loop(), Rested(handle)
    with select.epoll() as poll:
        poll.register(file, select.EPOLLPRI | select.EPOLLERR)
        loop.add_reader(poll.fileno(), rested.event)
        try:
            opened()
            await loop.create_future()
        finally:
            loop.remove_reader(poll.fileno())
            rested.stop()
