# SPDX-License-Identifier: Apache-2.0
"""Watched processes: a pidfd each, readable when it ends; the process table is read to find them, then hardly again."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from refloat_agent.events.source import Subscription
from refloat_checks.facts import Threads
from refloat_checks.proc import Process, Roots, read_processes
from refloat_checks.wakes import ProcessExit

# Many may fit one check (a pattern for a user's own). It needs those that were there first.
CAP: Final = 16
FIRST_S: Final = 1.0
LAST_S: Final = 60.0
QUIET_S: Final = 600.0


@dataclass(slots=True)
class ProcessSource:
    """Tells that a watched process ended, and, while none fits, looks for one more and more seldom."""

    subscription: Subscription[ProcessExit]
    roots: Roots = field(default_factory=Roots)
    threads: Threads = field(default_factory=Threads)
    _watched: dict[int, int] = field(default_factory=dict)
    _meant: dict[ProcessExit, frozenset[int]] = field(default_factory=dict)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, opened: Callable[[], None]) -> None:
        """Watch all processes that fit."""
        pause_s = FIRST_S
        try:
            # Where the kernel has no pidfd, this says so at once.
            os.close(os.pidfd_open(os.getpid()))
            await self._find()
            opened()
            while True:
                missing = any(not pids for pids in self._meant.values())
                pause_s = min(2 * pause_s, LAST_S) if missing else FIRST_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s if missing else QUIET_S):
                        await self._ended.wait()
                        pause_s = FIRST_S / 2
                # Whoever ends again and again costs one look at the table a second.
                await asyncio.sleep(FIRST_S)
                await self._find()
        finally:
            for pid in tuple(self._watched):
                self._close(pid)

    async def _find(self) -> None:
        self._ended.clear()
        self._take(await self.threads.start("the process table", lambda: read_processes(self.roots)))

    def _take(self, processes: Iterable[Process]) -> None:
        """Watch those that fit now, and no others; tell where there is none any more, or one again."""
        alive = [process for process in processes if process.is_alive]
        for wake in self.subscription.wakes:
            fitting = sorted(process.pid for process in alive if wake.fits(process))[:CAP]
            meant = frozenset(pid for pid in fitting if self._open(pid))
            before = self._meant.get(wake)
            self._meant[wake] = meant
            if before is not None and bool(before) is not bool(meant):
                self.subscription.tell(wake)
        for pid in self._watched.keys() - frozenset().union(*self._meant.values()):
            self._close(pid)

    def _open(self, pid: int) -> bool:
        if pid in self._watched:
            return True
        try:
            file = self._watched[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        asyncio.get_running_loop().add_reader(file, self._exited, pid)
        return True

    def _exited(self, pid: int) -> None:
        self.subscription.counts.events += 1
        self._close(pid)
        for wake, pids in self._meant.items():
            if pid in pids:
                self._meant[wake] = pids - {pid}
                self.subscription.tell(wake)
        self._ended.set()

    def _close(self, pid: int) -> None:
        file = self._watched.pop(pid)
        asyncio.get_running_loop().remove_reader(file)
        os.close(file)
