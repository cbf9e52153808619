# SPDX-License-Identifier: Apache-2.0
"""The facts of one pass without an event loop: what cannot hang is read at once, all else by a forked child.

The child is killed when its answer is late, and never waited for: it may hang in the kernel, and then whatever is asked
of the same filesystem is refused until it ends. The next one is forked from the same small process.
"""

from __future__ import annotations

import marshal
import os
import signal
import time

from refloat_checks import proc
from refloat_checks.probed import Attributes, Examination, FileStat, Unanswered, Usage
from refloat_checks.process_titles import Title, TitleReader
from refloat_contract.errors import Transient

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, Final, NoReturn, TypeVar

    from refloat_checks.facts import Facts as Base
    from refloat_checks.nhc.straight import Straight
    from refloat_checks.proc import Link, Mount, Process, Roots

    T = TypeVar("T")
else:
    Base = object

# Tables that the kernel makes from memory of its own: reading them waits for nobody. All others may hang.
_AT_ONCE: Final = frozenset(
    {"the mount table", "processors", "memory", "network devices", "kernel modules", "/proc/loadavg"}
)
_AT_ONCE_TOO: Final = ("mounts", "tcp sockets", "udp sockets", "raw sockets", "unix sockets", "sockets ", "processes ")
_TITLES: Final = "process titles"
_MOST_LOST: Final = 8
_BLOCK_BYTES: Final = 1 << 16
_LENGTH_BYTES: Final = 4


class StraightFacts(Base):
    """What checks look at, on the running system; nothing in it is read twice."""

    def __init__(self, engine: Straight, roots: Roots | None = None) -> None:
        self.roots = roots or proc.RunningSystem()
        self.titles = TitleReader(self.roots)
        self.asked = None
        self._children = Children(engine, self.titles)
        self._read: dict[str, Callable[[], Any]] = {}
        self._known: dict[tuple[str, ...], Any] = {}

    def require_running(self) -> None:
        """Do nothing: it is this machine that is looked at."""

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
        return Usage(**await self._asked("statvfs", path))

    async def stat(self, path: str, *, follow: bool = True) -> FileStat:
        """What stat says of a path, or with ``follow=False`` of the link there."""
        return FileStat(**self._children.ask(await self._key(path), "stat", path, follow))

    async def examine(self, path: str, *, fresh: bool = False) -> Examination:
        """All that stat and access say of a path and, if it is a link, of where it leads; ``fresh``: asked anew."""
        if fresh:
            self._known.pop(("examine", path), None)
        said = await self._asked("examine", path)
        itself, target = (Attributes(**each) if each else None for each in (said["itself"], said["target"]))
        return Examination(itself, target, said["access"], said["errno"])

    async def content(self, path: str, cap_bytes: int) -> bytes:
        """The first bytes of a file; one more than the cap says that there are more."""
        text: str = await self._asked("read", path, cap_bytes + 1, True)  # noqa: FBT003 - all of them
        return text.encode("latin-1")

    async def try_read(self, path: str, *, directory: bool) -> None:
        """Really read from a file or directory; OSError tells why it cannot be read."""
        look, *arguments = ("list", path) if directory else ("read", path, 1)
        self._children.ask(await self._key(path), str(look), *arguments)

    async def try_write(self, directory: str) -> None:
        """Really write into a directory; OSError tells why it cannot be written."""
        self._children.ask(await self._key(directory), "write", directory)

    async def uid(self, user: str) -> int:
        """A user's number; a number stands for itself. OSError if there is no such user."""
        return int(user) if user.isdigit() else int(self._children.ask(f"user {user}", "uid", user))

    async def user_name(self, uid: int) -> str:
        """A user's name; its number if it has none."""
        return await self._name("user_name", f"user {uid}", uid)

    async def group_name(self, gid: int) -> str:
        """A group's name; its number if it has none."""
        return await self._name("group_name", f"group {gid}", gid)

    async def remember(self, what: tuple[str, ...], ask: Callable[[], Awaitable[T]]) -> T:
        """Ask once per pass, and give the same answer afterwards; what raised is asked again."""
        if what not in self._known:
            self._known[what] = await ask()
        found: T = self._known[what]
        return found

    async def read(self, source: str, read: Callable[[], T]) -> T:
        """Read a source once per pass: what it gave or raised is what it gives or raises afterwards."""
        if source not in self._read:
            self._read[source] = _outcome(lambda: self._reading(source, read))
        found: T = self._read[source]()
        return found

    def _reading(self, source: str, read: Callable[[], Any]) -> Any:
        if source in _AT_ONCE or source.startswith(_AT_ONCE_TOO):
            return read()
        if source == _TITLES:
            return tuple([Title(pid, title) for pid, title in self._children.ask(source, source)])
        return self._children.read(source, read)

    async def _name(self, look: str, key: str, number: int) -> str:
        known = (look, str(number))
        if known not in self._known:
            self._known[known] = self._children.ask(key, look, number)
        return str(self._known[known])

    async def _asked(self, look: str, path: str, *arguments: object) -> Any:
        known = (look, path)
        if known not in self._known:
            self._known[known] = self._children.ask(await self._key(path), look, path, *arguments)
        return self._known[known]

    async def _key(self, path: str) -> str:
        # As in Facts: what hangs is a mount, and the root is no name for what a link in it leads to.
        point = proc.point_over(await self.remember(("mount points",), self._mount_points), path)
        return path if point == "/" else point

    async def _mount_points(self) -> frozenset[str]:
        return frozenset([mount.point for mount in await self.mounts()])

    def close(self) -> None:
        """Leave nothing behind that can be killed."""
        self._children.close()


