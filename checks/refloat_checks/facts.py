# SPDX-License-Identifier: Apache-2.0
"""The facts of one pass: read when first asked for, once, and shared by all checks of that pass."""

import asyncio
import contextlib
import threading
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from refloat_checks import proc, questions
from refloat_checks.probed import Examination, FileStat, Usage
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Link, Mount, Process, Roots
from refloat_checks.process_titles import TitleReader, most_kept
from refloat_checks.questions import Question
from refloat_contract.errors import RefloatError, Transient

T = TypeVar("T")
ROOT_MOUNT: Final = "/"


# Threads that wait for something to read, at most so many; starting one costs three times what it reads.
_KEPT: Final = 4
# Reads that one of the same batch has held up for so long go to another thread.
_PATIENCE_S: Final = 0.05
TURN_S: Final = 1.0
"""For how long a read waits for an earlier one of its source, of another pass; one that lasts longer hangs."""
_waiting: "deque[SimpleQueue[_Batch]]" = deque()


class _Batch:
    """Reads that were asked for in one turn of the loop: one thread makes them all, and tells of all at once.

    Waking a thread and being woken by it costs more than most reads. Each read is taken once, by whichever thread comes
    to it first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._reads: deque[Callable[[], Callable[[], None]]] = deque()
        self._told: deque[Callable[[], None]] = deque()
        self._open = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, read: Callable[[], Callable[[], None]]) -> None:
        """Add a read; what it gives is called in the loop."""
        self._reads.append(read)
        self._open += 1

    def send(self) -> None:
        """Hand what is left to a thread, and to another one whenever a read has held that up."""
        if self._reads:
            _hand_over(self)
            self._watch()

    def _watch(self) -> None:
        self._timer = self.loop.call_later(_PATIENCE_S, self._look_again, len(self._reads))

    def _look_again(self, left: int) -> None:
        self.settle()
        # Threads that are not held up only take the interpreter from each other.
        if len(self._reads) < left:
            self._watch()
        else:
            self.send()

    def work(self) -> None:
        """Make the reads that are left; in a thread."""
        while self._reads:
            try:
                read = self._reads.popleft()
            except IndexError:  # another thread took the last one
                return
            self._told.append(read())

    def tell(self) -> None:
        """Have the loop hear of it; from a thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self.loop.call_soon_threadsafe(self.settle)

    def settle(self) -> None:
        """Give what was read to those who asked."""
        while self._told:
            self._open -= 1
            self._told.popleft()()
        if not self._open and self._timer is not None:
            self._timer.cancel()


def _hand_over(batch: _Batch) -> None:
    try:
        batches = _waiting.pop()
    except IndexError:
        batches = SimpleQueue()
        threading.Thread(target=_serve, args=(batches,), name="reader", daemon=True).start()
    batches.put(batch)


def _serve(batches: "SimpleQueue[_Batch]") -> None:
    waits_on = True
    while waits_on:
        batch = batches.get()
        batch.work()
        waits_on = len(_waiting) < _KEPT
        if waits_on:
            # Before it tells, so that whoever is told finds it for the next read.
            _waiting.append(batches)
        batch.tell()
        del batch  # what it read must not live on until the next one comes


