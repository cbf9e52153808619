# SPDX-License-Identifier: Apache-2.0
"""The mount table: the kernel raises POLLPRI on mountinfo when it changes (proc(5)); it is never read here."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refloat_agent.events.source import Subscription, whenever_urgent
from refloat_checks.wakes import MountTable


@dataclass(frozen=True, slots=True)
class MountTableSource:
    """Tells that something was mounted, unmounted or remounted."""

    subscription: Subscription[MountTable]
    table: Path = Path("/proc/self/mountinfo")

    async def serve(self, opened: Callable[[], None]) -> None:
        """Watch the table."""
        table = os.open(self.table, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await whenever_urgent(table, opened, self._changed)
        finally:
            os.close(table)

    def _changed(self, events: int) -> None:
        self.subscription.counts.events += events
        self.subscription.tell_all()
