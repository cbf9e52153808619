# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server for probes and scrapers: GET of fixed paths, one request a connection, everything bounded."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_HEAD_CAP_BYTES: Final = 8192
_DEADLINE_S: Final = 5.0
_AT_ONCE: Final = 32
_BIND_AGAIN_S: Final = 10.0
_REASONS: Final[Mapping[int, str]] = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers with."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[], Awaitable[Answer]]


class HttpServer:
    """Serves ``pages`` at host:port."""

    def __init__(self, host: str | None, port: int, pages: Mapping[str, Page]) -> None:
        self.port = port
        """Where it listens: once it does, the port that 0 stood for."""
        self._host = host
        self._pages = pages
        self._talks = 0

    async def serve(self) -> None:
        """Serve until cancelled. Where nobody can listen, say so and try again: nothing else depends on it."""
        complaint = ""
        while True:
            try:
                server = await asyncio.start_server(self._talk, self._host, self.port, limit=_HEAD_CAP_BYTES)
            except OSError as error:
                if str(error) != complaint:
                    log.warning("http_cannot_listen", host=self._host, port=self.port, why=str(error))
                complaint = str(error)
                await asyncio.sleep(_BIND_AGAIN_S)
                continue
            async with server:
                self.port = server.sockets[0].getsockname()[1]
                log.info("http_listens", host=self._host, port=self.port)
                await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._talks >= _AT_ONCE:
            writer.close()
            return
        self._talks += 1
        try:
            async with asyncio.timeout(_DEADLINE_S):
                method, answer = await self._answered(reader)
                writer.write(_encoded(answer, with_body=method != "HEAD"))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            # Who does not ask in time, or goes away, has no answer. Cancelled: the server is closed.
            log.debug("http_talk_cut")
        finally:
            self._talks -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answered(self, reader: asyncio.StreamReader) -> tuple[str, Answer]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return "", Answer(400, b"not an HTTP request, or one that is too long\n")
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, target, version
            return "", Answer(400, b"not an HTTP request\n")
        method, target, _ = words
        if method not in {"GET", "HEAD"}:
            return method, Answer(405, b"only GET\n")
        page = self._pages.get(target.partition("?")[0])
        if page is None:
            return method, Answer(404, f"there is {', '.join(self._pages)}\n".encode())
        return method, await page()


def _encoded(answer: Answer, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (answer.body if with_body else b"")
