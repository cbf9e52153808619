# SPDX-License-Identifier: Apache-2.0
"""The checks of this node: run when they are due or asked for, folded into the verdict as each result comes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from refloat_agent import health
from refloat_agent.health import Gate, Tracks
from refloat_agent.observation import HealthFacts
from refloat_agent.ports import Clock
from refloat_checks.api import Result, Severity, When
from refloat_checks.registry import CheckSpec
from refloat_checks.runner import Runner
from refloat_contract.words import Status

log = structlog.get_logger(__name__)

_IDLE_S = 3600.0


def gate_of(spec: CheckSpec) -> Gate:
    """How a configured check counts."""
    return Gate(
        check=spec.name,
        fail_after=spec.fail_after,
        pass_after=spec.pass_after,
        gates=spec.severity is Severity.DRAIN,
        always=spec.when is When.ALWAYS,
    )


@dataclass(slots=True)
class NodeHealth:
    """The Health port over the one runner."""

    runner: Runner
    clock: Clock
    wake: Callable[[], None]
    tracks: Tracks = field(default_factory=lambda: health.NOTHING)
    passes: int = 0
    _gates: dict[str, Gate] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._gates = {spec.name: gate_of(spec) for spec in self.runner.specs}

    def facts(self) -> HealthFacts:
        """The verdict as it stands."""
        return health.judge(self.tracks, tuple(self._gates.values()))

    async def run_all(self) -> None:
        """Run every check now, those included that are only run before a resume."""
        async with self._lock:
            await self.runner.run(on_result=self._fold)
            self.passes += 1

    async def run(self) -> None:
        """Run checks as they fall due, until cancelled."""
        while True:
            now_s = self.clock.wall_ns() / 1e9
            names = self.runner.due(now_s)
            if names:
                async with self._lock:
                    await self.runner.run(names, on_result=self._fold)
                    self.passes += 1
            now_s = self.clock.wall_ns() / 1e9
            next_s = self.runner.next_due(now_s)
            await asyncio.sleep(max(0.05, next_s - now_s) if next_s is not None else _IDLE_S)

    def _fold(self, result: Result) -> None:
        gate = self._gates[result.finding.check]
        before, was = self.facts(), self.tracks.get(gate.check)
        self.tracks = health.fold(self.tracks, gate, result)
        status = result.finding.status
        if was is None or was.result.finding.status is not status:
            tell = log.info if status is Status.OK else log.warning
            tell("check", check=gate.check, status=status.value, message=result.finding.message)
        after = self.facts()
        if (before.verdict, before.failing, before.raw_failing) != (after.verdict, after.failing, after.raw_failing):
            self.wake()
