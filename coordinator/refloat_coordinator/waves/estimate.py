# SPDX-License-Identifier: Apache-2.0
"""How long a wave will take, and what it costs: estimated from when jobs end and how long nodes were out before; pure.

A node that is taken out while its jobs of now still run is drained when the last of them ends by its time limit. By the
time that others are taken out they run jobs that nobody knows yet: these are taken to last as long as the jobs of the
wave's nodes do now on average, idle nodes counted in. Jobs mostly end before their limit, so it is rather too long.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from statistics import fmean, median
from typing import Final

from refloat_contract.messages import Event
from refloat_contract.words import EventKind, NodeOrder, OnDeadline
from refloat_coordinator.permits import grants
from refloat_coordinator.permits.budget import Limit, Room, parse_amount
from refloat_coordinator.waves import moves, window
from refloat_coordinator.waves.wave import Wave
from refloat_coordinator.waves.world import World
from refloat_slurm import states

DEFAULT_OUT_S: Final = 600.0
"""How long a node is taken to be out of service where no cycle is in the record."""
TOLD: Final = (EventKind.PHASE_ENTERED, EventKind.RESUMED)
"""The events that `times_out` reads."""

_KILL_S: Final = 60.0
"""From the end of the deadline until jobs that are ended are gone: KillWait is 30 s by default."""
_LONGEST_OUT_S: Final = 86400.0
"""A cycle that took longer waited for a human, and says nothing of the next."""


@dataclass(frozen=True, slots=True)
class TimesOut:
    """How long nodes were out of service in past cycles: the median of each, that of all, and of how many."""

    by_node: Mapping[str, float] = field(default_factory=dict)
    typical_s: float = DEFAULT_OUT_S
    cycles: int = 0

    def of(self, node: str) -> float:
        """How long the node is taken to be out."""
        return self.by_node.get(node, self.typical_s)


@dataclass(frozen=True, slots=True)
class Batch:
    """Nodes that go out as room allows: the first of them at ``begins_at``, the last one back at ``ends_at``."""

    nodes: tuple[str, ...]
    begins_at: float
    ends_at: float
    is_canary: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is to be expected of a wave that begins now.

    ``lost_node_hours`` counts each node from the end of its last job until it is back; ``overdue`` are the nodes whose
    jobs would not have ended by the wave's deadline, ``endless`` those with a job of which Slurm knows no end. What
    keeps the nodes in ``left`` from ever being taken out is said by ``stuck``.
    """

    batches: tuple[Batch, ...]
    ends_at: float
    lost_node_hours: float
    typical_wait_s: float
    overdue: tuple[str, ...] = ()
    endless: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    stuck: str = ""


def times_out(events: Iterable[Event], recipe: str) -> TimesOut:
    """How long cycles of this recipe took, from when the node left DRAINING until it was resumed, by its own clock."""
    began: dict[tuple[str, str], int] = {}
    took: dict[str, list[float]] = {}
    for event in events:
        if event.recipe != recipe or not event.cycle:
            continue
        key = (event.node, event.cycle)
        if event.kind is EventKind.PHASE_ENTERED:
            began.setdefault(key, event.at_ns)
        elif event.kind is EventKind.RESUMED and key in began:
            seconds = (event.at_ns - began[key]) / 1e9
            if 0 < seconds < _LONGEST_OUT_S:
                took.setdefault(event.node, []).append(seconds)
    if not took:
        return TimesOut()
    everything = [seconds for one in took.values() for seconds in one]
    return TimesOut({node: median(one) for node, one in took.items()}, median(everything), len(everything))


def estimate(wave: Wave, nodes: Iterable[str], world: World, times: TimesOut, now: float) -> Estimate:
    """Play the wave over these of its nodes, by its limits, canaries, soak, window and deadline."""
    return _Play(wave, tuple(nodes), world, times, now).estimate()


