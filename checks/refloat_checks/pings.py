# SPDX-License-Identifier: Apache-2.0
"""Ping without a program: by ICMP sockets that need no privileges, else by raw ones, where the kernel allows us any."""

import asyncio
import contextlib
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
_COOKIE_BYTES: Final = 16
_ALL: Final = 0xFFFFFFFF
# Of raw(7) and RFC 3542; Python names neither. Each bit that is set keeps one type of message from us.
_FILTER: Final = {
    socket.AF_INET: (255, 1, struct.pack("=I", ~(1 << 0) & _ALL)),
    socket.AF_INET6: (
        socket.IPPROTO_ICMPV6,
        1,
        struct.pack("=8I", *(~(1 << 1) & _ALL if i == 129 // 32 else _ALL for i in range(8))),
    ),
}


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
    """The kernel gives us no such socket (see net.ipv4.ping_group_range in icmp(7), and CAP_NET_RAW)."""


@dataclass(frozen=True, slots=True)
class IcmpSocket:
    """A socket for ICMP. A raw one hears the replies to everybody's requests: ours have this name and this cookie."""

    link: socket.socket
    family: socket.AddressFamily
    is_raw: bool
    identifier: int
    cookie: bytes

    @classmethod
    def open(cls, family: socket.AddressFamily) -> "IcmpSocket":
        """Open one of the kind that the kernel gives us. Raises NotAllowed."""
        name, cookie = int.from_bytes(os.urandom(2)), os.urandom(_COOKIE_BYTES)
        with contextlib.suppress(OSError):
            own = socket.socket(family, socket.SOCK_DGRAM, _PROTOCOL[family])
            return cls(own, family, is_raw=False, identifier=name, cookie=cookie)
        try:
            everybodys = socket.socket(family, socket.SOCK_RAW, _PROTOCOL[family])
        except PermissionError as error:
            raise NotAllowed("ICMP sockets are not allowed to us") from error
        everybodys.setsockopt(*_FILTER[family])
        return cls(everybodys, family, is_raw=True, identifier=name, cookie=cookie)

    def request(self, number: int, size: int) -> bytes:
        """An echo request of this number, with so many bytes of data."""
        data = self.cookie[:size].ljust(size, b"\0")
        header = _HEADER.pack(_REQUEST[self.family], 0, 0, self.identifier, number)
        if self.is_raw and self.family == socket.AF_INET:
            header = _HEADER.pack(_REQUEST[self.family], 0, checksum(header + data), self.identifier, number)
        # Otherwise the kernel fills in the checksum, and for an unprivileged socket the identifier.
        return header + data

    def answered(self, reply: bytes, size: int) -> int | None:
        """The number of the request of ours that this replies to, if it does."""
        if self.is_raw and self.family == socket.AF_INET:
            # The IP header comes with it; its length stands in its first byte, in words of four bytes.
            reply = reply[(reply[0] & 0xF) * 4 :] if reply else b""
        if len(reply) < _HEADER.size:
            return None
        kind, _, _, identifier, number = (int(each) for each in _HEADER.unpack(reply[: _HEADER.size]))
        ours = not self.is_raw or (
            identifier == self.identifier and reply[_HEADER.size :].startswith(self.cookie[:size])
        )
        return number if kind == _REPLY[self.family] and ours else None


def checksum(message: bytes) -> int:
    """The checksum of the Internet protocols (RFC 1071)."""
    total = sum(int(word) for (word,) in struct.iter_unpack("!H", message + b"\0" * (len(message) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


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
    place = IcmpSocket.open(family)
    with place.link:
        place.link.settimeout(0)
        _prepare(place.link, family, wanted)
        try:
            async with asyncio.timeout(wanted.deadline_s):
                return await _exchange(place, host, wanted)
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


async def _exchange(place: IcmpSocket, host: str, wanted: Ping) -> bool:
    loop = asyncio.get_running_loop()
    answered: set[int] = set()
    began = loop.time()
    for number in range(wanted.count):
        await loop.sock_sendto(place.link, place.request(number, wanted.size), (host, 0))
        is_last = number == wanted.count - 1
        until = None if is_last else began + (number + 1) * wanted.interval_s
        await _listen(place, wanted.size, answered, number + 1, until)
        if until is not None:
            await asyncio.sleep(until - loop.time())
    return len(answered) == wanted.count


async def _listen(place: IcmpSocket, size: int, answered: set[int], wanted: int, until: float | None) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(until):
            while len(answered) < wanted:
                number = place.answered(await loop.sock_recv(place.link, _MOST_BYTES), size)
                if number is not None:
                    answered.add(number)
                # However many replies to others there are: the loop has a turn between two of them.
                await asyncio.sleep(0)
    except TimeoutError:
        if until is None or loop.time() < until:
            raise
