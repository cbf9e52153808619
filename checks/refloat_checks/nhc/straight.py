# SPDX-License-Identifier: Apache-2.0
"""Waits for a pass without an event loop: the coroutines of native checks run straight through, one after the other.

To import asyncio takes longer than a whole pass. Nothing here yields to a loop: who must wait, polls until its
deadline, and that of whoever waits for it in turn.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time

from refloat_checks.nhc.engine import Late, NeedsLoop
from refloat_contract.errors import Refused, Transient
from refloat_service.completed import LAUNCHER, OUTPUT_CAP_BYTES, Completed, as_run, require_program

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from typing import Any, Final, TypeVar

    T = TypeVar("T")

_BLOCK_BYTES: Final = 1 << 16
_GRACE_S: Final = 1.0
# What Python ignores, and a program that it starts should not.
_DEFAULTS: Final = (signal.SIGPIPE, signal.SIGXFSZ)


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits for a loop to its end."""
    try:
        work.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    work.close()
    raise AssertionError("a coroutine waits for an event loop where there is none")


class _Limit:
    """Until when something is waited for."""

    def __init__(self, until_s: float) -> None:
        self.until_s = until_s


class Over(BaseException):
    """The time of a limit is over; passes through all that is within it, as asyncio's CancelledError does."""

    def __init__(self, limit: _Limit) -> None:
        super().__init__()
        self.limit = limit


class Straight:
    """The engine of whoever has no loop."""

    def __init__(self) -> None:
        self._limits: list[_Limit] = []

    def now_s(self) -> float:
        """Tell the time; asyncio's loop has the same clock."""
        return time.monotonic()

    async def within(self, seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
        """Do what must be done within so long."""
        limit = _Limit(math.inf if seconds is None else time.monotonic() + seconds)
        self._limits.append(limit)
        try:
            return await work
        except Over as over:
            if over.limit is limit:
                raise Late from over
            raise
        finally:
            self._limits.remove(limit)

    def require_loop(self) -> None:
        """Raise NeedsLoop."""
        raise NeedsLoop

    def readable(self, handles: Sequence[int], until_s: float = math.inf) -> list[int]:
        """Wait until some can be read, or until then: none. Raises Over at the limit of whoever waits for this."""
        first = min(self._limits, key=lambda each: each.until_s, default=None)
        limit_s = min(until_s, first.until_s if first is not None else math.inf)
        poll = select.poll()
        for handle in handles:
            poll.register(handle, select.POLLIN)
        left_s = max(0.0, limit_s - time.monotonic())
        ready = poll.poll(None if limit_s == math.inf else math.ceil(1000 * left_s))
        if not ready and first is not None and first.until_s <= limit_s:
            raise Over(first)
        return [handle for handle, _ in ready]

    async def ends(self, handle: int, within_s: float) -> bool:
        """Wait for the end of a process."""
        return bool(self.readable([handle], time.monotonic() + within_s))

    async def command(
        self,
        argv: Sequence[str],
        *,
        deadline_s: float,
        env: Mapping[str, str] | None = None,
        cap_bytes: int | None = None,
    ) -> Completed:
        """Run a program to its end, as `refloat_service.commands.run` does, with the same promise."""
        require_program(argv)
        started_s = time.monotonic()
        program = _Program(argv, env)
        try:
            cap = OUTPUT_CAP_BYTES if cap_bytes is None else cap_bytes
            out, err = self._said(program, started_s + deadline_s, cap)
            if not self.readable([program.handle], started_s + deadline_s):
                raise Transient(f"{argv[0]} did not end within {deadline_s:g} s; killed")
        finally:
            # Nothing that we started is left behind.
            returncode = program.close()
        took_s = time.monotonic() - started_s
        return as_run(
            Completed(tuple(argv), returncode, out.decode(errors="replace"), err.decode(errors="replace"), took_s)
        )

    def _said(self, program: _Program, until_s: float, cap: int) -> tuple[bytes, bytes]:
        said: dict[int, bytes] = dict.fromkeys(program.outputs, b"")
        open_ones = list(program.outputs)
        while open_ones:
            ready = self.readable(open_ones, until_s)
            if not ready:
                raise Transient(f"{program.name} did not end in time; killed")
            for place in ready:
                block = os.read(place, _BLOCK_BYTES)
                said[place] += block
                if not block:
                    open_ones.remove(place)
                if len(said[place]) > cap:
                    raise Transient(f"a program printed more than {cap} bytes; killed")
        out, err = program.outputs
        return said[out], said[err]


class _Program:
    """A program that was started, in a session of its own, and what it says."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None) -> None:
        self.name = argv[0]
        (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe()
        self.outputs = (out, err)
        try:
            self._pid = os.posix_spawn(
                LAUNCHER[0],
                [*LAUNCHER, *argv],
                os.environ if env is None else dict(env),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs_out, 1),
                    (os.POSIX_SPAWN_DUP2, theirs_err, 2),
                ],
                setsid=True,
                setsigdef=_DEFAULTS,
            )
        except (OSError, ValueError) as error:
            self._close_outputs()
            raise Refused(f"cannot run {argv[0]}: {error}") from error
        finally:
            os.close(theirs_out)
            os.close(theirs_err)
        self.handle = os.pidfd_open(self._pid)

    def close(self) -> int:
        """See to its end, and give its exit status; a process that cannot be killed is left alone."""
        try:
            if not self._has_ended(0.0):
                os.killpg(self._pid, signal.SIGTERM)
                self._has_ended(_GRACE_S)
                # Until it is waited for, its number is its group's; some of it may not have taken the first signal.
                os.killpg(self._pid, signal.SIGKILL)
                self._has_ended(_GRACE_S)
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            return os.waitstatus_to_exitcode(status) if pid else -signal.SIGKILL
        finally:
            os.close(self.handle)
            self._close_outputs()

    def _has_ended(self, within_s: float) -> bool:
        return bool(select.select([self.handle], [], [], within_s)[0])

    def _close_outputs(self) -> None:
        for place in self.outputs:
            os.close(place)
