# SPDX-License-Identifier: Apache-2.0
"""The kernel log: the records of /dev/kmsg, from the first that is still there, to all who subscribed.

Each record is as the kernel gives it (Documentation/ABI/testing/dev-kmsg): `6,339,5140900,-;message`, then lines of
`KEY=value`, each behind a blank.
"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from refloat_agent.events.source import Subscription, whenever_readable
from refloat_checks.wakes import KernelLog

# The longest that the kernel makes (PRINTKRB_RECORD_MAX and its prefix) is shorter.
_RECORD_BYTES: Final = 8192
# So many at once: with a rest behind it more than the 10,000 lines a second of a kernel gone mad.
BATCH: Final = 2000
Subscriber = Callable[[bytes], bool]
"""Takes one record; true if it may change what a check finds."""


@dataclass(slots=True)
class KernelLogSource:
    """Hands over each record, and tells when one of them matters to somebody."""

    subscription: Subscription[KernelLog]
    subscribers: Sequence[Subscriber]
    path: Path = Path("/dev/kmsg")
    _sequence: int = -1
    """The last record that was read: opened again, it goes on behind it."""

    async def serve(self, opened: Callable[[], None]) -> None:
        """Read what is there, then what comes."""
        file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            opened()
            await whenever_readable(file, lambda: self._batch(file))
        finally:
            os.close(file)

    def _batch(self, file: int) -> None:
        matters = False
        for _ in range(BATCH):
            try:
                record = os.read(file, _RECORD_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                # Records were overwritten before we read them; the next read gives the oldest that is left.
                if error.errno != errno.EPIPE:
                    raise
                continue
            matters |= self._take(record)
        if matters:
            self.subscription.tell_all()

    def _take(self, record: bytes) -> bool:
        sequence = int(record.split(b",", 2)[1])
        if sequence <= self._sequence:
            return False
        # Each gap in the numbers is a record that was lost, how many reads it took to notice.
        lost = sequence - self._sequence - 1 if self._sequence >= 0 else 0
        self._sequence = sequence
        self.subscription.counts.events += 1
        if lost:
            self.subscription.missed(lost)
        matters = False
        for subscriber in self.subscribers:
            matters |= subscriber(record)
        return matters
