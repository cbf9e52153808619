# SPDX-License-Identifier: Apache-2.0
"""The watch: opens the sources that the checks need, and has a check looked at when it is woken, at a bounded pace.

A source that is not there is named once, and tried again now and then; its checks are looked at on their interval all
the while. When one comes (back), its checks are looked at, for nobody knows what was missed.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from refloat_agent.events.pace import Pace
from refloat_agent.events.source import Counts, Source, Subscription
from refloat_agent.events.sources import SOURCES, Offer
from refloat_checks.proc import Roots
from refloat_checks.wakes import Wake
from refloat_contract.errors import RefloatError

log = structlog.get_logger(__name__)
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 600.0
_NOT_YET: Final = "not opened yet"
_FALLBACK: Final = "looked at on the interval only"


@dataclass(slots=True)
class Station:
    """One source in use: whether it is open, why not, and what became of its events."""

    name: str
    counts: Counts = field(default_factory=Counts)
    is_open: bool = False
    why: str = _NOT_YET
    wakes: tuple[Wake, ...] = ()
    left_out: dict[Wake, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """What status says of it; the keys are part of the command line's promise."""
        return {
            "name": self.name,
            "open": self.is_open,
            "why": "" if self.is_open else self.why,
            "watched": len(self.wakes) - len(self.left_out),
            "left_out": {str(wake): why for wake, why in self.left_out.items()},
            "events": self.counts.events,
            "looks": self.counts.looks,
            "coalesced": self.counts.coalesced,
            "dropped": self.counts.dropped,
        }


class Watch:
    """Has checks looked at when something may have changed. ``look_now`` must return at once."""

    def __init__(
        self,
        look_now: Callable[[Iterable[str]], None],
        *,
        roots: Roots | None = None,
        clock: Callable[[], float] = time.monotonic,
        offers: Mapping[type[Wake], Offer] | None = None,
    ) -> None:
        self._look_now = look_now
        self._roots = roots or Roots()
        self._clock = clock
        # What a simulated machine's tables say, no kernel tells.
        self._offers = offers if offers is not None else SOURCES if self._roots.is_running_system else {}
        self._pace = Pace()
        self._checks: dict[Wake, list[str]] = {}
        self._because: dict[str, set[str]] = {}
        self._stations: dict[str, Station] = {}
        self._sources: dict[str, Source] = {}
        self._stimulus = asyncio.Event()
        self._aimed = asyncio.Event()

    def aim(self, wanted: Mapping[str, Iterable[Wake]]) -> None:
        """Say which checks there are and what wakes each, in the place of what was said before."""
        self._checks = {}
        for check, wakes in wanted.items():
            for wake in wakes:
                self._checks.setdefault(wake, []).append(check)
        counts = {name: station.counts for name, station in self._stations.items()}
        self._stations, self._sources = {}, {}
        for kind, offer in self._offers.items():
            wakes = tuple(wake for wake in self._checks if type(wake) is kind)
            if wakes:
                station = Station(offer.name, counts.get(offer.name, Counts()), wakes=wakes)
                self._stations[offer.name] = station
                self._sources[offer.name] = offer.make(self._subscription(station), self._roots)
        self._aimed.set()

    def _subscription(self, station: Station) -> Subscription[Any]:
        return Subscription(
            station.wakes,
            station.counts,
            tell=lambda wake: self._woken(station, wake),
            leave=lambda wake, why: _left_out(station, wake, why),
        )

    def state(self) -> list[dict[str, Any]]:
        """What each source in use has told, for status."""
        return [station.as_dict() for station in self._stations.values()]

    async def run(self) -> None:
        """Watch until cancelled; anew when aimed anew."""
        while True:
            self._aimed.clear()
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._keep(self._stations[name], source), name=f"events: {name}")
                    for name, source in self._sources.items()
                ]
                running.append(tasks.create_task(self._look(), name="events: looks"))
                await self._aimed.wait()
                for task in running:
                    task.cancel()

    async def _keep(self, station: Station, source: Source) -> None:
        retry_s = FIRST_RETRY_S

        def opened() -> None:
            nonlocal retry_s
            retry_s = FIRST_RETRY_S
            self._opened(station)

        while True:
            try:
                await source.serve(opened)
            except (OSError, RefloatError) as error:
                self._lost(station, str(error))
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LAST_RETRY_S)

    def _opened(self, station: Station) -> None:
        if station.why != _NOT_YET:
            log.info("event_source_back", source=station.name)
        station.is_open, station.why = True, ""
        for wake in station.wakes:
            self._woken(station, wake)

    def _lost(self, station: Station, why: str) -> None:
        if station.is_open or station.why != why:
            log.warning("event_source_missing", source=station.name, why=why, now=_FALLBACK)
        station.is_open, station.why = False, why

    def _woken(self, station: Station, wake: Wake) -> None:
        now_s = self._clock()
        for check in self._checks.get(wake, ()):
            self._because.setdefault(check, set()).add(station.name)
            if self._pace.want(check, now_s):
                self._stimulus.set()
            else:
                station.counts.coalesced += 1

    async def _look(self) -> None:
        while True:
            self._stimulus.clear()
            names = self._pace.take(self._clock())
            if names:
                self._look_at(names)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.pause_s(self._clock())):
                    await self._stimulus.wait()

    def _look_at(self, names: tuple[str, ...]) -> None:
        for name in names:
            for source in self._because.pop(name):
                if source in self._stations:
                    self._stations[source].counts.looks += 1
        log.debug("checks_woken", checks=names)
        self._look_now(names)


def _left_out(station: Station, wake: Wake, why: str) -> None:
    if station.left_out.get(wake) != why:
        log.info("event_not_watched", source=station.name, event_of=str(wake), why=why, now=_FALLBACK)
    station.left_out[wake] = why
