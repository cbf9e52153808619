# SPDX-License-Identifier: Apache-2.0
"""The kernel log: the records of /dev/kmsg, from the first that is still there, to all who subscribed.

Each record is as the kernel gives it (Documentation/ABI/testing/dev-kmsg): `6,339,5140900,-;message`, then lines of
`KEY=value`, each behind a blank.
"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from refloat_agent.events.source import Subscription, whenever_readable
from refloat_checks.wakes import KernelLog

# The longest that the kernel makes (PRINTKRB_RECORD_MAX and its prefix) is shorter.
_RECORD_BYTES: Final = 8192
# So many at once: with a rest behind it more than the 10,000 lines a second of a kernel gone mad.
BATCH: Final = 2000
Subscriber = Callable[[Sequence[bytes]], bool]
"""Takes the next records; true if they may change what a check finds."""


def _open_kmsg() -> int:
    return os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


@dataclass(slots=True)
class KernelLogSource:
    """Hands over all records, some at a time, and tells when one of them matters to somebody."""

    subscription: Subscription[KernelLog]
    subscribers: Sequence[Subscriber]
    opening: Callable[[], int] = _open_kmsg
    """Opens a file of which each read gives one record."""
    _sequence: int = -1
    """The last record that was read: opened again, it goes on behind it."""

    async def serve(self, opened: Callable[[], None]) -> None:
        """Read what is there, then what comes."""
        file = self.opening()
        try:
            opened()
            await whenever_readable(file, lambda: self._batch(file))
        finally:
            os.close(file)

    def _batch(self, file: int) -> None:
        records = _read(file)
        if self._sequence >= 0 and records and _number(records[0]) <= self._sequence:
            records = [record for record in records if _number(record) > self._sequence]
        if not records:
            return
        first, last = _number(records[0]), _number(records[-1])
        # Each gap in the numbers is a record that was overwritten before it was read.
        lost = last - (self._sequence if self._sequence >= 0 else first - 1) - len(records)
        self._sequence = last
        self.subscription.counts.events += len(records)
        matters = [subscriber(records) for subscriber in self.subscribers]
        if lost:
            self.subscription.missed(lost)
        elif any(matters):
            self.subscription.tell_all()


def _read(file: int) -> list[bytes]:
    """Read the next records, up to a batch."""
    records: list[bytes] = []
    while len(records) < BATCH:
        try:
            record = os.read(file, _RECORD_BYTES)
        except BlockingIOError:
            break
        except OSError as error:
            # Records were overwritten before we read them; the next read gives the oldest that is left.
            if error.errno != errno.EPIPE:
                raise
            continue
        if not record and not records:
            raise OSError(errno.ENODATA, "the log has ended")
        if not record:
            break
        records.append(record)
    return records


def _number(record: bytes) -> int:
    return int(record.split(b",", 2)[1])
