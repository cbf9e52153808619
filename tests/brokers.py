# SPDX-License-Identifier: Apache-2.0
"""MQTT brokers on loopback ports of their own: amqtt inside the test's process, and mosquitto where it is installed."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from amqtt.broker import Broker


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class TestBroker:
    """amqtt, which can be stopped and started again at the same port.

    With ``anonymous`` everybody may come in, but amqtt keeps no session of anybody; without, any name will do.
    """

    __test__ = False

    def __init__(self, *, anonymous: bool = True) -> None:
        self._anonymous = anonymous
        self.port = free_port()
        self._broker: Broker | None = None
        self.published: list[tuple[str, bytes]] = []
        """What every client has published, over all restarts: nobody has to be subscribed in time to know it."""

    async def start(self) -> None:
        """Listen."""
        config = {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": self._anonymous}},
        }
        self._broker = Broker(config)
        broadcast = self._broker._broadcast_message

        async def heard(session: Any, topic: str, data: bytes, *rest: Any) -> None:
            self.published.append((topic, bytes(data)))
            await broadcast(session, topic, data, *rest)

        self._broker._broadcast_message = heard
        await self._broker.start()

    async def stop(self) -> None:
        """Hang up on everybody, as a broker does that is restarted; sessions and retained messages are gone."""
        if self._broker is not None:
            broker, self._broker = self._broker, None
            for _, handler in broker._sessions.values():
                # Its shutdown cancels who reads from a client, and waits. Where a packet comes at that moment, wait_for
                # forgets the cancellation (before Python 3.12); nobody reads on at the end of a stream.
                handler.writer._writer.close()
            await broker.shutdown()

    def sessions(self) -> list[str]:
        """The clients that are connected."""
        if self._broker is None:
            return []
        return [name for name, (session, _) in self._broker._sessions.items() if session.transitions.is_connected()]


@contextlib.asynccontextmanager
async def running_broker(*, anonymous: bool = True) -> AsyncIterator[TestBroker]:
    """A broker for the time of a test."""
    broker = TestBroker(anonymous=anonymous)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


@contextlib.asynccontextmanager
async def running_mosquitto(folder: Path) -> AsyncIterator[int]:
    """A mosquitto in a process of its own; answers with its port. It keeps the sessions of those who are away.

    As the shipped configuration has it, a user is one client, whatever it calls itself.
    """
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nuse_username_as_clientid true\n")
    broker = await asyncio.create_subprocess_exec("mosquitto", "-c", str(config), stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(5):
            while not await _listens(port):  # noqa: ASYNC110 - what is waited for happens in another process
                await asyncio.sleep(0.01)
        yield port
    finally:
        broker.terminate()
        await broker.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