class Threads:
    """Runs blocking reads of the kernel's tables in daemon threads, at most one per source.

    Reading `/proc/PID/cmdline` waits for that process's memory lock, and a link's speed for its driver, for as long as
    it takes: the loop does not wait with them, and neither does the end of the program. Nor do other reads: those that
    are started in the same turn of the loop share a thread only while none of them lasts.
    """

    def __init__(self, turn_s: float = TURN_S) -> None:
        self._turn_s = turn_s
        self._running: set[str] = set()
        self._lines: defaultdict[str, dict[asyncio.Future[Any], Callable[[], None]]] = defaultdict(dict)
        self._batch: _Batch | None = None

    def start(self, source: str, read: Callable[[], T]) -> "asyncio.Future[T]":
        """Start a read; the future holds what it returned or raised.

        Raises Transient while an earlier read of this source has not returned.
        """
        if source in self._running:
            raise _not_returned(source)
        future: asyncio.Future[T] = _quiet_future()
        self._begin(source, read, future)
        return future

    def start_in_turn(self, source: str, read: Callable[[], T]) -> "asyncio.Future[T]":
        """Start a read when the earlier ones of this source have returned; Transient if that takes too long.

        It does not share their answer: they may have looked before that happened which it is to see.
        """
        if source not in self._running:
            return self.start(source, read)
        future: asyncio.Future[T] = _quiet_future()
        self._lines[source][future] = partial(self._begin, source, read, future)
        asyncio.get_running_loop().call_later(self._turn_s, self._give_up, source, future)
        return future

    def _give_up(self, source: str, future: "asyncio.Future[Any]") -> None:
        if self._lines[source].pop(future, None) is not None and not future.done():
            future.set_exception(_not_returned(source))

    def _next_in_line(self, source: str) -> None:
        if line := self._lines[source]:
            line.pop(next(iter(line)))()

    def _begin(self, source: str, read: Callable[[], T], future: "asyncio.Future[T]") -> None:
        self._running.add(source)
        loop = asyncio.get_running_loop()

        def settle(value: T | None, error: BaseException | None) -> None:
            self._running.discard(source)
            self._next_in_line(source)
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)  # type: ignore[arg-type]

        def work() -> Callable[[], None]:
            try:
                return partial(settle, read(), None)
            except Exception as caught:  # noqa: BLE001 - carried to whoever asked, who alone can tell what it means
                return partial(settle, None, caught)

        self._batch_of(loop).add(work)

    def _batch_of(self, loop: asyncio.AbstractEventLoop) -> _Batch:
        if self._batch is None or self._batch.loop is not loop:
            self._batch = _Batch(loop)
            loop.call_soon(self._send)
        return self._batch

    def _send(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.send()


def _quiet_future() -> "asyncio.Future[Any]":
    # Whoever asked may have given up by then; an exception that nobody takes is not news.
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _not_returned(source: str) -> Transient:
    return Transient(f"an earlier read of {source} has not returned")


# What these read goes by their name alone, so that a pass may begin with it because the last one read it.
_STEADY: Final = frozenset(
    {
        "the mount table",
        "mounts",
        "the process table",
        "process titles",
        "processors",
        "memory",
        "network devices",
        "kernel modules",
        "InfiniBand ports",
        "login.defs",
    }
)
_STEADY_TOO: Final = ("link ", "process title ", "/proc/", "/sys/", "tcp sockets in states ", "processes ")


@dataclass(slots=True)
class Asked:
    """What was asked during a pass that another one may begin with: what goes by nothing but its own name."""

    reads: dict[str, Callable[[], Any]] = field(default_factory=dict)
    questions: dict[tuple[str, ...], Question[Any]] = field(default_factory=dict)
    is_open: bool = True

    def note_read(self, source: str, read: Callable[[], Any]) -> None:
        """Note a read that goes by its source's name alone."""
        if self.is_open and (source in _STEADY or source.startswith(_STEADY_TOO)):
            self.reads[source] = read

    def note_question(self, what: tuple[str, ...], question: Question[Any]) -> None:
        """Note a question."""
        if self.is_open:
            self.questions[what] = question


NOTES: Final[ContextVar[Asked | None]] = ContextVar("notes", default=None)
"""Where whoever asks notes what it asked; None: nowhere."""


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
        self._ahead_reads: dict[str, asyncio.Future[Any]] = {}
        self._ahead_answers: dict[tuple[str, ...], Any] = {}
        self._points: frozenset[str] | None = None

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

        async def ask() -> Usage:
            return await self.probes.statvfs(path, key=await self._probe_key(path))

        return await self._remember_noted(("usage", path), questions.usage_of(path), ask)

    async def stat(self, path: str, *, follow: bool = True) -> FileStat:
        """What stat says of a path, or with ``follow=False`` of the link there."""
        self.forget_ahead()  # who asks so may want to wake the automounter, and goes by what is there then
        return await self.probes.stat(path, follow=follow, key=await self._probe_key(path))

    async def examine(self, path: str) -> Examination:
        """All that stat and access say of a path and, if it is a link, of where it leads."""

        async def ask() -> Examination:
            return await self.probes.examine(path, key=await self._probe_key(path))

        return await self._remember_noted(("examination", path), questions.examination_of(path), ask)

    async def examine_anew(self, path: str) -> Examination:
        """Examine a path, however lately in this pass that was done."""
        return await self.probes.examine(path, key=await self._probe_key(path))

    async def content(self, path: str, cap_bytes: int) -> bytes:
        """The first bytes of a file; one more than the cap says that there are more."""
        cap_bytes += 1

        async def ask() -> bytes:
            return await self.probes.read(path, cap_bytes=cap_bytes, key=await self._probe_key(path), whole=True)

        return await self._remember_noted(("content", path), questions.content_of(path, cap_bytes), ask)

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
        ask = partial(self.probes.user_name, uid)
        return await self._remember_noted(("user", str(uid)), questions.user_name_of(uid), ask)

    async def group_name(self, gid: int) -> str:
        """A group's name; its number if it has none."""
        ask = partial(self.probes.group_name, gid)
        return await self._remember_noted(("group", str(gid)), questions.group_name_of(gid), ask)

    async def remember(self, what: tuple[str, ...], ask: Callable[[], Awaitable[T]]) -> T:
        """Ask once per pass, and give the same answer afterwards; what raised is asked again.

        Those who ask at the same time wait for the first one's answer; if it gives up, the next one asks.
        """
        if what not in self._remembered:
            async with self._asking.setdefault(what, asyncio.Lock()):
                if what in self._ahead_answers:
                    self._remembered[what] = self._ahead_answers.pop(what)
                elif what not in self._remembered:
                    self._remembered[what] = await ask()
        found: T = self._remembered[what]
        return found

    async def _remember_noted(self, what: tuple[str, ...], question: Question[T], ask: Callable[[], Awaitable[T]]) -> T:
        if (notes := NOTES.get()) is not None:
            notes.note_question(what, question)
        return await self.remember(what, ask)

    async def read(self, source: str, read: Callable[[], T]) -> T:
        """Read a source once per pass, in a thread; those who ask for it at the same time share the answer."""
        if (notes := NOTES.get()) is not None:
            notes.note_read(source, read)
        if source not in self._cache:
            ahead = self._ahead_reads.pop(source, None)
            self._cache[source] = ahead or self._threads.start_in_turn(source, read)
        found: asyncio.Future[T] = self._cache[source]
        # Shielded: one check's deadline must not take the answer from the others.
        return found.result() if found.done() else await asyncio.shield(found)

    async def ask_ahead(self, asked: Asked) -> None:
        """Begin with what an earlier pass asked: all reads in one thread, then all questions to one helper.

        What cannot be answered so is asked again by whoever wants it, and raises there.
        """
        for source, read in asked.reads.items():
            if source not in self._cache:
                with contextlib.suppress(Transient):
                    self._ahead_reads[source] = self._threads.start(source, read)
        if asked.questions:
            with contextlib.suppress(RefloatError, OSError, ValueError):
                self._ahead_answers.update(await self._answers(asked))

    def forget_ahead(self) -> None:
        """Forget what was asked ahead and that nobody has wanted yet: what it tells of may just have been changed.

        Nothing more is noted: what is wanted from here on must be asked from here on.
        """
        self._ahead_reads.clear()
        self._ahead_answers.clear()
        if (notes := NOTES.get()) is not None:
            notes.is_open = False

    async def _answers(self, asked: Asked) -> dict[tuple[str, ...], Any]:
        keyed = [(await self._key_of(question), question) for question in asked.questions.values()]
        answers = await self.probes.ask_together(keyed)
        return {what: found for what, found in zip(asked.questions, answers, strict=True) if found is not None}

    async def _key_of(self, question: Question[Any]) -> str:
        return await self._probe_key(question.about) if question.is_of_path else question.about

    def require_running(self) -> None:
        """Do nothing; facts of an offline tree raise Refused here. For checks that ask what runs on this machine."""

    async def _probe_key(self, path: str) -> str:
        # What hangs is a mount. The root is no useful name for it: a link there may lead into any other filesystem,
        # so paths that lie in the root by their name stand for themselves.
        if self._points is None:
            self._points = frozenset([mount.point for mount in await self.mounts()])
        point = proc.point_over(self._points, path)
        return path if point == ROOT_MOUNT else point


def source(roots: Roots, probes: ProbePool) -> Callable[[], Facts]:
    """Give what makes the facts of each next pass from the same roots and helpers."""
    threads = Threads()
    titles = TitleReader(roots, most_kept())
    return lambda: Facts(roots, probes, threads, titles)