class _Play:
    """One play of a wave, from node to node."""

    def __init__(self, wave: Wave, nodes: tuple[str, ...], world: World, times: TimesOut, now: float) -> None:
        self._wave = wave
        self._times = times
        self._windows = moves.windows_of(wave)
        self._began_at = self._now = now
        self._free_at = {node: end for node in nodes if (end := _free_at(node, world)) > now}
        self._endless = tuple(node for node in nodes if self._free_at.get(node) == float("inf"))
        known = [max(0.0, self._free_at.get(n, now) - now) for n in nodes if self._free_at.get(n) != float("inf")]
        self._wait_s = fmean(known) if known else 0.0
        self._rank = {node: rank for rank, node in enumerate(self._sorted(nodes))}
        own, *groups = moves.limits_of(wave, world.groups)
        out = {**world.reserved, **grants.out(world.fleet, world.permits)}
        self._rooms = (Room([own], out, world.fleet.serving), Room((*world.limits, *groups), out, world.fleet.serving))
        self._due: list[tuple[int, str]] = []
        self._parked: dict[Limit, list[str]] = {}
        self._out: list[tuple[float, int, str]] = []
        self._tie = count()
        self._marks: list[tuple[str, float, float]] = []
        self._lost_s = 0.0
        self._overdue: list[str] = []

    def estimate(self) -> Estimate:
        ranked = sorted(self._rank, key=self._rank.__getitem__)
        canaries, rest = ranked[: self._wave.spec.canary], ranked[self._wave.spec.canary :]
        self._play(canaries)
        canary_marks = len(self._marks)
        if not self._left:
            self._now += self._wave.spec.soak_s if canaries and rest else 0.0
            self._play(rest)
            rest = []
        left, stuck = (*self._left, *rest), self._refusal()
        ends_at = max((back for _, _, back in self._marks), default=self._began_at)
        return Estimate(
            (*self._batches(0, canary_marks, is_canary=True), *self._batches(canary_marks, len(self._marks))),
            ends_at,
            self._lost_s / 3600,
            self._wait_s,
            tuple(self._overdue),
            self._endless,
            left,
            stuck,
        )

    def _sorted(self, nodes: tuple[str, ...]) -> tuple[str, ...]:
        order = self._wave.spec.order
        if order is NodeOrder.SOONEST_FREE:
            return tuple(sorted(nodes, key=lambda node: self._free_at.get(node, 0.0)))
        return nodes if order is NodeOrder.NAME else tuple(sorted(nodes, key=lambda node: node in self._free_at))

    @property
    def _left(self) -> tuple[str, ...]:
        return (*(node for _, node in sorted(self._due)), *(node for nodes in self._parked.values() for node in nodes))

    def _play(self, nodes: list[str]) -> None:
        for node in nodes:
            heapq.heappush(self._due, (self._rank[node], node))
        while self._due or self._parked or self._out:
            opens_at, _ = window.open_span(self._windows, self._now)
            if self._due and opens_at <= self._now:
                self._mark_what_fits()
            if self._out and (opens_at <= self._now or not self._due or self._out[0][0] <= opens_at):
                self._take_back()
            elif self._due and opens_at > self._now:
                self._now = opens_at
            else:
                return  # nothing is out that could make room: what is left stays where it is

    def _mark_what_fits(self) -> None:
        own, others = self._rooms
        while self._due:
            node = self._due[0][1]
            if own.blocking(node):
                return
            heapq.heappop(self._due)
            limit = others.blocking(node)
            if limit is not None:
                self._parked.setdefault(limit, []).append(node)
                continue
            own.take(node, "marked")
            others.take(node, "marked")
            back_at = self._back_at(node)
            heapq.heappush(self._out, (back_at, next(self._tie), node))
            self._marks.append((node, self._now, back_at))

    def _back_at(self, node: str) -> float:
        spec = self._wave.spec
        drained_at = self._drained_at(node)
        if spec.deadline_s is not None and drained_at - self._now > spec.deadline_s:
            self._overdue.append(node)
            if spec.on_deadline in {OnDeadline.HOLD, OnDeadline.SKIP}:
                return self._now + spec.deadline_s
            drained_at = self._now + spec.deadline_s + _KILL_S
        out_s = self._times.of(node)
        self._lost_s += out_s
        return drained_at + out_s

    def _drained_at(self, node: str) -> float:
        free_at, deadline_s = self._free_at.get(node, 0.0), self._wave.spec.deadline_s
        if free_at == float("inf") and deadline_s is not None:
            return free_at
        if self._now < free_at < float("inf") or (self._now == self._began_at and not free_at):
            return max(free_at, self._now)
        # Jobs that nobody knows yet: an average says of no node that it is past its deadline.
        return self._now + min(self._wait_s, deadline_s if deadline_s is not None else self._wait_s)

    def _take_back(self) -> None:
        """Go on to the next moment at which nodes come back."""
        self._now = max(self._now, self._out[0][0])
        while self._out and self._out[0][0] <= self._now:
            node = heapq.heappop(self._out)[2]
            for room in self._rooms:
                room.give_back(node)
            for limit in [limit for limit in self._parked if limit.nodes is None or node in limit.nodes]:
                for parked in self._parked.pop(limit):
                    heapq.heappush(self._due, (self._rank[parked], parked))

    def _refusal(self) -> str:
        left = self._left
        if not left:
            return ""
        return next((why for room in self._rooms if (why := room.refusal(left[0]))), "no room")

    def _batches(self, first: int, last: int, *, is_canary: bool = False) -> tuple[Batch, ...]:
        size = max(1, parse_amount(self._wave.spec.max_unavailable).of(len(self._wave.nodes)))
        marks = self._marks[first:last]
        chunks = [marks[start : start + size] for start in range(0, len(marks), size)]
        return tuple(
            Batch(tuple(node for node, _, _ in chunk), chunk[0][1], max(back for _, _, back in chunk), is_canary)
            for chunk in chunks
        )


def _free_at(node: str, world: World) -> float:
    """When its last job ends; infinite where it is busy and nobody knows, zero where it is not."""
    view = world.fleet.node(node).slurm
    if view is None or not states.is_busy(frozenset(view.flags)):
        return 0.0
    return world.free_at.get(node, float("inf"))
