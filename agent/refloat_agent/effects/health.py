# SPDX-License-Identifier: Apache-2.0
"""The checks of this node: looked at when due, asked for or woken; each result is folded into the verdict as it comes.

No check is looked at twice at once, and none waits for another: what is asked for while it is looked at already is
looked at once more after that look, however often it was asked for.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from refloat_agent import health
from refloat_agent.health import Flapping, Gate, Tracks
from refloat_agent.observation import HealthFacts
from refloat_agent.ports import Clock
from refloat_checks.api import Result, Severity
from refloat_checks.nhc import live
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
        when=spec.when,
        sticky=spec.sticky,
        flapping=Flapping(spec.flap_limit, spec.flap_window_s, spec.flap_pass_s, spec.flap_pass_most_s),
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
    _lines: frozenset[str] = frozenset()
    _under_way: set[str] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)
    _stimulus: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._gates = {spec.name: gate_of(spec) for spec in self.runner.specs}
        self._lines = frozenset(spec.name for spec in self.runner.specs if spec.kind == live.KIND)

    def facts(self) -> HealthFacts:
        """The verdict as it stands."""
        return health.judge(self.tracks, tuple(self._gates.values()))

    def look_now(self, names: Iterable[str]) -> None:
        """Something may have changed that these checks look at: look at them at once; names of no check are ignored.

        Returns at once. The look begins after this call, so that it sees the change.
        """
        self._asked |= self._gates.keys() & set(names)
        self._stimulus.set()

    async def run_all(self) -> None:
        """Run every check now, those included that are only run before a resume."""
        await self.look(self._gates)

    async def look(self, names: Iterable[str]) -> None:
        """Look at these checks, each in a look that begins after this call, and return when all have ended."""
        wanted = {name for name in names if name in self._gates}
        ready = self._ready(wanted)
        async with asyncio.TaskGroup() as tasks:
            if wanted - ready:
                tasks.create_task(self._look_after(wanted - ready), name="checks asked for again")
            if ready:
                await self._pass(ready)

    async def run(self) -> None:
        """Look at checks as they fall due or are woken, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._stimulus.clear()
                self._asked |= set(self.runner.due(self.clock.wall_ns() / 1e9)) - self._under_way
                if self._ready(self._asked):
                    asked, self._asked = self._asked, set()
                    tasks.create_task(self._look_at_ready(asked), name="checks due")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):
                        await self._stimulus.wait()

    def _pause_s(self) -> float:
        now_s = self.clock.wall_ns() / 1e9
        next_s = self.runner.next_due(now_s)
        return max(0.05, next_s - now_s) if next_s is not None else _IDLE_S

    def _ready(self, names: set[str]) -> set[str]:
        """Those of these checks that are not being looked at; the lines of an nhc.conf are looked at in one pass."""
        lines_busy = not self._lines.isdisjoint(self._under_way)
        return {name for name in names if name not in self._under_way and not (lines_busy and name in self._lines)}

    async def _look_after(self, names: set[str]) -> None:
        while not self._ready(names):
            await self._ended.wait()
        await self.look(names)

    async def _look_at_ready(self, names: set[str]) -> None:
        ready = self._ready(names)
        self._asked |= names - ready
        if ready:
            await self._pass(ready)

    async def _pass(self, names: set[str]) -> None:
        self._under_way |= names
        try:
            await self.runner.run(self._in_order(names), on_result=self._found)
            self.passes += 1
        finally:
            for name in names:
                self._end(name)

    def _in_order(self, names: set[str]) -> list[str]:
        return [name for name in self._gates if name in names]

    def _found(self, result: Result) -> None:
        self._fold(result)
        self._end(result.finding.check)

    def _end(self, name: str) -> None:
        self._under_way.discard(name)
        # Whoever waits is told once, and a later wait is for a later end.
        self._ended.set()
        self._ended = asyncio.Event()
        if name in self._asked:
            self._stimulus.set()

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
