# SPDX-License-Identifier: Apache-2.0
"""Network links and addresses: what the kernel announces through rtnetlink(7)."""

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from refloat_agent.events.netlink import hear, listening
from refloat_agent.events.source import Subscription
from refloat_checks.wakes import LinkChange

_LINK_AND_ADDRESSES: Final = 0x1 | 0x10 | 0x100
_HEADER: Final = struct.Struct("=IHHII")
_LINK_MESSAGE: Final = struct.Struct("=BxHiII")
_ADDRESS_MESSAGE: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NEW_LINK, _DELETED_LINK = 16, 17
_NEW_ADDRESS, _DELETED_ADDRESS = 20, 21
_IFLA_IFNAME: Final = 3


def parse(datagram: bytes) -> Iterator[tuple[int, str | None]]:
    """Give the link's number and, where the message tells it, its name, for each message about a link or its address.

    Stops at what is no whole message.
    """
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, at)
        body = datagram[at + _HEADER.size : at + length]
        if length < _HEADER.size:
            return
        if kind in {_NEW_LINK, _DELETED_LINK} and len(body) >= _LINK_MESSAGE.size:
            yield _LINK_MESSAGE.unpack_from(body)[2], _name(body[_LINK_MESSAGE.size :])
        elif kind in {_NEW_ADDRESS, _DELETED_ADDRESS} and len(body) >= _ADDRESS_MESSAGE.size:
            yield _ADDRESS_MESSAGE.unpack_from(body)[4], None
        at += _aligned(length)


def _name(attributes: bytes) -> str | None:
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if length < _ATTRIBUTE.size:
            return None
        if kind == _IFLA_IFNAME:
            return attributes[at + _ATTRIBUTE.size : at + length].rstrip(b"\0").decode(errors="surrogateescape")
        at += _aligned(length)
    return None


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _listening() -> socket.socket:
    return listening(socket.NETLINK_ROUTE, _LINK_AND_ADDRESSES)


@dataclass(slots=True)
class LinkSource:
    """Tells that a link came, went, or changed its state, name or addresses."""

    subscription: Subscription[LinkChange]
    listening: Callable[[], socket.socket] = _listening
    _names: dict[int, str] = field(default_factory=dict)

    async def serve(self, opened: Callable[[], None]) -> None:
        """Listen."""
        await hear(self.listening(), self.subscription, self._meant, opened)

    def _meant(self, datagram: bytes) -> Iterator[LinkChange]:
        for number, name in parse(datagram):
            # Under its old name it is gone: whoever asks for that one is told too.
            names = {self._names.get(number), name} - {None}
            if name is not None:
                self._names[number] = name
            for wake in self.subscription.wakes:
                # An address of a link that no message has named yet may be anyone's.
                if not names or any(fnmatchcase(each, wake.name) for each in names if each is not None):
                    yield wake
