# SPDX-License-Identifier: Apache-2.0
"""A ledger without a disk, for a coordinator that never outlives its simulation."""

from collections.abc import Collection, Iterable, Sequence

from refloat_contract.messages import Event
from refloat_contract.words import EventKind
from refloat_coordinator.permits.breaker import Incident
from refloat_coordinator.permits.permit import Permit
from refloat_coordinator.record.ledger import Ledger
from refloat_coordinator.waves.wave import Wave


class MemoryLedger(Ledger):
    """What the coordinator's loop and desk ask of a ledger, kept in memory. ``waves`` are the last saved."""

    def __init__(self) -> None:  # it opens no file and starts no thread
        self.waves: dict[str, Wave] = {}
        self.events_kept: list[Event] = []

    async def load_waves(self, *, ended: bool) -> list[Wave]:
        """The waves that have ended, or those that have not."""
        return [wave for wave in self.waves.values() if wave.is_ended == ended]

    async def load_permits(self) -> dict[str, Permit]:
        """There are none when it begins."""
        return {}

    async def load_incidents(self) -> list[Incident]:
        """There are none when it begins."""
        return []

    async def save(
        self,
        waves: Iterable[Wave] = (),
        events: Iterable[Event] = (),
        incidents: Iterable[Incident] = (),  # noqa: ARG002 - the loop has them
    ) -> None:
        """Keep these."""
        self.waves.update((wave.id, wave) for wave in waves)
        self.events_kept.extend(events)

    async def save_permits(self, granted: Collection[Permit], ended: Collection[str]) -> None:
        """The loop has them."""

    async def record(self, events: Sequence[Event]) -> list[Event]:
        """Keep these; simulated agents tell everything once."""
        self.events_kept.extend(events)
        return list(events)

    async def events(
        self,
        *,
        nodes: Collection[str] = (),
        since_ns: int = 0,
        kinds: Collection[EventKind] = (),
        checks: Collection[str] = (),
        waves: Collection[str] = (),
        limit: int = 1000,
    ) -> list[Event]:
        """The newest events that fit, oldest first."""
        found = [
            event
            for event in self.events_kept
            if event.at_ns >= since_ns
            and (not nodes or event.node in nodes)
            and (not kinds or event.kind in kinds)
            and (not checks or event.check in checks)
            and (not waves or event.wave in waves)
        ]
        return found[-limit:]
