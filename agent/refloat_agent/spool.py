# SPDX-License-Identifier: Apache-2.0
"""The spool: events on their way to the coordinator, on disk until the broker has acknowledged them, in order.

One JSON line per event, appended and fsynced; the file is rewritten when most of it has been told. It is bounded: when
it is full the oldest event about checks goes first, and only then an older one of a cycle; every loss is counted.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from refloat_contract.errors import Transient
from refloat_contract.messages import Event
from refloat_contract.words import EventKind
from refloat_service import atomic

log = structlog.get_logger(__name__)

CAPACITY: Final = 10_000
_REWRITE_AFTER: Final = 500
_EXPENDABLE: Final = frozenset({EventKind.CHECK_FAILED, EventKind.CHECK_PASSED, EventKind.AGENT_STARTED})


class Spool:
    """Events not yet told, in order."""

    def __init__(self, path: Path, capacity: int = CAPACITY) -> None:
        self._path = path
        self._capacity = capacity
        self._waiting: dict[str, Event] = {}
        self._lately_told: dict[str, None] = {}
        self._told_in_file = 0
        self._torn = False
        self._lock = asyncio.Lock()
        self._arrival = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.lost = 0
        self.unreadable = 0

    @property
    def waiting(self) -> int:
        """How many events are not told yet."""
        return len(self._waiting)

    async def load(self) -> None:
        """Read what an earlier life left; a torn last line (power cut in mid-write) is no event yet, and is counted.

        Raises:
            Transient: the disk did not answer.
        """
        data = await asyncio.to_thread(atomic.read, self._path)
        # Nothing may be appended behind a line that was torn.
        self._torn = bool(data) and not (data or b"").endswith(b"\n")
        for line in (data or b"").splitlines():
            try:
                event = Event.model_validate_json(line)
            except ValidationError:
                self.unreadable += 1
                continue
            self._waiting[event.id] = event
        if self.unreadable:
            log.warning("spool_lines_unreadable", count=self.unreadable, path=str(self._path))
        self._signal()

    async def add(self, events: Sequence[Event]) -> None:
        """Take events over; they are on disk when this returns. One that is there already is not taken twice.

        Raises:
            Transient: the disk is full or read-only; the events are kept in memory, and told if the broker can be
                reached before this process ends.
        """
        async with self._lock:
            fresh = [e for e in events if e.id not in self._waiting and e.id not in self._lately_told]
            self._waiting.update({event.id: event for event in fresh})
            dropped = self._shrink()
            self._signal()
            if dropped or self._torn:
                await self._rewrite()
            elif fresh:
                # Until the append has succeeded its last line may be torn, and nothing may be written behind it.
                self._torn = True
                await asyncio.to_thread(_append, self._path, fresh)
                self._torn = False

    def _shrink(self) -> bool:
        excess = len(self._waiting) - self._capacity
        if excess <= 0:
            return False
        by_worth = sorted(
            self._waiting.values(), key=lambda event: event.kind not in _EXPENDABLE
        )  # stable: oldest first
        for event in by_worth[:excess]:
            del self._waiting[event.id]
        self.lost += excess
        log.warning("spool_full", lost=excess, lost_in_all=self.lost)
        return True

    async def next(self) -> Event:
        """The oldest event that is not told; waits for one."""
        while not self._waiting:
            await self._arrival.wait()
        return next(iter(self._waiting.values()))

    async def told(self, event: Event) -> None:
        """The broker has acknowledged this event: forget it."""
        async with self._lock:
            if self._waiting.pop(event.id, None) is None:
                return
            self._told_in_file += 1
            self._signal()
            self._lately_told[event.id] = None
            while len(self._lately_told) > _REWRITE_AFTER:
                del self._lately_told[next(iter(self._lately_told))]
            if not self._waiting or self._told_in_file >= _REWRITE_AFTER:
                with contextlib.suppress(Transient):
                    # Told events stay in the file then: the coordinator knows their ids and drops them.
                    await self._rewrite()

    async def drained(self) -> None:
        """Wait until every event is told."""
        await self._empty.wait()

    async def _rewrite(self) -> None:
        data = "".join(event.model_dump_json(exclude_none=True) + "\n" for event in self._waiting.values())
        try:
            await asyncio.to_thread(atomic.write, self._path, data.encode())
        except Transient as error:
            log.warning("spool_not_rewritten", error=str(error))
            raise
        self._told_in_file, self._torn = 0, False

    def _signal(self) -> None:
        (self._arrival.set if self._waiting else self._arrival.clear)()
        (self._empty.clear if self._waiting else self._empty.set)()


def _append(path: Path, events: Sequence[Event]) -> None:
    data = "".join(json.dumps(e.model_dump(mode="json", exclude_none=True)) + "\n" for e in events).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.write(descriptor, data) != len(data):
                raise Transient(f"{path}: the disk took only a part of an event")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Transient(f"{path}: {error.strerror}") from error
