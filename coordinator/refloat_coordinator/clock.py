# SPDX-License-Identifier: Apache-2.0
"""Time: a wall clock that never jumps while the daemon runs, and sleeping."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the coordinator asks about time; seconds since 1970."""

    def now(self) -> float:
        """The time now; never falls."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SteadyClock:
    """The wall clock as it was when this process started, moved on by the monotonic one.

    Deadlines are kept on disk and so need wall-clock times, but must not all expire when the clock is set.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """The time now."""
        return self._offset + time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
