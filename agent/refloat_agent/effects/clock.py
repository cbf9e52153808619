# SPDX-License-Identifier: Apache-2.0
"""The machine's clocks."""

import time


class SystemClock:
    """CLOCK_BOOTTIME and CLOCK_REALTIME."""

    def boottime_s(self) -> float:
        """Seconds since boot, time asleep included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()
