# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from unit.coordinator.world import eventually

from refloat_coordinator.metrics import http
from refloat_coordinator.metrics.http import Answer, HttpServer


async def hello() -> Answer:
    return Answer(200, b"hello\n")


async def ill() -> Answer:
    return Answer(503, b"ill\n")


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    server = HttpServer("127.0.0.1", 0, {"/hello": hello, "/ill": ill})
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.port > 0)
    yield server
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def said(server: HttpServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_", "status", "ends"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b"hello\n"),
        (b"GET /hello?a=b HTTP/1.0\r\n\r\n", b"200 OK", b"hello\n"),
        (b"HEAD /hello HTTP/1.1\r\n\r\n", b"200 OK", b"\r\n\r\n"),
        (b"GET /ill HTTP/1.1\r\n\r\n", b"503 Service Unavailable", b"ill\n"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found", b"there is /hello, /ill\n"),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", b"404 Not Found", b"there is /hello, /ill\n"),
        (b"POST /hello HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", b"405 Method Not Allowed", b"only GET\n"),
        (b"\x16\x03\x01\x02\x00\x01\xff\xfe\r\n\r\n", b"400 Bad Request", b"\n"),
        (b"GET /hello\r\n\r\n", b"400 Bad Request", b"\n"),
        (b"GET /" + b"a" * 70_000, b"400 Bad Request", b"\n"),
    ],
)
async def test_what_is_asked_and_what_is_answered(
    server: HttpServer, request_: bytes, status: bytes, ends: bytes
) -> None:
    answer = await said(server, request_)

    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert answer.endswith(ends)


async def test_who_never_finishes_asking_keeps_nobody_out_for_long(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_DEADLINE_S", 0.05)
    slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(40)]
    for _, writer in slow:
        writer.write(b"GET /hello HTTP/1.1\r\n")
    for reader, _ in slow:
        with contextlib.suppress(ConnectionResetError):  # there were too many at once
            assert await reader.read() == b""

    assert (await said(server, b"GET /hello HTTP/1.1\r\n\r\n")).endswith(b"hello\n")
    for _, writer in slow:
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()


async def test_a_port_that_another_has_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_BIND_AGAIN_S", 0.01)
    other = socket.create_server(("127.0.0.1", 0))
    server = HttpServer("127.0.0.1", other.getsockname()[1], {"/hello": hello})
    serving = asyncio.create_task(server.serve())
    await asyncio.sleep(0.05)
    other.close()

    async def answers() -> bool:
        try:
            return (await said(server, b"GET /hello HTTP/1.1\r\n\r\n")).endswith(b"hello\n")
        except OSError:
            return False

    await eventually(answers)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
