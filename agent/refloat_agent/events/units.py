# SPDX-License-Identifier: Apache-2.0
"""systemd units: the signals that systemd sends on the system bus when a unit changes (org.freedesktop.systemd1(5))."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbus_fast import AuthError, BusType, DBusFastError, InvalidAddressError, Message, MessageType
from dbus_fast.aio import MessageBus

from refloat_agent.events.source import Subscription
from refloat_checks.nhc.match import matches
from refloat_checks.wakes import UnitChange
from refloat_contract.errors import Transient

DEADLINE_S: Final = 10.0
_SYSTEMD: Final = "org.freedesktop.systemd1"
_MANAGER: Final = "/org/freedesktop/systemd1"
_UNITS: Final = f"{_MANAGER}/unit"
_BUS: Final = "org.freedesktop.DBus"
# A unit's state, and units that are loaded or forgotten; their other properties are nobody's business here.
_RULES: Final = (
    (
        f"type='signal',sender='{_SYSTEMD}',interface='{_BUS}.Properties',member='PropertiesChanged',"
        f"path_namespace='{_UNITS}',arg0='{_SYSTEMD}.Unit'"
    ),
    f"type='signal',sender='{_SYSTEMD}',interface='{_SYSTEMD}.Manager',member='UnitNew',path='{_MANAGER}'",
    f"type='signal',sender='{_SYSTEMD}',interface='{_SYSTEMD}.Manager',member='UnitRemoved',path='{_MANAGER}'",
)
_ESCAPED: Final = re.compile(r"_([0-9a-f]{2})")


def unit_of(message: Message) -> str | None:
    """The name of the unit that a signal is about; None if it is about none."""
    if message.member in {"UnitNew", "UnitRemoved"}:
        return str(message.body[0]) if message.body else None
    if message.member == "PropertiesChanged" and (message.path or "").startswith(_UNITS + "/"):
        label = (message.path or "").removeprefix(_UNITS + "/")
        return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), label)
    return None


@dataclass(frozen=True, slots=True)
class UnitSource:
    """Tells that a unit changed its state, was loaded, or is known no longer. Of a unit's aliases it tells nothing."""

    subscription: Subscription[UnitChange]
    address: str | None = None
    """Of the bus; the system's own if none is given."""

    async def serve(self, opened: Callable[[], None]) -> None:
        """Connect, subscribe, and listen until the bus is gone."""
        bus = MessageBus(self.address, bus_type=BusType.SYSTEM)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await bus.connect()
                bus.add_message_handler(self._hear)
                for rule in _RULES:
                    await _call(bus, _BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", rule)
                await _call(bus, _SYSTEMD, _MANAGER, f"{_SYSTEMD}.Manager", "Subscribe")
            opened()
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
            raise Transient("the system bus ended the connection")
        except (DBusFastError, AuthError, InvalidAddressError, EOFError) as error:
            raise Transient(f"the system bus: {error or 'it ended the connection'}") from error
        finally:
            bus.disconnect()

    def _hear(self, message: Message) -> None:
        name = unit_of(message) if message.message_type is MessageType.SIGNAL else None
        if name is None:
            return
        self.subscription.counts.events += 1
        for wake in self.subscription.wakes:
            if matches(wake.pattern, name):
                self.subscription.tell(wake)


async def _call(bus: MessageBus, destination: str, path: str, interface: str, member: str, *words: str) -> None:
    call = Message(
        destination=destination,
        path=path,
        interface=interface,
        member=member,
        signature="s" * len(words),
        body=[*words],
    )
    reply = await bus.call(call)
    if reply is not None and reply.message_type is MessageType.ERROR:
        raise Transient(f"{member}: {reply.error_name}: {' '.join(str(word) for word in reply.body)}")
