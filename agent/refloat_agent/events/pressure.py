# SPDX-License-Identifier: Apache-2.0
"""Pressure on memory or I/O: triggers of the kernel's pressure stall information (Documentation/accounting/psi.rst)."""

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from refloat_agent.events.source import Subscription, whenever_urgent
from refloat_checks.wakes import Pressure

# All tasks that could run were kept waiting for half of 2 s: a busy job alone does not do that. Only windows of whole
# 2 s are given to those who are not root.
TRIGGER: Final = b"full 1000000 2000000\0"
AGAIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class PressureSource:
    """Tells that work stands still for want of a resource, and again every half minute for as long as it does."""

    subscription: Subscription[Pressure]
    proc: Path = Path("/proc")

    async def serve(self, opened: Callable[[], None]) -> None:
        """Set the triggers, and wait for them."""
        with ExitStack() as stack:
            files: dict[Pressure, int] = {}
            for wake in self.subscription.wakes:
                place = self.proc / "pressure" / wake.resource
                file = os.open(place, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                stack.callback(os.close, file)
                os.write(file, TRIGGER)
                files[wake] = file
            opened()
            async with asyncio.TaskGroup() as tasks:
                for wake, file in files.items():
                    tasks.create_task(self._wait(wake, file), name=f"events: {wake}")

    async def _wait(self, wake: Pressure, file: int) -> None:
        told_s = -AGAIN_S
        clock = asyncio.get_running_loop().time

        def pressed(events: int) -> None:
            nonlocal told_s
            self.subscription.counts.events += events
            if clock() - told_s >= AGAIN_S:
                told_s = clock()
                self.subscription.tell(wake)
            else:
                self.subscription.counts.coalesced += 1

        await whenever_urgent(file, lambda: None, pressed)
