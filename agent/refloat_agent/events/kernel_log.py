# SPDX-License-Identifier: Apache-2.0
"""The kernel log: tells of lines that change what a check's own reader of the log has found.

There is one reader of the log by each set of rules, and it is the check's: this source has it read on when there is
something to read, so that the check, when it is woken, finds all read already.
"""

import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from refloat_agent.events.source import Subscription, whenever_readable
from refloat_checks.wakes import KernelLog, LogReader


@dataclass(slots=True)
class KernelLogSource:
    """Has the readers read, some records at a time, and tells whose findings have changed."""

    subscription: Subscription[KernelLog]

    async def serve(self, opened: Callable[[], None]) -> None:
        """Read what is there, then what comes."""
        readers: dict[int, LogReader] = {}
        try:
            with select.epoll() as poll:
                for wake in self.subscription.wakes:
                    readers[wake.reader.open()] = wake.reader
                    wake.reader.on_change = partial(self.subscription.tell, wake)
                for file in readers:
                    poll.register(file, select.EPOLLIN)
                opened()
                await whenever_readable(poll.fileno(), lambda: self._read(poll, readers))
        finally:
            for reader in readers.values():
                reader.on_change = None
                reader.close()

    def _read(self, poll: select.epoll, readers: dict[int, LogReader]) -> None:
        for file, _ in poll.poll(0):
            reader = readers[file]
            records, lost = reader.records, reader.lost
            reader.read_new(time.monotonic())
            self.subscription.counts.events += reader.records - records
            if reader.lost > lost:
                self.subscription.missed(reader.lost - lost)
