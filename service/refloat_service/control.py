# SPDX-License-Identifier: Apache-2.0
"""The control socket: how the command line talks to a daemon on the same machine. One JSON object per line.

asked     {"command": "wave_show", "arguments": {"id": "w1"}}
answered  {"result": …}
      or  {"item": …} any number of times, then {"end": true}
      or  {"error": {"kind": …, "message": …}}

The socket's mode says who may ask. Of those, only root, the daemon's own user and the members of the socket's group may
ask for what acts, whatever they say they are: the kernel tells who they are.
"""

import asyncio
import contextlib
import errno
import json
import os
import shutil
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog
from pydantic_core import to_json

from refloat_contract.errors import BadMessage, Misconfigured, RefloatError, Refused, Transient
from refloat_service import callers, envelopes, peers
from refloat_service.callers import Caller
from refloat_service.peers import Peer

log = structlog.get_logger(__name__)

Handler: TypeAlias = Callable[[dict[str, Any]], Awaitable[Any] | AsyncIterator[Any]]

REQUEST_CAP_BYTES: Final = 1 << 20
ANSWER_CAP_BYTES: Final = 256 << 20
_REQUEST_DEADLINE_S: Final = 10.0
_WRITE_DEADLINE_S: Final = 30.0
_PATH_CAP_BYTES: Final = 107  # unix(7): sun_path, less its ending zero

_ANY: Final = "the daemon"


def handler_of(handlers: Mapping[str, Handler], command: str) -> Handler:
    """What carries out a command, whatever way it came.

    Raises:
        Refused: there is no such command.
    """
    if command not in handlers:
        raise Refused(f"unknown command {command!r} (known here: {', '.join(sorted(handlers))})")
    return handlers[command]


