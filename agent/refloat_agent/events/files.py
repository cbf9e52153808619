# SPDX-License-Identifier: Apache-2.0
"""Files: inotify(7) watches on each directory that a path goes through, so that it may come, go and be replaced.

Directories are watched, not files: a file that is replaced is another file, and one that is not there yet is none. The
watches are made in a thread that may hang, and anew when anything on the way changed, at most once a second.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from operator import eq
from typing import Final, Generic, TypeVar

from refloat_agent.events import libc
from refloat_agent.events.local import NotLocal, Place, places
from refloat_agent.events.source import REST_S, Subscription, readable
from refloat_checks.facts import Threads
from refloat_checks.proc import Roots, read_mounts
from refloat_checks.wakes import CgroupEmpty, FileChange
from refloat_contract.errors import Transient

REARM_S: Final = 1.0
# A filesystem that is mounted over a directory hides it, and no watch tells.
ANEW_S: Final = 600.0
DEADLINE_S: Final = 10.0
_READ_BYTES: Final = 1 << 16
_CHANGES: Final = libc.IN_ATTRIB | libc.IN_CLOSE_WRITE
_MOVES: Final = libc.IN_CREATE | libc.IN_DELETE | libc.IN_MOVED_FROM | libc.IN_MOVED_TO
_LOST: Final = libc.IN_DELETE_SELF | libc.IN_MOVE_SELF
_FLAGS: Final = libc.IN_ONLYDIR | libc.IN_DONT_FOLLOW
F = TypeVar("F", FileChange, CgroupEmpty)


@dataclass(frozen=True, slots=True)
class Armed(Generic[F]):
    """What is watched: by watch and name whom it wakes; and what cannot be watched, with the reason."""

    names: Mapping[int, Mapping[str, frozenset[F]]]
    left_out: Mapping[F, str]


@dataclass(slots=True)
class PathSource(Generic[F]):
    """Tells that what a path leads to may have changed."""

    subscription: Subscription[F]
    path_of: Callable[[F], str]
    changes: int = _CHANGES
    fits: Callable[[str, str], bool] = eq
    """Whether a name is the one that a path's part asks for."""
    roots: Roots = field(default_factory=Roots)
    threads: Threads = field(default_factory=Threads)
    _armed: Armed[F] = field(default_factory=lambda: Armed({}, {}))
    _stale: bool = False

    async def serve(self, opened: Callable[[], None]) -> None:
        """Watch all paths that lie on local filesystems."""
        file = libc.inotify()
        try:
            await self._arm(file)
            opened()
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ANEW_S):
                        await readable(file)
                if not self._read(file) or self._stale:
                    await asyncio.sleep(REARM_S)
                    await self._arm(file)
                    # What happened before the new watches were there, nobody told.
                    self.subscription.tell_all()
                else:
                    await asyncio.sleep(REST_S)
        finally:
            os.close(file)

    async def _arm(self, file: int) -> None:
        self._stale = False
        # A thread that hangs holds a file of its own: the number of this one may be another's by the time it goes on.
        copy = os.dup(file)
        try:
            arming = self.threads.start("the watched paths", lambda: self._watch(copy))
        except Transient:
            os.close(copy)
            raise
        async with asyncio.timeout(DEADLINE_S):
            armed = await arming
        for watch in self._armed.names.keys() - armed.names.keys():
            libc.inotify_remove(file, watch)
        for wake, why in armed.left_out.items():
            self.subscription.leave(wake, why)
        self._armed = armed

    def _watch(self, file: int) -> Armed[F]:
        """Watch what there is of each path. Blocks, and closes the file."""
        try:
            mounts = read_mounts(self.roots)
            names: dict[int, dict[str, frozenset[F]]] = {}
            left_out: dict[F, str] = {}
            for wake in self.subscription.wakes:
                try:
                    for watch, name in self._watches(file, places(self.path_of(wake), mounts)):
                        there = names.setdefault(watch, {})
                        there[name] = there.get(name, frozenset()) | {wake}
                except (NotLocal, PermissionError) as error:
                    left_out[wake] = str(error)
            return Armed(names, left_out)
        finally:
            os.close(file)

    def _watches(self, file: int, way: Iterable[Place]) -> Iterable[tuple[int, str]]:
        for place in way:
            try:
                yield libc.inotify_add(file, place.directory, self.changes | _MOVES | _LOST | _FLAGS), place.name
            except (FileNotFoundError, NotADirectoryError):
                return  # it went away meanwhile, which the watch above it tells

    def _read(self, file: int) -> bool:
        """Tell whom the events wake; False if there is none."""
        try:
            data = os.read(file, _READ_BYTES)
        except BlockingIOError:
            return False
        told: set[F] = set()
        for event in libc.inotify_events(data):
            self.subscription.counts.events += 1
            there = self._armed.names.get(event.watch, {})
            if event.mask & libc.IN_Q_OVERFLOW:
                self._stale = True
                self.subscription.missed()
            elif event.name:
                meant = frozenset().union(*(wakes for name, wakes in there.items() if self.fits(event.name, name)))
                told |= meant
                self._stale = self._stale or bool(meant and event.mask & _MOVES)
            elif event.mask & (_LOST | libc.IN_UNMOUNT | libc.IN_IGNORED) and there:
                told.update(*there.values())
                self._stale = True
        for wake in told:
            self.subscription.tell(wake)
        return True


def file_source(subscription: Subscription[FileChange], roots: Roots) -> PathSource[FileChange]:
    """Make the source of files."""
    return PathSource(subscription, lambda wake: wake.path, roots=roots)


def cgroup_source(subscription: Subscription[CgroupEmpty], roots: Roots) -> PathSource[CgroupEmpty]:
    """Make the source of control groups: the kernel modifies `cgroup.events` when one empties or fills (cgroups(7))."""

    def path_of(wake: CgroupEmpty) -> str:
        group = f"{roots.sys}/fs/cgroup{wake.path.rstrip('/')}"
        return group if "*" in wake.path else f"{group}/cgroup.events"

    return PathSource(subscription, path_of, libc.IN_MODIFY, fnmatchcase, roots)
