# SPDX-License-Identifier: Apache-2.0
"""The course of a simulation: what all nodes were at, over time, and what that adds up to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

from refloat_cli.simulate.node import SimulatedNode
from refloat_contract.words import Phase
from refloat_slurm import states

_MOST_SAMPLES: Final = 2000


class Standing(StrEnum):
    """What a node is at, as it matters to those who use the cluster."""

    JOBS = "jobs"
    IDLE = "idle"
    DRAINING = "draining"
    DRAINED = "drained"
    REBOOTING = "rebooting"
    RETURNING = "returning"
    HELD = "held"
    GONE = "gone"
    OUT = "out for other causes"


SERVING: Final = frozenset({Standing.JOBS, Standing.IDLE})
"""Slurm may start jobs there."""
WORKING: Final = frozenset({Standing.JOBS, Standing.DRAINING})
"""Jobs run there."""
LOST: Final = frozenset({Standing.DRAINED, Standing.REBOOTING, Standing.RETURNING, Standing.HELD, Standing.GONE})
"""No jobs run there, and none may: because of the wave."""
OUT: Final = LOST | {Standing.DRAINING}

_RETURNING: Final = frozenset({Phase.MOUNTING, Phase.STARTING, Phase.CHECKING, Phase.RESUMING})


@dataclass(frozen=True, slots=True)
class Sample:
    """How many nodes were at what; ``at`` is in seconds since 1970."""

    at: float
    counts: dict[Standing, int]


@dataclass(slots=True)
class Course:
    """Keeps count. ``samples`` are thinned out, so that a long simulation needs no more room than a short one."""

    now: float
    began_at: float = 0.0
    ended_at: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    serving: int = 0
    """How many nodes are in service."""
    out: int = 0
    """How many are not, because of the wave."""
    least: int = 0
    least_at: float = 0.0
    most_out: int = 0
    node_s: dict[Standing, float] = field(default_factory=dict)
    _at: dict[str, Standing] = field(default_factory=dict)
    _counts: Counter[Standing] = field(default_factory=Counter)
    _every: int = 1
    _skipped: int = 0

    def put(self, node: SimulatedNode, now: float) -> None:
        """This node may be at something else now."""
        standing, before = standing_of(node), self._at.get(node.name)
        if standing is before:
            return
        self._pass(now)
        if before is not None:
            self._count(before, -1)
        self._count(standing, 1)
        self._at[node.name] = standing
        self._weigh(now)

    @property
    def busy(self) -> int:
        """On how many nodes in service jobs run."""
        return self._counts[Standing.JOBS]

    def _count(self, standing: Standing, by: int) -> None:
        self._counts[standing] += by
        self.serving += by * (standing in SERVING)
        self.out += by * (standing in OUT)

    def begin(self, now: float) -> None:
        """From here on it counts."""
        self._pass(now)
        self.node_s.clear()
        self.began_at, self.least, self.least_at, self.most_out = now, self.serving, now, 0
        self.samples.clear()
        self._weigh(now)
        self.sample(now)

    def end(self, now: float) -> None:
        """Up to here."""
        self._pass(now)
        self.ended_at = now
        self.samples.append(Sample(now, self._shown()))

    def sample(self, now: float) -> None:
        """Keep what all nodes are at, unless this was done a moment ago."""
        self._skipped += 1
        if self._skipped < self._every:
            return
        self._skipped = 0
        self.samples.append(Sample(now, self._shown()))
        if len(self.samples) >= _MOST_SAMPLES:
            self.samples = self.samples[::2]
            self._every *= 2

    def lost_node_hours(self) -> float:
        """What the wave cost: hours in which a node neither ran jobs nor could have."""
        return sum(self.node_s.get(standing, 0.0) for standing in LOST) / 3600.0

    def _weigh(self, now: float) -> None:
        if self.serving < self.least:
            self.least, self.least_at = self.serving, now
        self.most_out = max(self.most_out, self.out)

    def _pass(self, now: float) -> None:
        passed_s, self.now = now - self.now, now
        if passed_s > 0:
            for standing, count in self._counts.items():
                self.node_s[standing] = self.node_s.get(standing, 0.0) + count * passed_s

    def _shown(self) -> dict[Standing, int]:
        return {standing: self._counts[standing] for standing in Standing if self._counts[standing]}


def standing_of(node: SimulatedNode) -> Standing:
    """What a node is at."""
    if node.gone:
        return Standing.GONE
    cycle, flags = node.cycle, node.view.flags if node.view is not None else frozenset[str]()
    if not node.up and node.going_down:
        return Standing.REBOOTING
    if cycle is None:
        return _without_cycle(flags)
    if cycle.phase is Phase.DRAINING:
        if "DRAIN" not in flags and "DOWN" not in flags:
            return _without_cycle(flags)
        return Standing.DRAINING if states.is_busy(flags) else Standing.DRAINED
    if cycle.phase is Phase.HELD:
        return Standing.HELD
    return Standing.RETURNING if cycle.phase in _RETURNING else Standing.REBOOTING


@lru_cache(maxsize=1024)
def _without_cycle(flags: frozenset[str]) -> Standing:
    if "DRAIN" in flags or "DOWN" in flags:
        return Standing.OUT
    return Standing.JOBS if states.is_busy(flags) else Standing.IDLE


def totals(samples: Sequence[Sample], standings: frozenset[Standing]) -> list[int]:
    """For each sample, how many nodes were at any of these."""
    return [sum(sample.counts.get(standing, 0) for standing in standings) for sample in samples]
