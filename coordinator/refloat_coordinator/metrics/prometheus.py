# SPDX-License-Identifier: Apache-2.0
"""What Prometheus scrapes: the gauges, what was counted since the start, and how long phases and outages took."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from refloat_contract.messages import Event
from refloat_contract.words import EventKind, Phase
from refloat_coordinator.metrics import gauges
from refloat_coordinator.metrics.gauges import Family, Gauge
from refloat_coordinator.metrics.http import Answer

PREFIX: Final = "refloat_"
EVENTS: Final = "events_total"
PHASES: Final = "phase_seconds"
OUTAGES: Final = "outage_seconds"
_BUCKETS_S: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 86400)
_REPAIRS: Final = frozenset({EventKind.RESUMED, EventKind.HEALTH_RESUMED})


class Metrics:
    """All of them, in a registry of their own. ``read`` gives the numbers as they are when somebody asks."""

    def __init__(self, read: Callable[[], Awaitable[Iterable[Gauge]]]) -> None:
        self._read = read
        self._now = _Snapshot()
        self._left: dict[str, Event] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self._now)
        ProcessCollector(registry=self._registry)
        self._events = Counter(PREFIX + EVENTS, "New events in the record.", ("kind",), registry=self._registry)
        self._phases = self._histogram(PHASES, "How long nodes were in a phase of a cycle.", "phase")
        self._outages = self._histogram(OUTAGES, "From out of service to back in it, by the check or recipe.", "cause")

    def _histogram(self, name: str, text: str, label: str) -> Histogram:
        return Histogram(PREFIX + name, text, (label,), registry=self._registry, buckets=_BUCKETS_S)

    def tally(self, event: Event) -> None:
        """Count a new event."""
        self._events.labels(event.kind).inc()
        if event.kind in _REPAIRS and event.duration_s is not None:
            self._outages.labels(event.check or event.recipe or "unknown").observe(event.duration_s)
        if event.kind is EventKind.PHASE_ENTERED:
            for phase in Phase:
                took_s = event.measures.get(f"{phase.lower()}_s")
                if took_s is not None:
                    self._phases.labels(phase).observe(took_s)
        self._tally_boot(event)

    def _tally_boot(self, event: Event) -> None:
        """The reboot itself, which no agent is there to time: from the word before it to the word after it."""
        if event.kind is EventKind.REBOOT:
            self._left[event.node] = event
        elif event.kind is EventKind.BOOTED:
            left = self._left.pop(event.node, None)
            if left is not None and left.cycle == event.cycle:
                self._phases.labels(Phase.REBOOTING).observe(max(0.0, (event.at_ns - left.at_ns) / 1e9))

    async def page(self) -> Answer:
        """The text exposition."""
        self._now.gauges = tuple(await self._read())
        # In a thread: the process's own figures are read from /proc.
        return Answer(200, await asyncio.to_thread(generate_latest, self._registry), CONTENT_TYPE_LATEST)


class _Snapshot(Collector):
    """The gauges of one scrape."""

    def __init__(self) -> None:
        self.gauges: tuple[Gauge, ...] = ()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """All families, those without a number too, so that a dashboard finds them."""
        by_family: dict[str, list[Gauge]] = {}
        for gauge in self.gauges:
            by_family.setdefault(gauge.family.name, []).append(gauge)
        for family in (*gauges.FLEET, *gauges.DAEMON):
            yield _metric(family, by_family.get(family.name, ()))


def _metric(family: Family, found: Iterable[Gauge]) -> CounterMetricFamily | GaugeMetricFamily:
    labels = [label for label in (family.label, family.label_2) if label]
    kind = CounterMetricFamily if family.counts else GaugeMetricFamily
    metric = kind(PREFIX + family.name, family.help, labels=labels)
    for gauge in found:
        metric.add_metric([gauge.label, gauge.label_2][: len(labels)], gauge.value)
    return metric
