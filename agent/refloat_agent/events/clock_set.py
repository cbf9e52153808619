# SPDX-License-Identifier: Apache-2.0
"""Jumps of the wall clock: a timer far off that the kernel cancels when the clock is set (timerfd_create(2))."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from refloat_agent.events.libc import clock_set_timer
from refloat_agent.events.source import Subscription, whenever_readable
from refloat_checks.wakes import ClockSet

_COUNT_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class ClockSetSource:
    """Tells that the wall clock was set; slewing it, as time daemons do, is none of that."""

    subscription: Subscription[ClockSet]
    timer: Callable[[], int] = clock_set_timer

    async def serve(self, opened: Callable[[], None]) -> None:
        """Watch the clock."""
        file = self.timer()
        try:
            opened()
            await whenever_readable(file, lambda: self._read(file))
        finally:
            os.close(file)

    def _read(self, file: int) -> None:
        try:
            os.read(file, _COUNT_BYTES)
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            self.subscription.counts.events += 1
            self.subscription.tell_all()
