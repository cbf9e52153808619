# SPDX-License-Identifier: Apache-2.0
"""Ask the kernel for TCP sockets over netlink (sock_diag(7)), which gives those in certain states alone."""

from __future__ import annotations

import os
import struct

# What socket is made of, for nhc: socket itself loads ten times as much, and takes as long as five checks.
from _socket import AF_INET, AF_INET6, AF_NETLINK, IPPROTO_TCP, SOCK_CLOEXEC, SOCK_RAW, inet_ntop
from _socket import socket as open_socket

from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR: Final = 2
_DONE: Final = 3
_BLOCK_BYTES: Final = 1 << 16
_TIMEOUT_S: Final = 5.0
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBxI48x")
# Family, state, ports, addresses, owner, inode; what lies between is not wanted.
_ROW: Final = struct.Struct("=BB2x2s2s16s16s12x12xII")
_LENGTHS: Final = {AF_INET: 4, AF_INET6: 16}


@record
class TcpRow:
    """A TCP socket; its state is the kernel's number."""

    local: str
    remote: str
    state: int
    uid: int
    inode: int
    is_v6: bool


def read_tcp(states: int) -> list[TcpRow]:
    """Read the TCP sockets in these states (a bit for each number). Raises OSError where the kernel does not say."""
    return [*_read(AF_INET, states), *_read(AF_INET6, states)]


def _read(family: int, states: int) -> list[TcpRow]:
    place = open_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, _SOCK_DIAG)
    try:
        place.settimeout(_TIMEOUT_S)
        request = _REQUEST.pack(family, IPPROTO_TCP, 0, states)
        place.send(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _DUMP, 1, 0) + request)
        found: list[TcpRow] = []
        while True:
            for kind, body in _messages(place.recv(_BLOCK_BYTES)):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise OSError(number, os.strerror(number))
                found.append(parse(body))
    finally:
        place.close()


def _messages(block: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(block):
        length, kind, *_ = _HEADER.unpack_from(block, at)
        yield kind, block[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def parse(body: bytes) -> TcpRow:
    """Read one `struct inet_diag_msg`."""
    family, state, *ends, uid, inode = _ROW.unpack_from(body)
    local_port, remote_port, local, remote = ends
    return TcpRow(
        _address(family, local, local_port),
        _address(family, remote, remote_port),
        state,
        uid,
        inode,
        family == AF_INET6,
    )


def _address(family: int, host: bytes, port: bytes) -> str:
    return f"{inet_ntop(family, host[: _LENGTHS[family]])}:{int.from_bytes(port) or '*'}"
