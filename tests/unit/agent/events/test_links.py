# SPDX-License-Identifier: Apache-2.0
import asyncio
import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from refloat_agent.events import links
from refloat_agent.events.links import LinkSource, parse
from refloat_checks.wakes import LinkChange

from .conftest import Serve, Told

CLONE_NEWNET = 0x40000000


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def link(index: int, name: bytes) -> bytes:
    attribute = struct.pack("=HH", 4 + len(name) + 1, 3) + name + b"\0"
    padded = attribute + b"\0" * (-len(attribute) % 4)
    return struct.pack("=BxHiII", 0, 1, index, 0, 0) + padded


def test_links_are_named_and_addresses_only_numbered() -> None:
    address = struct.pack("=BBBBI", 2, 24, 0, 0, 7)

    assert list(parse(message(16, link(3, b"ib0")) + message(17, link(4, b"eth10")) + message(20, address))) == [
        (3, "ib0"),
        (4, "eth10"),
        (7, None),
    ]


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 15, b"\0" * 64, message(16, b"\0" * 8), message(16, link(3, b"ib0"))[:20], b"\xff" * 40]
)
def test_what_is_no_whole_message_names_no_link(data: bytes) -> None:
    assert [name for _, name in parse(data) if name] == []


class Namespace:
    """A network namespace, and a socket of the source's in it."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        thread = threading.Thread(target=self._make)
        thread.start()
        thread.join()

    def _make(self) -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            self.error = OSError(ctypes.get_errno(), "unshare")
            return
        self.file = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.ear = links._listening()

    async def ip(self, *argv: str) -> None:
        entered = await asyncio.create_subprocess_exec(
            "nsenter", f"--net=/proc/{os.getpid()}/fd/{self.file}", "ip", *argv
        )
        assert await entered.wait() == 0


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    if made.error is not None:
        pytest.skip(f"no network namespace can be made here: {made.error}")
    yield made
    os.close(made.file)


async def test_it_tells_of_each_change_to_the_links_that_are_meant(namespace: Namespace, serving: Serve) -> None:
    told = Told(LinkChange("ib*"), LinkChange("eth0"))
    async with serving(LinkSource(told.subscription, lambda: namespace.ear)):
        await namespace.ip("link", "add", "ib0", "type", "bridge")
        assert await told.next() == {LinkChange("ib*")}
        for argv in (
            ("link", "set", "ib0", "up"),
            ("addr", "add", "192.0.2.1/24", "dev", "ib0"),
            ("link", "set", "ib0", "down"),
            ("link", "del", "ib0"),
        ):
            await asyncio.sleep(0.06)  # what the last one told has been read
            told.wakes.clear()
            await namespace.ip(*argv)

            assert await told.next() == {LinkChange("ib*")}


async def test_a_link_that_is_given_another_name_wakes_who_asked_for_the_old_one(
    namespace: Namespace, serving: Serve
) -> None:
    told = Told(LinkChange("ib0"))
    async with serving(LinkSource(told.subscription, lambda: namespace.ear)):
        await namespace.ip("link", "add", "ib0", "type", "bridge")
        await told.next()
        await asyncio.sleep(0.06)
        told.wakes.clear()
        await namespace.ip("link", "set", "ib0", "name", "ib7")

        assert await told.next() == {LinkChange("ib0")}


async def test_when_the_kernel_had_no_room_all_links_may_have_changed(namespace: Namespace, serving: Serve) -> None:
    told = Told(LinkChange("ib0"), LinkChange("eth0"))
    namespace.ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    async with serving(LinkSource(told.subscription, lambda: namespace.ear)):
        await namespace.ip("link", "add", "other0", "type", "bridge")
        for state in ("up", "down") * 10:
            await namespace.ip("link", "set", "other0", state)

        assert await told.next() == {LinkChange("ib0"), LinkChange("eth0")}
        assert told.counts.dropped >= 1