class ControlServer:
    """Serves commands on a unix socket. A handler returns an awaitable of the answer, or an iterator of many.

    The commands in ``acting`` do more than tell: not everybody who may connect may give them, and who did is logged.
    ``take_over``: whoever may still serve there has lost the right to.
    """

    def __init__(
        self,
        path: Path,
        handlers: Mapping[str, Handler],
        mode: int = 0o600,
        group: str | None = None,
        acting: Collection[str] = (),
        *,
        take_over: bool = False,
    ) -> None:
        self._path = path
        self._handlers = handlers
        self._mode = mode
        self._group = group
        self._group_id: int | None = None
        self._acting = frozenset(acting)
        self._take_over = take_over
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Serve until cancelled, then remove the socket.

        Raises:
            Misconfigured: another process serves there, or the socket cannot be made.
        """
        if not self._take_over and await _is_served(self._path):
            raise Misconfigured(f"already running: another process serves {self._path}")
        listener, inode = await self._bound()
        try:
            server = await asyncio.start_unix_server(self._connected, sock=listener, limit=REQUEST_CAP_BYTES)
            try:
                await server.serve_forever()
            finally:
                server.close()
                await self._hang_up()
        finally:
            await asyncio.to_thread(self._remove, inode)

    async def _bound(self) -> tuple[socket.socket, int]:
        binding = asyncio.ensure_future(asyncio.to_thread(self._bind))
        try:
            return await asyncio.shield(binding)
        except asyncio.CancelledError:
            # The thread goes on all the same, and would leave a socket behind that nobody serves.
            with contextlib.suppress(Misconfigured):
                listener, inode = await binding
                listener.close()
                await asyncio.to_thread(self._remove, inode)
            raise

    def _bind(self) -> tuple[socket.socket, int]:
        # Bound beside its place and moved there when its mode is right: nobody meets it half made, and the file that a
        # crash left behind goes in the same step.
        temporary = self._path.with_name(f"{self._path.name}.new")
        if len(os.fsencode(temporary)) > _PATH_CAP_BYTES:
            raise Misconfigured(f"control socket: {self._path} is longer than a socket's path may be")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            temporary.unlink(missing_ok=True)
            listener.bind(str(temporary))
            temporary.chmod(self._mode)
            if self._group is not None:
                shutil.chown(temporary, group=self._group)
                self._group_id = temporary.stat().st_gid
            listener.listen(64)
            listener.settimeout(0)
            inode = temporary.stat().st_ino
            temporary.rename(self._path)
        except (OSError, LookupError) as error:
            listener.close()
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise Misconfigured(f"control socket: cannot make {self._path}: {why}") from error
        return listener, inode

    def _remove(self, inode: int) -> None:
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == inode:
                self._path.unlink()

    async def _hang_up(self) -> None:
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("asyncio runs each connection in a task")
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except asyncio.CancelledError:
            # Only _hang_up cancels us. On Python 3.11 a cancelled connection would be logged as a failed callback.
            log.debug("control_connection_cut")
        except _GoneError as error:
            log.debug("control_client_gone", error=str(error))
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = "?"
        try:
            command, arguments = await _request(reader)
            handler = handler_of(self._handlers, command)
            peer = peers.peer_of(writer.get_extra_info("socket"))
            may_act = peers.may_act(peer, os.geteuid(), self._group_id)
            if command in self._acting:
                self._admit(command, peer, may_act=may_act)
            callers.CALLER.set(Caller(peer, may_act))  # each connection has a task, and so a context, of its own
            answer = handler(arguments)
            if isinstance(answer, AsyncIterator):
                await _until_closed(reader, _send_all(writer, answer))
            else:
                await _send(writer, {"result": await answer})
        except RefloatError as error:
            await _send(writer, envelopes.of_error(error))
        except _GoneError:
            raise
        except Exception as error:  # a fault in one command must not end the daemon; the log has the traceback
            log.exception("control_command_failed", command=command)
            await _send(writer, envelopes.of_fault(command, error))

    def _admit(self, command: str, peer: Peer, *, may_act: bool) -> None:
        """Let them give this command, and note who they are.

        Raises:
            Refused: they may only read.
        """
        if not may_act:
            log.warning("control_refused", command=command, uid=peer.uid, pid=peer.pid)
            group = f" or as a member of the group {self._group}" if self._group else ""
            raise Refused(f"uid {peer.uid} may read here, but not ask for {command}: run this as root{group}")
        log.info("control_command", command=command, uid=peer.uid, pid=peer.pid)


class _GoneError(Exception):
    """The client hung up, or takes nothing any more."""


async def _request(reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]]:
    try:
        async with asyncio.timeout(_REQUEST_DEADLINE_S):
            line = await reader.readline()
    except ValueError as error:  # what readline raises past its limit
        raise BadMessage(f"the request is larger than {REQUEST_CAP_BYTES} bytes") from error
    except (ConnectionError, TimeoutError) as error:
        raise _GoneError("no request came") from error
    if not line:
        raise _GoneError("hung up without a request")
    try:
        asked = json.loads(line)
    except ValueError as error:
        raise BadMessage(f"the request is not JSON: {error}") from error
    match asked:
        case {"command": str(command)} if isinstance(arguments := asked.get("arguments", {}), dict):
            return command, arguments
    raise BadMessage('the request is not {"command": "…", "arguments": {…}}')


async def _send(writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
    writer.write(to_json(answer) + b"\n")
    try:
        async with asyncio.timeout(_WRITE_DEADLINE_S):
            await writer.drain()
    except (ConnectionError, TimeoutError) as error:
        raise _GoneError("takes no answer") from error


async def _send_all(writer: asyncio.StreamWriter, items: AsyncIterator[Any]) -> None:
    try:
        async for item in items:
            await _send(writer, {"item": item})
        await _send(writer, {"end": True})
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def _until_closed(reader: asyncio.StreamReader, work: Awaitable[None]) -> None:
    """Do ``work``, but end it when the client hangs up: a stream may be silent for hours."""
    working = asyncio.ensure_future(work)
    closed = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({working, closed}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, closed):
            task.cancel()
        await asyncio.gather(working, closed, return_exceptions=True)


async def _is_served(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return True


async def call(path: Path, command: str, deadline_s: float = 10.0, **arguments: Any) -> Any:
    """Ask a daemon one thing.

    Raises:
        Transient: nobody serves there, or no answer came in time; the sentence says what to do.
        RefloatError: what the daemon's handler raised.
    """
    try:
        async with asyncio.timeout(deadline_s):
            async with contextlib.aclosing(_answers(path, command, arguments)) as answers:
                async for answer in answers:
                    if "result" in answer:
                        return answer["result"]
    except TimeoutError as error:
        raise Transient(f"no answer from {path} within {deadline_s:g} s") from error
    raise BadMessage(f"{path}: {command} answers with a stream")


async def stream(path: Path, command: str, **arguments: Any) -> AsyncGenerator[Any, None]:
    """Ask a daemon for a stream; it ends when the daemon says so.

    Raises:
        Transient: nobody serves there, or the daemon went away in the middle.
        RefloatError: what the daemon's handler raised.
    """
    async with contextlib.aclosing(_answers(path, command, arguments)) as answers:
        async for answer in answers:
            if "end" in answer:
                return
            yield answer.get("item")


async def _answers(path: Path, command: str, arguments: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """The daemon's answers until it or we hang up; an error among them is raised."""
    reader, writer = await _connect(path)
    try:
        await _send(writer, {"command": command, "arguments": arguments})
        while line := await reader.readline():
            yield envelopes.without_error(envelopes.decoded(line, f"{path}: "))
    except (OSError, _GoneError) as error:
        raise Transient(f"{path}: the connection broke: {error}") from error
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    raise Transient(f"{path}: {_program(path)} went away before it had answered")


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(path, limit=ANSWER_CAP_BYTES)
    except PermissionError as error:
        raise Refused(f"not allowed to open {path}: run this as root or as a member of the socket's group") from error
    except OSError as error:
        why = "no such socket" if error.errno == errno.ENOENT else error.strerror or str(error)
        start = f"start it (systemctl start {_program(path)})" if _program(path) != _ANY else "start it"
        raise Transient(
            f"{_program(path)} does not listen at {path} ({why}): {start} or name another socket"
        ) from error


def _program(path: Path) -> str:
    return f"refloat-{path.stem}" if path.stem in {"agent", "coordinator"} else _ANY
