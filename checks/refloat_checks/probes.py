# SPDX-License-Identifier: Apache-2.0
"""The pool of disposable helpers: the only way in which a check may touch a filesystem that could hang."""

import asyncio
import contextlib
import math
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from refloat_checks.helper import Helper
from refloat_checks.probed import Examination, FileStat, Unanswered, Usage
from refloat_checks.questions import Question, T, examination_of, group_name_of, usage_of, user_name_of
from refloat_contract.errors import Transient

if TYPE_CHECKING:
    from refloat_checks.silent_servers import SilentServers  # what follows the kernel log is for the agent alone

WORKER: Final = (sys.executable, "-I", "-S", "-X", "utf8", str(Path(__file__).with_name("probe_worker.py")))
DEADLINE_S: Final = 300.0  # a backstop: a check's own deadline cancels its probe long before
_CLOSE_GRACE_S: Final = 1.0
_MOST_TOGETHER: Final = 64


ASKED_UNTIL: Final[ContextVar[float]] = ContextVar("asked_until", default=math.inf)
"""Until when (the loop's clock) whoever asks waits for an answer: a probe says that there is none just before that."""
_LAST_WORD: Final = 0.05  # the share of the time left that is kept for saying so


@dataclass(frozen=True, slots=True)
class Silence:
    """A key that was probed and has not answered yet, and since how many seconds."""

    key: str
    for_s: float


@dataclass(frozen=True, slots=True)
class PoolState:
    """The pool's counters, for `refloat status`. Abandoned helpers were killed and have not ended yet."""

    helpers: int
    idle: int
    abandoned: int
    abandoned_ever: int
    started_ever: int
    silent: tuple[Silence, ...]


Answers = list[Any]

_Request = tuple[str, tuple[object, ...]]
"""What to look at, and with which arguments."""


@dataclass(frozen=True, slots=True, eq=False)
class _Late:
    """A probe that a helper is still busy with: which one that is of those it was given, and its answers to them."""

    helper: Helper
    number: int
    request: _Request
    answers: asyncio.Future[list[Mapping[str, Any]]]