def _outcome(work: Callable[[], Any]) -> Callable[[], Any]:
    try:
        found = work()
    except Exception as error:  # noqa: BLE001 - carried to all who ask
        raised = error

        def again() -> NoReturn:
            raise raised

        return again
    return lambda: found


class Children:
    """The forked children of a pass: one that answers, and those that were killed and have not ended yet."""

    def __init__(self, engine: Straight, titles: TitleReader) -> None:
        self._engine = engine
        self._titles = titles
        self._child: _Child | None = None
        self._lost: dict[str, tuple[_Child, float]] = {}

    def ask(self, key: str, look: str, *arguments: Any) -> Any:
        """Have a child look. OSError as the kernel gave it; Transient where there is no answer."""
        self._refuse_if_lost(key)
        if self._child is None:
            self._child = _Child(self._look)
        child = self._child
        self._child = None  # until it has answered
        said = self._answer(key, child, marshal.dumps((look, arguments)))
        self._child = child
        return _value(marshal.loads(said))  # noqa: S302 - our own child's

    def read(self, key: str, read: Callable[[], Any]) -> Any:
        """Have a child of its own read what may hang, and give or raise what that gave."""
        import pickle  # noqa: PLC0415 - for few checks only

        def answer(_: bytes) -> bytes:
            return pickle.dumps(_outcome_of(read))

        self._refuse_if_lost(key)
        child = _Child(answer)
        said = self._answer(key, child, b"")
        child.end()
        found, error = pickle.loads(said)  # noqa: S301 - our own child's
        if error is not None:
            raise error
        return found

    def close(self) -> None:
        """End the one that answers, which waits for a question; those that hang are not waited for."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _answer(self, key: str, child: _Child, question: bytes) -> bytes:
        asked_s = time.monotonic()
        is_whole = False
        try:
            said = child.answer(question, self._engine)
            is_whole = True
        finally:
            if not is_whole:
                child.kill()
                self._lost[key] = (child, asked_s)
        return said

    def _refuse_if_lost(self, key: str) -> None:
        lost = self._lost.get(key)
        if lost is not None and not lost[0].has_ended():
            for_s = time.monotonic() - lost[1]
            raise Unanswered(f"{key} has not answered for {for_s:.0f} s", for_s)
        stuck = sum(not child.has_ended() for child, _ in self._lost.values())
        if stuck >= _MOST_LOST:
            raise Unanswered(f"not probed: all {stuck} probe helpers hang in other filesystems")

    def _look(self, question: bytes) -> bytes:
        """Answer one question, in the child."""
        from refloat_checks.probe_worker import LOOKS  # noqa: PLC0415 - the child's part

        look, arguments = marshal.loads(question)  # noqa: S302 - our own parent's
        try:
            if look == _TITLES:
                return marshal.dumps((0, "", [(each.pid, each.title) for each in self._titles.read()]))
            found: Any = LOOKS[look]("/", *arguments)
            return marshal.dumps((0, "", found))
        except OSError as error:
            return marshal.dumps((error.errno or -1, error.strerror or str(error), None))


def _value(said: tuple[int, str, Any]) -> Any:
    number, text, value = said
    if number:
        raise OSError(max(number, 0), text)
    return value


def _outcome_of(read: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return read(), None
    except Exception as error:  # noqa: BLE001 - carried to whoever asked, who alone can tell what it means
        return None, error


class _Child:
    """A copy of this process that answers questions. It is in our process group, and ends with its questions."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        theirs_in, self._questions = os.pipe()
        self._answers, theirs_out = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._questions)
            os.close(self._answers)
            _serve(answer, theirs_in, theirs_out)
        os.close(theirs_in)
        os.close(theirs_out)

    def answer(self, question: bytes, engine: Straight) -> bytes:
        """Ask, and wait for the answer; Transient if the child ends before."""
        os.write(self._questions, len(question).to_bytes(_LENGTH_BYTES) + question)
        said, wanted = b"", _LENGTH_BYTES
        while len(said) < wanted:
            engine.readable([self._answers])
            block = os.read(self._answers, _BLOCK_BYTES)
            if not block:
                raise Transient("a probe helper ended by itself")
            said += block
            if len(said) >= _LENGTH_BYTES:
                wanted = _LENGTH_BYTES + int.from_bytes(said[:_LENGTH_BYTES])
        return said[_LENGTH_BYTES:]

    def kill(self) -> None:
        """Send SIGKILL and do not wait: a process in uninterruptible sleep does not take it."""
        if not self.has_ended():
            os.kill(self._pid, signal.SIGKILL)

    def end(self) -> None:
        """End it, where it has answered all questions: it cannot hang then."""
        os.close(self._questions)
        os.waitpid(self._pid, 0)
        self._pid = 0

    def has_ended(self) -> bool:
        """Tell whether it has ended."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = 0
        return self._pid == 0


def _serve(answer: Callable[[bytes], bytes], questions: int, answers: int) -> NoReturn:
    """Answer questions until there are no more, and end."""
    try:
        # Whoever reads what the command prints does not wait for a child that hangs.
        null = os.open(os.devnull, os.O_RDWR)
        for place in range(3):
            os.dup2(null, place)
        while length := _exactly(questions, _LENGTH_BYTES):
            said = answer(_exactly(questions, int.from_bytes(length)))
            whole = len(said).to_bytes(_LENGTH_BYTES) + said
            while whole:
                whole = whole[os.write(answers, whole) :]
    finally:
        os._exit(0)  # also at an error: whoever asked is told that there was no answer


def _exactly(place: int, count: int) -> bytes:
    said = b""
    while len(said) < count and (block := os.read(place, count - len(said))):
        said += block
    return said
