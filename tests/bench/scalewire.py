# SPDX-License-Identifier: Apache-2.0
"""How the processes of `make bench-scale` talk: numbered requests and answers over unix sockets, JSON or bytes."""

import asyncio
import contextlib
import itertools
import json
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

from refloat_contract.errors import RefloatError, Refused, Transient, UnknownNode

Answer: TypeAlias = Any
Handle = Callable[[dict[str, Any]], Answer | Awaitable[Answer]]

_HEAD: Final = struct.Struct("!IIB")
_JSON, _BYTES, _ERROR = range(3)
_ERRORS: Final = {kind.__name__: kind for kind in (Transient, UnknownNode, Refused)}


async def serve(path: Path, handle: Handle, delay_s: Callable[[], float] = lambda: 0.0) -> None:
    """Answer until cancelled; each answer leaves ``delay_s`` after its request came."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size, number, _ = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                request = json.loads(await reader.readexactly(size))
                await _answer(writer, number, handle, request, delay_s())

    server = await asyncio.start_unix_server(converse, path)
    async with server:
        await server.serve_forever()


async def _answer(
    writer: asyncio.StreamWriter, number: int, handle: Handle, request: dict[str, Any], delay_s: float
) -> None:
    try:
        answer = handle(request)
        if isinstance(answer, Awaitable):
            answer = await answer
        kind, payload = (_BYTES, answer) if isinstance(answer, bytes) else (_JSON, json.dumps(answer).encode())
    except RefloatError as error:
        kind, payload = _ERROR, json.dumps([type(error).__name__, str(error)]).encode()
    frame = _HEAD.pack(len(payload), number, kind) + payload
    if delay_s > 0:
        asyncio.get_running_loop().call_later(delay_s, writer.write, frame)
    else:
        writer.write(frame)


class Wire:
    """The asking end. Any number of requests may be under way."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self, path: Path, patience_s: float = 60.0) -> "Wire":
        """Connect, once the other end listens."""
        async with asyncio.timeout(patience_s):
            while True:
                try:
                    reader, self._writer = await asyncio.open_unix_connection(path, limit=1 << 26)
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        self._reader = asyncio.ensure_future(self._read(reader))
        return self

    async def ask(self, op: str, **facts: Any) -> Answer:
        """Ask, and wait for the answer."""
        if self._writer is None:
            raise Transient("not open")
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        payload = json.dumps({"op": op, **facts}).encode()
        self._writer.write(_HEAD.pack(len(payload), number, _JSON) + payload)
        return await future

    async def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                size, number, kind = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                payload = await reader.readexactly(size)
                future = self._waiting.pop(number)
                if future.done():
                    continue
                if kind == _ERROR:
                    name, why = json.loads(payload)
                    future.set_exception(_ERRORS.get(name, Transient)(why))
                else:
                    future.set_result(payload if kind == _BYTES else json.loads(payload))
        except (asyncio.IncompleteReadError, ConnectionError):
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Transient("the other end is gone"))
