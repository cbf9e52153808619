# SPDX-License-Identifier: Apache-2.0
"""Netlink sockets that listen to the kernel's announcements: netlink(7)."""

import errno
import os
import socket
from collections.abc import Callable, Iterable
from typing import Final

from refloat_agent.events.source import Subscription, W, whenever_readable

_RECEIVE_BYTES: Final = 1 << 16
_BUFFER_BYTES: Final = 1 << 20
# Of one batch; what is left is read after a rest.
_BATCH: Final = 1024
_SO_RCVBUFFORCE: Final = 33  # socket(7); the number is the same on all architectures that matter here


def listening(protocol: int, groups: int) -> socket.socket:
    """Open a socket that hears what the kernel tells these groups. Raises OSError."""
    ear = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        # More room for storms; without the right to it the default must do.
        option = _SO_RCVBUFFORCE if os.geteuid() == 0 else socket.SO_RCVBUF
        ear.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        ear.bind((0, groups))
    except OSError:
        ear.close()
        raise
    return ear


async def hear(
    ear: socket.socket, subscription: Subscription[W], meant: Callable[[bytes], Iterable[W]], opened: Callable[[], None]
) -> None:
    """Tell which wakes each datagram means, until cancelled; closes the socket."""
    with ear:
        opened()
        await whenever_readable(ear.fileno(), lambda: _batch(ear, subscription, meant))


def _batch(ear: socket.socket, subscription: Subscription[W], meant: Callable[[bytes], Iterable[W]]) -> None:
    told: set[W] = set()
    for _ in range(_BATCH):
        try:
            datagram, sender = ear.recvfrom(_RECEIVE_BYTES)
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            subscription.missed()
            continue
        # Any process may send to such a socket; the kernel's own port is 0.
        if sender[0] == 0:
            subscription.counts.events += 1
            told.update(meant(datagram))
    for wake in told:
        subscription.tell(wake)
