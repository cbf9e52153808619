# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a unix socket, as the kernel says it, and whether they may do more than read."""

import socket
import struct
from dataclasses import dataclass
from typing import Final

_CREDENTIALS: Final = struct.Struct("3i")  # unix(7): struct ucred, as it was at connect(2)
_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it
_GROUPS_CAP_BYTES: Final = 1024  # the most that Python asks for: 256 groups


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end."""

    pid: int
    uid: int
    groups: frozenset[int]


def peer_of(connection: socket.socket) -> Peer:
    """Who connected, from the kernel: nothing that they say themselves."""
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, uid, frozenset((gid, *_groups_of(connection))))


def _groups_of(connection: socket.socket) -> tuple[int, ...]:
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_CAP_BYTES)
    except OSError:  # ERANGE: in more groups than can be told. Who cannot show that they may, may not.
        return ()
    return struct.unpack(f"{len(found) // 4}I", found)


def may_act(peer: Peer, own_uid: int, operators: int | None) -> bool:
    """Root, the daemon's own user and members of the group ``operators`` may; others may only read. Pure."""
    return peer.uid in {0, own_uid} or (operators is not None and operators in peer.groups)
