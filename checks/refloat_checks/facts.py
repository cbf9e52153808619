# SPDX-License-Identifier: Apache-2.0
"""The facts of one pass: read when first asked for, once, and shared by all checks of that pass."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from refloat_checks import proc
from refloat_checks.probed import Examination, FileStat, Usage
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Link, Mount, Process, Roots
from refloat_checks.process_titles import TitleReader, most_kept
from refloat_contract.errors import Transient

T = TypeVar("T")
ROOT_MOUNT: Final = "/"


# Threads that wait for something to read, at most so many; starting one costs three times what it reads.
_KEPT: Final = 4
_waiting: "deque[SimpleQueue[Callable[[], Callable[[], None]]]]" = deque()


def _hand_over(work: Callable[[], Callable[[], None]]) -> None:
    try:
        jobs = _waiting.pop()
    except IndexError:
        jobs = SimpleQueue()
        threading.Thread(target=_serve, args=(jobs,), name="reader", daemon=True).start()
    jobs.put(work)


def _serve(jobs: "SimpleQueue[Callable[[], Callable[[], None]]]") -> None:
    waits_on = True
    while waits_on:
        tell = jobs.get()()
        waits_on = len(_waiting) < _KEPT
        if waits_on:
            # Before it tells, so that whoever is told finds it for the next read.
            _waiting.append(jobs)
        tell()


class Threads:
    """Runs blocking reads of the kernel's tables in daemon threads, at most one per source.

    Reading `/proc/PID/cmdline` waits for that process's memory lock, and a link's speed for its driver, for as long as
    it takes: the loop does not wait with them, and neither does the end of the program.
    """

    def __init__(self) -> None:
        self._running: set[str] = set()

    def start(self, source: str, read: Callable[[], T]) -> "asyncio.Future[T]":
        """Start a read; the future holds what it returned or raised.

        Raises Transient while an earlier read of this source has not returned.
        """
        if source in self._running:
            raise Transient(f"an earlier read of {source} has not returned")
        self._running.add(source)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        # Whoever asked may have given up by then; an exception that nobody takes is not news.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

        def settle(value: T | None, error: BaseException | None) -> None:
            self._running.discard(source)
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)  # type: ignore[arg-type]

        def work() -> Callable[[], None]:
            value: T | None = None
            error: BaseException | None = None
            try:
                value = read()
            except Exception as caught:  # noqa: BLE001 - carried to whoever asked, who alone can tell what it means
                error = caught

            def tell() -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                    loop.call_soon_threadsafe(settle, value, error)

            return tell

        _hand_over(work)
        return future


class Facts:
    """What checks look at. One instance is one pass; nothing in it is read twice, and nothing blocks the loop."""

    def __init__(self, roots: Roots, probes: ProbePool, threads: Threads, titles: TitleReader | None = None) -> None:
        self.roots = roots
        self.probes = probes
        self.titles = titles or TitleReader(roots)
        self.asked: frozenset[str] | None = None
        """The checks that this pass was made for; None: all that there are."""
        self._threads = threads
        self._cache: dict[str, asyncio.Future[Any]] = {}
        self._remembered: dict[tuple[str, ...], Any] = {}
        self._asking: dict[tuple[str, ...], asyncio.Lock] = {}

    async def mounts(self) -> tuple[Mount, ...]:
        """The mount table, in mount order."""
        return await self.read("the mount table", lambda: proc.read_mounts(self.roots))

    async def processes(self) -> tuple[Process, ...]:
        """The process table."""
        return await self.read("the process table", lambda: proc.read_processes(self.roots))

    async def link(self, name: str) -> Link | None:
        """A network device, or None if there is none of that name."""
        return await self.read(f"link {name}", lambda: proc.read_link(self.roots, name))

    async def proc_text(self, name: str) -> str:
        """The text of a file under /proc."""
        return await self.read(f"/proc/{name}", lambda: proc.read_text(self.roots.proc / name))

    async def sys_text(self, name: str) -> str:
        """The text of a file under /sys."""
        return await self.read(f"/sys/{name}", lambda: proc.read_text(self.roots.sys / name))

    async def usage(self, path: str) -> Usage:
        """Space and inodes of the filesystem that holds a path."""
        key = await self._probe_key(path)
        return await self.remember(("usage", path), lambda: self.probes.statvfs(path, key=key))

    async def stat(self, path: str, *, follow: bool = True) -> FileStat:
        """What stat says of a path, or with ``follow=False`` of the link there."""
        return await self.probes.stat(path, follow=follow, key=await self._probe_key(path))

    async def examine(self, path: str) -> Examination:
        """All that stat and access say of a path and, if it is a link, of where it leads."""
        key = await self._probe_key(path)
        return await self.remember(("examination", path), lambda: self.probes.examine(path, key=key))

    async def examine_anew(self, path: str) -> Examination:
        """Examine a path, however lately in this pass that was done."""
        return await self.probes.examine(path, key=await self._probe_key(path))

    async def content(self, path: str, cap_bytes: int) -> bytes:
        """The first bytes of a file; one more than the cap says that there are more."""
        key = await self._probe_key(path)
        cap_bytes += 1
        return await self.remember(
            ("content", path), lambda: self.probes.read(path, cap_bytes=cap_bytes, key=key, whole=True)
        )

    async def try_read(self, path: str, *, directory: bool) -> None:
        """Really read from a file or directory; OSError tells why it cannot be read."""
        key = await self._probe_key(path)
        if directory:
            await self.probes.list(path, key=key)
        else:
            await self.probes.read(path, key=key)

    async def try_write(self, directory: str) -> None:
        """Really write into a directory; OSError tells why it cannot be written."""
        await self.probes.write(directory, key=await self._probe_key(directory))

    async def uid(self, user: str) -> int:
        """A user's number; a number stands for itself. OSError if there is no such user."""
        return int(user) if user.isdigit() else await self.probes.uid(user)

    async def user_name(self, uid: int) -> str:
        """A user's name; its number if it has none."""
        return await self.remember(("user", str(uid)), lambda: self.probes.user_name(uid))

    async def group_name(self, gid: int) -> str:
        """A group's name; its number if it has none."""
        return await self.remember(("group", str(gid)), lambda: self.probes.group_name(gid))

    async def remember(self, what: tuple[str, ...], ask: Callable[[], Awaitable[T]]) -> T:
        """Ask once per pass, and give the same answer afterwards; what raised is asked again.

        Those who ask at the same time wait for the first one's answer; if it gives up, the next one asks.
        """
        async with self._asking.setdefault(what, asyncio.Lock()):
            if what not in self._remembered:
                self._remembered[what] = await ask()
        found: T = self._remembered[what]
        return found

    async def read(self, source: str, read: Callable[[], T]) -> T:
        """Read a source once per pass, in a thread; those who ask for it at the same time share the answer."""
        if source not in self._cache:
            self._cache[source] = self._threads.start(source, read)
        # Shielded: one check's deadline must not take the answer from the others.
        found: T = await asyncio.shield(self._cache[source])
        return found

    def require_running(self) -> None:
        """Do nothing; facts of an offline tree raise Refused here. For checks that ask what runs on this machine."""

    async def _probe_key(self, path: str) -> str:
        # What hangs is a mount. The root is no useful name for it: a link there may lead into any other filesystem,
        # so paths that lie in the root by their name stand for themselves.
        over = proc.mount_over(await self.mounts(), path)
        return path if over is None or over.point == ROOT_MOUNT else over.point


def source(roots: Roots, probes: ProbePool) -> Callable[[], Facts]:
    """Give what makes the facts of each next pass from the same roots and helpers."""
    threads = Threads()
    titles = TitleReader(roots, most_kept())
    return lambda: Facts(roots, probes, threads, titles)
