# SPDX-License-Identifier: Apache-2.0
"""Ping without a program: ICMP sockets that need no privileges, where the kernel allows them to us."""

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from refloat_checks.facts import Facts
from refloat_contract.errors import Refused

_REQUEST: Final = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY: Final = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL: Final = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_HEADER: Final = struct.Struct("!BBHHH")
_MOST_BYTES: Final = 65535


@dataclass(frozen=True, slots=True)
class Ping:
    """What is sent: how many requests, how long apart, and within how many seconds all must be answered."""

    count: int = 1
    interval_s: float = 1.0
    size: int = 56
    ttl: int | None = None
    deadline_s: float = 1.0
    source: str = ""


class NotAllowed(Refused):
    """The kernel gives us no such socket (see net.ipv4.ping_group_range in icmp(7))."""


async def resolve(facts: Facts, host: str) -> tuple[socket.AddressFamily, str]:
    """Find a host's address, without waiting for the resolver in the loop; OSError if it has none."""

    def ask() -> tuple[socket.AddressFamily, str]:
        family, _, _, _, found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0]
        return family, str(found[0])

    return await facts.read(f"the address of {host}", ask)


async def ping(family: socket.AddressFamily, host: str, wanted: Ping) -> bool:
    """Tell whether a host answers all requests in time.

    Raises:
        NotAllowed: the kernel gives us no ICMP socket.
        OSError: a request cannot be sent.
    """
    try:
        place = socket.socket(family, socket.SOCK_DGRAM, _PROTOCOL[family])
    except PermissionError as error:
        raise NotAllowed("unprivileged ICMP sockets are not allowed to us") from error
    with place:
        place.settimeout(0)
        _prepare(place, family, wanted)
        try:
            async with asyncio.timeout(wanted.deadline_s):
                return await _exchange(place, family, host, wanted)
        except TimeoutError:
            return False


def _prepare(place: socket.socket, family: socket.AddressFamily, wanted: Ping) -> None:
    if wanted.ttl is not None:
        if family == socket.AF_INET6:
            place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, wanted.ttl)
        else:
            place.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, wanted.ttl)
    if wanted.source:
        if wanted.source[0].isdigit() or ":" in wanted.source:
            place.bind((wanted.source, 0))
        else:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(wanted.source) + b"\0")


async def _exchange(place: socket.socket, family: socket.AddressFamily, host: str, wanted: Ping) -> bool:
    loop = asyncio.get_running_loop()
    answered: set[int] = set()
    began = loop.time()
    for number in range(wanted.count):
        # The kernel fills in the checksum and the identifier, and gives us the replies to our own requests only.
        request = _HEADER.pack(_REQUEST[family], 0, 0, 0, number) + bytes(wanted.size)
        await loop.sock_sendto(place, request, (host, 0))
        is_last = number == wanted.count - 1
        until = None if is_last else began + (number + 1) * wanted.interval_s
        await _listen(place, family, answered, number + 1, until)
        if until is not None:
            await asyncio.sleep(until - loop.time())
    return len(answered) == wanted.count


async def _listen(
    place: socket.socket, family: socket.AddressFamily, answered: set[int], wanted: int, until: float | None
) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(until):
            while len(answered) < wanted:
                reply = await loop.sock_recv(place, _MOST_BYTES)
                kind, _, _, _, number = _HEADER.unpack(reply[: _HEADER.size])
                if kind == _REPLY[family]:
                    answered.add(number)
    except TimeoutError:
        if until is None or loop.time() < until:
            raise