@dataclass(slots=True, eq=False)
class _Lane:
    """One key's way to its filesystem: one probe at a time, none while an abandoned one is still out."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    lost: Helper | None = None
    silent_since_s: float | None = None
    """When the first probe was asked of those that nothing has answered since."""

    late: "_Late | None" = None
    """A probe that was asked together with others, lasts, and has nobody who waits for it."""

    @property
    def is_free(self) -> bool:
        """Whether nothing is out, and nothing that was asked has stayed unanswered."""
        return self.lost is None and self.late is None and self.silent_since_s is None and not self.lock.locked()

    def silence_s(self) -> float:
        """For how long nothing was answered."""
        return 0.0 if self.silent_since_s is None else asyncio.get_running_loop().time() - self.silent_since_s


class ProbePool:
    """Runs probes in at most ``helpers`` processes, one outstanding probe per key.

    A probe that is not answered within ``patience_s`` no longer counts as one of the ``helpers``, so that ten hung
    mounts do not delay the eleventh; at most ``max_abandoned`` processes are set aside so. Past its deadline, or when
    its asker is cancelled, the helper is killed, not waited for, and its key refuses probes until the helper ends.
    """

    def __init__(
        self,
        *,
        helpers: int = 2,
        max_abandoned: int = 8,
        patience_s: float = 0.25,
        root: Path = Path("/"),
        argv: Sequence[str] = WORKER,
        servers: "SilentServers | None" = None,
    ) -> None:
        self.servers = servers
        self._argv = tuple(argv)
        self._root = str(root)
        self._most = helpers
        self._max_abandoned = max_abandoned
        self._patience_s = patience_s
        self._slots = asyncio.Semaphore(helpers)
        self._all: set[Helper] = set()
        self._idle: list[Helper] = []
        self._aside: set[Helper] = set()  # slow or abandoned, and no longer counted among the slots
        self._lost: set[Helper] = set()  # abandoned: killed, and not ended yet
        self._lanes: dict[str, _Lane] = {}
        self._abandoned_ever = 0
        self._started_ever = 0

    async def statvfs(self, path: str, deadline_s: float = DEADLINE_S, *, key: str | None = None) -> Usage:
        """Measure the filesystem that holds ``path``.

        Like every probe it raises OSError as the kernel gave it, and Transient when there was no answer.
        """
        return await self._put(usage_of(path), deadline_s, key)

    async def stat(
        self, path: str, deadline_s: float = DEADLINE_S, *, follow: bool = True, key: str | None = None
    ) -> FileStat:
        """Describe the file at ``path``, or with ``follow=False`` the link that it is."""
        return FileStat(**await self._ask("stat", key or path, deadline_s, path, follow))

    async def examine(self, path: str, deadline_s: float = DEADLINE_S, *, key: str | None = None) -> Examination:
        """Tell all that stat and access say of a path; that nothing is there is no error here."""
        return await self._put(examination_of(path), deadline_s, key)

    async def read(
        self,
        path: str,
        deadline_s: float = DEADLINE_S,
        *,
        cap_bytes: int = 1,
        key: str | None = None,
        whole: bool = False,
    ) -> bytes:
        """Read the first ``cap_bytes`` of a file: what one read gives, or with ``whole`` all of them."""
        text: str = await self._ask("read", key or path, deadline_s, path, cap_bytes, whole)
        return text.encode("latin-1")

    async def list(self, path: str, deadline_s: float = DEADLINE_S, *, key: str | None = None) -> bool:
        """Read a directory: whether it holds anything."""
        return bool(await self._ask("list", key or path, deadline_s, path))

    async def write(self, path: str, deadline_s: float = DEADLINE_S, *, key: str | None = None) -> None:
        """Write, sync, read back and remove a small file in the directory ``path``."""
        await self._ask("write", key or path, deadline_s, path)

    async def uid(self, user: str, deadline_s: float = DEADLINE_S) -> int:
        """Find a user's number; the lookup may ask LDAP, which can hang as a filesystem can."""
        return int(await self._ask("uid", f"user {user}", deadline_s, user))

    async def user_name(self, uid: int, deadline_s: float = DEADLINE_S) -> str:
        """Find a user's name, or give the number as it is if it has none."""
        return await self._put(user_name_of(uid), deadline_s)

    async def group_name(self, gid: int, deadline_s: float = DEADLINE_S) -> str:
        """Find a group's name, or give the number as it is if it has none."""
        return await self._put(group_name_of(gid), deadline_s)

    async def ask_together(self, asked: Sequence[tuple[str, Question[Any]]]) -> Answers:
        """Put questions with their keys to one helper at once; None for each that is to be asked by itself.

        That is what the kernel answered with an error, what has a key that is being probed or is silent, and all when
        one lasts longer than ``patience_s``: the helper has not begun with those behind it, and never will. Whoever
        asks for that one's key next waits for its answer as if it had asked.
        """
        answers: Answers = [None] * len(asked)
        if self.servers is not None and self.servers.log.faults:
            return answers  # which of their mounts may be tried now is decided for each by itself
        lanes = [self._lanes.setdefault(key, _Lane()) for key, _ in asked]
        free = [number for number, lane in enumerate(lanes) if lane.is_free][:_MOST_TOGETHER]
        if not free or self._slots.locked():
            return answers
        together = {id(lanes[number]): lanes[number] for number in free}
        for lane in together.values():
            await lane.lock.acquire()  # it is free, so this does not wait
        try:
            said = await self._said_together([asked[number][1] for number in free], [lanes[number] for number in free])
        finally:
            for lane in together.values():
                lane.lock.release()
        for number, each in zip(free, said, strict=False):
            if "value" in each:
                answers[number] = asked[number][1].parse(each["value"])
        return answers

    async def _said_together(
        self, questions: Sequence[Question[Any]], lanes: Sequence[_Lane]
    ) -> Sequence[Mapping[str, Any]]:
        await self._slots.acquire()
        try:
            helper = self._idle.pop() if self._idle else self._start()
        except Transient:
            self._slots.release()
            return ()  # whoever asks by itself is told
        began_s = asyncio.get_running_loop().time()
        requests = [(question.look, (self._root, *question.arguments)) for question in questions]
        answers = helper.ask_together(requests, began_s + self._patience_s)
        try:
            await asyncio.wait({answers}, timeout=self._patience_s)
        except asyncio.CancelledError:
            # Killed first: it comes to no other request then.
            helper.kill()
            lane = lanes[helper.progress()]
            lane.silent_since_s = began_s
            self._abandon(helper, lane)
            raise
        if not answers.done():
            number = helper.progress()
            self._leave(lanes[number], _Late(helper, number, requests[number], answers), began_s)
            return ()
        if answers.exception() is not None:
            helper.kill()
            self._release(helper)
            return ()
        self._take_back(helper)
        return answers.result()

    def _leave(self, lane: _Lane, late: _Late, began_s: float) -> None:
        # What the helper has answered of the others is in its hands, and lost.
        lane.silent_since_s = began_s
        lane.late = late
        self._set_aside(late.helper)
        late.answers.add_done_callback(lambda _: self._came_late(lane, late))
        # As for any probe: perhaps nobody ever asks for this one.
        asyncio.get_running_loop().call_later(DEADLINE_S, self._give_up, lane, late)

    def _came_late(self, lane: _Lane, late: _Late) -> None:
        if lane.late is not late:
            return  # somebody waits for it, and sees to the rest
        lane.late = None
        if late.answers.cancelled() or late.answers.exception() is not None:
            late.helper.kill()
            self._release(late.helper)
            return
        lane.silent_since_s = None
        self._take_back(late.helper)

    def _give_up(self, lane: _Lane, late: _Late) -> None:
        if lane.late is late:
            lane.late = None
            self._abandon(late.helper, lane)

    async def _answer_of_late(self, lane: _Lane, late: _Late) -> Mapping[str, Any] | None:
        """Wait for it as if it had been asked just now; None: it was not begun, its time was up just then."""
        lane.late = None
        async with self._watched(late.helper, lane):
            said = await late.answers
            lane.silent_since_s = None
            return said[late.number] if late.number < len(said) else None

    def state(self) -> PoolState:
        """Count the helpers."""
        silent = (Silence(key, lane.silence_s()) for key, lane in self._lanes.items() if lane.lost is not None)
        return PoolState(
            helpers=len(self._all),
            idle=len(self._idle),
            abandoned=len(self._lost),
            abandoned_ever=self._abandoned_ever,
            started_ever=self._started_ever,
            silent=tuple(silent),
        )

    async def aclose(self) -> None:
        """Kill all helpers and wait a moment for those that can die; the rest go when their filesystem answers."""
        helpers = tuple(self._all)
        for helper in helpers:
            helper.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_GRACE_S):
                for helper in helpers:
                    await helper.reaped.wait()
        for helper in helpers:
            helper.forget()
        self._all.clear()

    async def _put(self, question: Question[T], deadline_s: float, key: str | None = None) -> T:
        return question.parse(await self._ask(question.look, key or question.about, deadline_s, *question.arguments))

    async def _ask(self, look: str, key: str, deadline_s: float, *arguments: object) -> Any:
        if self.servers is not None and (refusal := self.servers.refusal(key)) is not None:
            why, for_s = refusal
            raise Unanswered(f"{key} was {why}", for_s)
        lane = self._lanes.setdefault(key, _Lane())
        left_s = (1 - _LAST_WORD) * (ASKED_UNTIL.get() - asyncio.get_running_loop().time())
        deadline_s = min(deadline_s, max(0.0, left_s))
        try:
            async with asyncio.timeout(deadline_s):
                said = await self._ask_in_lane(look, key, lane, arguments)
        except TimeoutError as error:
            if lane.silent_since_s is None:
                raise Unanswered(f"{key} was not probed: no probe helper was free for {deadline_s:.3g} s") from error
            raise Unanswered(f"{key} has not answered for {lane.silence_s():.3g} s", lane.silence_s()) from error
        if self.servers is not None:
            self.servers.answered(key)
        if "errno" in said:
            raise OSError(said["errno"], said["error"])
        return said["value"]

    async def _ask_in_lane(self, look: str, key: str, lane: _Lane, arguments: tuple[object, ...]) -> Mapping[str, Any]:
        self._refuse_if_lost(key, lane)
        async with lane.lock:
            self._refuse_if_lost(key, lane)
            request = (look, (self._root, *arguments))
            if (late := lane.late) is not None:
                answer = await self._answer_of_late(lane, late)
                if answer is not None and late.request == request:
                    return answer
            async with self._lent(lane) as helper:
                if lane.silent_since_s is None:
                    lane.silent_since_s = asyncio.get_running_loop().time()
                said = await self._answer_of(helper, helper.ask(*request))
                lane.silent_since_s = None
                return said

    def _refuse_if_lost(self, key: str, lane: _Lane) -> None:
        if lane.lost is not None:
            raise Unanswered(f"{key} has not answered for {lane.silence_s():.0f} s", lane.silence_s())

    async def _answer_of(self, helper: Helper, answer: asyncio.Future[Mapping[str, Any]]) -> Mapping[str, Any]:
        done, _ = await asyncio.wait({answer}, timeout=self._patience_s)
        if not done:
            self._set_aside(helper)
        return await answer

    def _set_aside(self, helper: Helper) -> None:
        if len(self._aside) < self._max_abandoned:
            self._aside.add(helper)
            self._slots.release()

    @contextlib.asynccontextmanager
    async def _lent(self, lane: _Lane) -> AsyncIterator[Helper]:
        stuck = len(self._lost - self._aside)
        if stuck >= self._most:
            raise Unanswered(f"not probed: all {stuck} probe helpers hang in other filesystems")
        await self._slots.acquire()
        try:
            helper = self._idle.pop() if self._idle else self._start()
        except BaseException:
            self._slots.release()
            raise
        async with self._watched(helper, lane):
            yield helper

    @contextlib.asynccontextmanager
    async def _watched(self, helper: Helper, lane: _Lane) -> AsyncIterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            self._abandon(helper, lane)
            raise
        except BaseException:
            helper.kill()
            self._release(helper)
            raise
        self._take_back(helper)

    def _start(self) -> Helper:
        helper = Helper(self._argv, self._ended)
        self._all.add(helper)
        self._started_ever += 1
        return helper

    def _take_back(self, helper: Helper) -> None:
        self._release(helper)
        if not helper.alive:
            return
        if len(self._idle) < self._most:
            self._idle.append(helper)
        else:
            helper.kill()

    def _abandon(self, helper: Helper, lane: _Lane) -> None:
        # Past the deadline, or nobody wants the answer any more. The place it took comes back when it has ended.
        helper.kill()
        if not helper.alive:
            self._release(helper)
            return
        lane.lost = helper
        self._lost.add(helper)
        self._abandoned_ever += 1

    def _release(self, helper: Helper) -> None:
        if helper in self._aside:
            self._aside.remove(helper)
        else:
            self._slots.release()

    def _ended(self, helper: Helper) -> None:
        self._all.discard(helper)
        if helper in self._idle:
            self._idle.remove(helper)
        if helper not in self._lost:
            return
        self._lost.remove(helper)
        self._release(helper)
        for lane in self._lanes.values():
            if lane.lost is helper:
                lane.lost = None
