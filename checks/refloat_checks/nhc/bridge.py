# SPDX-License-Identifier: Apache-2.0
"""The one bash process of a pass, for those parts of an nhc.conf that need a shell; killed with all its children."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from refloat_contract.errors import Transient

SCRIPT: Final = Path(__file__).with_name("bridge.bash")
LAUNCHER: Final = ("/usr/bin/env", "--", "bash", "--noprofile", "--norc")
OUTPUT_CAP_BYTES: Final = 1 << 18
# Set to 1, a failure ends no line, and so no run, whatever NHC_CHECK_ALL says.
EACH_LINE: Final = "_refloat_each_line"
_WORD_CAP_BYTES: Final = 1 << 20
_GRACE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the native side says to a question from bash: an exit status, and a text or the message of a failure.

    Where `array` names one, it is set to `lines`.
    """

    rc: int
    text: str = ""
    died: bool = False
    array: str = ""
    lines: tuple[str, ...] = ()


Answerer = Callable[[Sequence[str]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Death:
    """One failure that the configuration's own commands declared."""

    rc: int
    message: str
    native: bool = False


@dataclass(slots=True)
class Ran:
    """How one text ended: its status, what it declared and said, and whether it ended the whole run."""

    rc: int = 0
    exited: bool = False
    deaths: list[Death] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    syslog: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    output: str = ""
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Called:
    """How a function ended. `spoiled`: it was killed amid a question, so what bash hears next cannot be told."""

    rc: int
    output: str
    ran: Ran
    timed_out: bool = False
    spoiled: bool = False


class Bridge:
    """A running bash. Its variables live from one text to the next."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        files: tuple[int, int],
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        answer: Answerer,
    ) -> None:
        self._process = process
        self._output, self._results = (_Growing(file) for file in files)
        self._busy = False
        self._reader, self._writer = streams
        self._answer = answer

    @classmethod
    async def start(cls, checks: Iterable[str], env: Mapping[str, str], answer: Answerer) -> "Bridge":
        """Start bash with these checks as functions that are answered here. Raises Transient."""
        ours, theirs = socket.socketpair()
        output, results = os.memfd_create("nhc-output"), os.memfd_create("nhc-results")
        argv = (*LAUNCHER, str(SCRIPT), str(theirs.fileno()), str(results), *checks)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(), results),
                env=dict(env),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(output)
            os.close(results)
            raise Transient(f"cannot start bash: {error.strerror}") from error
        finally:
            theirs.close()
        streams = await asyncio.open_unix_connection(sock=ours, limit=_WORD_CAP_BYTES)
        return cls(process, (output, results), streams, answer)

    @property
    def is_busy(self) -> bool:
        """Whether it is amid a text, which waits for the answer to a question."""
        return self._busy

    async def assign(self, variables: Mapping[str, str], exports: Iterable[str] = ()) -> None:
        """Set variables; their values are never evaluated."""
        words = [word for name, value in variables.items() for word in ("set", name, value)]
        words += [word for name in exports for word in ("export", name)]
        await self._send(words)

    async def watch(self, names: Iterable[str]) -> None:
        """Name the variables whose values each run is to tell."""
        await self._send([word for name in names for word in ("watch", name)])

    async def run(self, text: str) -> Ran:
        """Run a text of the configuration. Raises Transient when bash is gone."""
        return await self._finished(["run", text])

    async def source(self, script: str) -> Ran:
        """Source a site's script."""
        return await self._finished(["source", script])

    async def call(self, argv: Sequence[str], timeout_s: float | None) -> Called:
        """Run a function with these arguments, to its end or to the end of its time. Raises Transient.

        It runs in a subshell: what it sets is lost. Whoever cancels this must close the bridge.
        """
        began = self._results.size
        await self._send(["call", str(len(argv)), *argv])
        if (said := await self._word()) != "called":
            raise Transient(f"bash said {said!r}, which means nothing")
        group, ran = int(await self._word()), Ran()
        too_long = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(timeout_s, _end, group, too_long) if timeout_s else None
        try:
            while not await self._heard(ran):
                pass
        finally:
            if timer is not None:
                timer.cancel()
            _kill(group)
        ran.output = self._output.news()
        output, timed_out = self._results.since(began), too_long.is_set()
        return Called(ran.rc, output, ran, timed_out, spoiled=timed_out and ran.asked)

    async def aclose(self) -> None:
        """Kill bash and all that it started, and do not wait for what cannot be killed."""
        self._writer.close()
        _kill(self._process.pid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await self._process.wait()
        self._output.close()
        self._results.close()

    async def _send(self, words: Sequence[str]) -> None:
        try:
            self._writer.write(b"".join(os.fsencode(word.replace("\0", "")) + b"\0" for word in words))
            await self._writer.drain()
        except ConnectionError as error:
            raise Transient("bash ended by itself") from error

    async def _finished(self, words: Sequence[str]) -> Ran:
        self._busy = True
        await self._send(words)
        ran = Ran()
        while not await self._heard(ran):
            pass
        self._busy = False
        ran.output = self._output.news()
        return ran

    async def _heard(self, ran: Ran) -> bool:
        match await self._word():
            case "done":
                ran.rc = int(await self._word())
                return True
            case "exit":
                ran.rc, ran.exited = int(await self._word()), True
                return True
            case "die":
                rc, source, message = [await self._word() for _ in range(3)]
                ran.deaths.append(Death(_status(rc), message, native=source == "native"))
            case "log":
                ran.log.append(await self._word())
            case "syslog":
                ran.syslog.append(await self._word())
            case "variable":
                name = await self._word()
                ran.variables[name] = await self._word()
            case "ask":
                ran.asked = True
                asked = [await self._word() for _ in range(int(await self._word()))]
                answer = await self._answer(asked)
                lines = (answer.array, str(len(answer.lines)), *answer.lines)
                await self._send([str(answer.rc), "1" if answer.died else "0", answer.text, *lines])
            case other:
                raise Transient(f"bash said {other!r}, which means nothing")
        return False

    async def _word(self) -> str:
        try:
            return os.fsdecode((await self._reader.readuntil(b"\0"))[:-1])
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Transient("bash ended by itself") from error
        except asyncio.LimitOverrunError as error:
            raise Transient(f"bash said more than {_WORD_CAP_BYTES} bytes at once") from error


class _Growing:
    """A file that others write to, read piece by piece."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._read_to = 0

    def news(self) -> str:
        """What was written since the last look."""
        began, self._read_to = self._read_to, self.size
        return self.since(began)

    def since(self, began: int) -> str:
        """What was written from there on."""
        return os.pread(self._file, OUTPUT_CAP_BYTES, began).decode(errors="replace")

    @property
    def size(self) -> int:
        """How much was written."""
        return os.fstat(self._file).st_size

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


def _end(group: int, too_long: asyncio.Event) -> None:
    too_long.set()
    _kill(group)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _status(text: str) -> int:
    return int(text) & 0xFF if text.lstrip("-").isdecimal() else 1
