# SPDX-License-Identifier: Apache-2.0
"""One disposable helper process: asked over a pipe, answered over a pipe, killed without being waited for."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from refloat_contract.errors import Transient

_BLOCK_BYTES: Final = 1 << 16
_PROGRESS_BYTES: Final = 4
_REAP_AGAIN_S: Final = 0.01


class HelperGone(Transient):
    """The helper ended before it answered."""


class Helper:
    """A running helper process. Its end is told by the end of its answers, so no thread waits for it.

    A process in uninterruptible sleep keeps its pipes open until it really ends: `on_exit` is called then, and not
    when it is killed.
    """

    def __init__(self, argv: Sequence[str], on_exit: Callable[["Helper"], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self._buffer = b""
        self._answer: asyncio.Future[Any] | None = None
        self._closed = False
        self.alive = True
        self.reaped = asyncio.Event()
        theirs_in, self._requests = os.pipe()
        self._answers, theirs_out = os.pipe()
        self._progress = os.memfd_create("progress", os.MFD_CLOEXEC)
        try:
            self.pid = _spawn(argv, theirs_in, theirs_out, self._progress)
        except OSError as error:
            for place in (self._requests, self._answers, self._progress):
                os.close(place)
            raise Transient(f"cannot start a probe helper: {argv[0]}: {error.strerror}") from error
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        os.set_blocking(self._answers, False)
        os.set_blocking(self._requests, False)
        self._loop.add_reader(self._answers, self._readable)

    def ask(self, look: str, arguments: Sequence[object]) -> asyncio.Future[Mapping[str, Any]]:
        """Send one request; the future holds the answer, or HelperGone."""
        return self._send(_request(look, arguments))

    def ask_together(
        self, requests: Iterable[tuple[str, Sequence[object]]], begin_by_s: float
    ) -> asyncio.Future[list[Mapping[str, Any]]]:
        """Send many requests; the future holds the answers to those that were begun by then (the loop's clock)."""
        os.pwrite(self._progress, bytes(_PROGRESS_BYTES), 0)
        return self._send({"together": [_request(*each) for each in requests], "begin_by": begin_by_s})

    def progress(self) -> int:
        """Which of the requests that were sent together it has come to; past their time it begins none behind."""
        return 0 if self._closed else int.from_bytes(os.pread(self._progress, _PROGRESS_BYTES, 0), "little")

    def _send(self, message: Mapping[str, object]) -> asyncio.Future[Any]:
        answer = self._answer = self._loop.create_future()
        line = json.dumps(message).encode() + b"\n"
        try:
            sent = os.write(self._requests, line)
        except OSError as error:
            answer.set_exception(HelperGone(f"a probe helper ended by itself: {error.strerror}"))
            return answer
        if sent < len(line):
            answer.set_exception(HelperGone("a request was too long for a probe helper's pipe"))
        return answer

    def kill(self) -> None:
        """Send SIGKILL and do not wait: a process in uninterruptible sleep does not take it."""
        if self._answer is not None:
            self._answer.cancel()
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)

    def forget(self) -> None:
        """Close our ends of its pipes, whether it has ended or not."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._answers)
            os.close(self._answers)
            os.close(self._requests)
            os.close(self._progress)

    def _readable(self) -> None:
        block = os.read(self._answers, _BLOCK_BYTES)
        if not block:
            self._ended()
            return
        self._buffer += block
        line, newline, rest = self._buffer.partition(b"\n")
        if newline:
            self._buffer = rest
            self._settle(line)

    def _settle(self, line: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(json.loads(line))

    def _ended(self) -> None:
        self.alive = False
        self.forget()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(HelperGone("a probe helper ended by itself"))
        self._reap()
        self._on_exit(self)

    def _reap(self) -> None:
        # Its pipes close a moment before it can be waited for.
        pid, _ = os.waitpid(self.pid, os.WNOHANG)
        if pid != 0:
            self.reaped.set()
        else:
            self._loop.call_later(_REAP_AGAIN_S, self._reap)


def _request(look: str, arguments: Sequence[object]) -> dict[str, object]:
    return {"look": look, "arguments": list(arguments)}


def _spawn(argv: Sequence[str], stdin: int, stdout: int, progress: int) -> int:
    # posix_spawn, not fork: the daemon's memory is not copied, and no Python runs between fork and exec.
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return os.posix_spawn(
            argv[0],
            list(argv),
            {"LC_ALL": "C.UTF-8"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, stdout, 1),
                (os.POSIX_SPAWN_DUP2, null, 2),
                (os.POSIX_SPAWN_DUP2, progress, 3),
            ],
            setsid=True,
        )
    finally:
        os.close(null)
