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
_WORD_CAP_BYTES: Final = 1 << 20
_GRACE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the native side says to a question from bash: an exit status, and a text or the message of a failure."""

    rc: int
    text: str = ""
    died: bool = False


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


class Bridge:
    """A running bash. Its variables live from one text to the next."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        output: int,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        answer: Answerer,
    ) -> None:
        self._process = process
        self._output = output
        self._read_to = 0
        self._reader, self._writer = streams
        self._answer = answer

    @classmethod
    async def start(cls, checks: Iterable[str], env: Mapping[str, str], answer: Answerer) -> "Bridge":
        """Start bash with these checks as functions that are answered here. Raises Transient."""
        ours, theirs = socket.socketpair()
        output = os.memfd_create("nhc-output")
        argv = (*LAUNCHER, str(SCRIPT), str(theirs.fileno()), *checks)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                env=dict(env),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(output)
            raise Transient(f"cannot start bash: {error.strerror}") from error
        finally:
            theirs.close()
        streams = await asyncio.open_unix_connection(sock=ours, limit=_WORD_CAP_BYTES)
        return cls(process, output, streams, answer)

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

    async def aclose(self) -> None:
        """Kill bash and all that it started, and do not wait for what cannot be killed."""
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await self._process.wait()
        os.close(self._output)

    async def _send(self, words: Sequence[str]) -> None:
        try:
            self._writer.write(b"".join(os.fsencode(word.replace("\0", "")) + b"\0" for word in words))
            await self._writer.drain()
        except ConnectionError as error:
            raise Transient("bash ended by itself") from error

    async def _finished(self, words: Sequence[str]) -> Ran:
        await self._send(words)
        ran = Ran()
        while not await self._heard(ran):
            pass
        ran.output = self._new_output()
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
                asked = [await self._word() for _ in range(int(await self._word()))]
                answer = await self._answer(asked)
                await self._send([str(answer.rc), "1" if answer.died else "0", answer.text])
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

    def _new_output(self) -> str:
        block = os.pread(self._output, OUTPUT_CAP_BYTES, self._read_to)
        self._read_to = os.fstat(self._output).st_size
        return block.decode(errors="replace")


def _status(text: str) -> int:
    return int(text) & 0xFF if text.lstrip("-").isdecimal() else 1
