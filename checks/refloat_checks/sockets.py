# SPDX-License-Identifier: Apache-2.0
"""Sockets as the kernel's own tables tell them, in netstat's words; and which programs hold them."""

from __future__ import annotations

import os
import struct
from _socket import AF_INET, AF_INET6, inet_ntop

from refloat_checks import socket_diag
from refloat_checks.proc import Roots, read_text
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path
    from typing import Final

    from refloat_checks.facts import Facts

# Versions 4 and 6 of a protocol have the same name, as in ss and in older netstats; newer ones say `tcp6`.
TABLES: Final = {
    "tcp": ("tcp", "tcp6"),
    "udp": ("udp", "udp6"),
    "raw": ("raw", "raw6"),
    "unix": ("unix",),
}
TCP_STATES: Final = (
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "SYN_RECV",
)
_UNIX_STATES: Final = {"01": "", "02": "CONNECTING", "03": "CONNECTED", "04": "DISCONNECTING"}
_UNIX_TYPES: Final = {"0001": "STREAM", "0002": "DGRAM", "0003": "RAW", "0004": "RDM", "0005": "SEQPACKET"}
_ACCEPTS: Final = 0x10000
_V4_DIGITS: Final = 8


@record
class Socket:
    """A socket. Addresses are `host:port`, or a path; the owner of a Unix socket is not known."""

    proto: str
    local: str
    remote: str
    state: str
    type: str
    uid: int | None
    inode: int
    is_v6: bool = False


def parse_inet(text: str, proto: str, *, is_v6: bool = False) -> list[Socket]:
    """Parse `/proc/net/tcp` and the like (proc(5))."""
    found = []
    for line in text.split("\n")[1:]:
        fields = line.split()
        if len(fields) < 10:  # noqa: PLR2004 - the inode is the tenth
            continue
        local, remote = address(fields[1]), address(fields[2])
        found.append(
            Socket(proto, local, remote, _state(proto, int(fields[3], 16)), "", int(fields[7]), int(fields[9]), is_v6)
        )
    return found


def _state(proto: str, number: int) -> str:
    if proto == "raw":
        return str(number)
    state = TCP_STATES[number] if number < len(TCP_STATES) else "UNKNOWN"
    return "" if proto == "udp" and state == "CLOSE" else state


def address(text: str) -> str:
    """Spell an address of these tables: words of 32 bits in the machine's order, and a port, all in hexadecimal."""
    host, _, port = text.partition(":")
    words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
    family = AF_INET if len(host) == _V4_DIGITS else AF_INET6
    number = int(port, 16)
    return f"{inet_ntop(family, struct.pack(f'={len(words)}I', *words))}:{number or '*'}"


def parse_unix(text: str) -> list[Socket]:
    """Parse `/proc/net/unix`."""
    found = []
    for line in text.split("\n")[1:]:
        fields = line.split(None, 7)
        if len(fields) < 7:  # noqa: PLR2004 - the inode is the seventh
            continue
        listens = int(fields[3], 16) & _ACCEPTS and fields[5] == "01"
        state = "LISTENING" if listens else _UNIX_STATES.get(fields[5], "")
        path = fields[7] if len(fields) > 7 else ""  # noqa: PLR2004 - a path, if there is one
        found.append(Socket("unix", path, "", state, _UNIX_TYPES.get(fields[4], "UNKNOWN"), None, int(fields[6])))
    return found


def read_sockets(roots: Roots, proto: str) -> tuple[Socket, ...]:
    """Read the sockets of a protocol; a kernel without its version 6 has no table for it."""
    found: list[Socket] = []
    for table in TABLES[proto]:
        try:
            text = read_text(roots.proc / "net" / table)
        except FileNotFoundError:
            continue
        found += parse_unix(text) if proto == "unix" else parse_inet(text, proto, is_v6=table.endswith("6"))
    return tuple(found)


def program_name(title: str) -> str:
    """Name a program as netstat does: its title's first word, without the directories if it is a path."""
    word = title.partition(" ")[0]
    return word.rpartition("/")[2] if word.startswith("/") else word


def read_holders(roots: Roots, pids: Iterable[int], inodes: Collection[int]) -> dict[int, list[int]]:
    """Find which of these processes have these sockets open; those that end meanwhile have none."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    holders: dict[int, list[int]] = {}
    for pid in pids:
        place = roots.proc / str(pid) / "fd"
        for inode in _held(place, wanted):
            holders.setdefault(inode, []).append(pid)
    return holders


def _held(place: Path, wanted: dict[str, int]) -> set[int]:
    found: set[int] = set()
    try:
        entries = os.listdir(place)  # noqa: PTH208 - of thousands
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return found
    for entry in entries:
        try:
            inode = wanted.get(os.readlink(f"{place}/{entry}"))  # noqa: PTH115 - the same
        except (FileNotFoundError, ProcessLookupError):
            continue  # closed meanwhile
        if inode is not None:
            found.add(inode)
    return found


async def sockets(
    facts: Facts, is_wanted: Callable[[str], bool], is_state: Callable[[str], bool] = lambda _: True
) -> tuple[Socket, ...]:
    """Read the sockets of the protocols that are wanted, each table once per pass.

    Of TCP's only those in these states may be read, which are few among the many that a busy node has.
    """
    found: list[Socket] = []
    for proto in TABLES:
        if is_wanted(proto):
            found += await _table(facts, proto, is_state)
    return tuple(found)


async def _table(facts: Facts, proto: str, is_state: Callable[[str], bool]) -> tuple[Socket, ...]:
    if proto != "tcp" or not facts.roots.is_running_system:
        return await facts.read(f"{proto} sockets", lambda: read_sockets(facts.roots, proto))
    states = sum(1 << number for number, state in enumerate(TCP_STATES) if state and is_state(state))
    return await facts.read(f"tcp sockets in states {states:#x}", lambda: _read_tcp(facts.roots, states))


def _read_tcp(roots: Roots, states: int) -> tuple[Socket, ...]:
    # Reading /proc/net/tcp takes the kernel milliseconds: it walks a table that is made for servers.
    try:
        rows = socket_diag.read_tcp(states)
    except OSError:
        return read_sockets(roots, "tcp")
    return tuple(
        Socket("tcp", row.local, row.remote, TCP_STATES[row.state], "", row.uid, row.inode, row.is_v6) for row in rows
    )


async def holders(facts: Facts, pids: tuple[int, ...], inodes: frozenset[int]) -> dict[int, list[int]]:
    """Find which of these processes have these sockets open."""
    source = f"sockets {' '.join(map(str, sorted(inodes)))} of {' '.join(map(str, pids))}"
    return await facts.read(source, lambda: read_holders(facts.roots, pids, inodes))
