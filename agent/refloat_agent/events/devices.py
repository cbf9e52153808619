# SPDX-License-Identifier: Apache-2.0
"""Devices that come, go or change: the kernel's uevents, as udev hears them (netlink(7), NETLINK_KOBJECT_UEVENT)."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from refloat_agent.events.netlink import hear, listening
from refloat_agent.events.source import Subscription
from refloat_checks.wakes import DeviceChange

_NETLINK_KOBJECT_UEVENT: Final = 15
_KERNEL: Final = 1
_SUBSYSTEM: Final = b"SUBSYSTEM="


def subsystem(datagram: bytes) -> str | None:
    """The subsystem that a uevent (`add@/devices/...`, then `KEY=value`, each with a NUL behind it) is about."""
    for line in datagram.split(b"\0"):
        if line.startswith(_SUBSYSTEM):
            return line.removeprefix(_SUBSYSTEM).decode(errors="surrogateescape")
    return None


def _listening() -> socket.socket:
    return listening(_NETLINK_KOBJECT_UEVENT, _KERNEL)


@dataclass(frozen=True, slots=True)
class DeviceSource:
    """Tells that something happened to a device of a subsystem."""

    subscription: Subscription[DeviceChange]
    listening: Callable[[], socket.socket] = _listening

    async def serve(self, opened: Callable[[], None]) -> None:
        """Listen."""
        await hear(self.listening(), self.subscription, self._meant, opened)

    def _meant(self, datagram: bytes) -> Iterator[DeviceChange]:
        wake = DeviceChange(subsystem(datagram) or "")
        if wake in self.subscription.wakes:
            yield wake
