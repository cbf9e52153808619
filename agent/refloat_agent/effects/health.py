# SPDX-License-Identifier: Apache-2.0
"""The checks of this node: looked at when due, asked for or woken; each result is folded into the verdict as it comes.

No check is looked at twice at once, and none waits for another: what is asked for while it is looked at already is
looked at once more after that look, however often it was asked for.
"""

import asyncio
import contextlib
import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from refloat_agent import health
from refloat_agent.boot_profile import is_awaited
from refloat_agent.effects.idle import IdleLooks
from refloat_agent.effects.standing import StandingFile, Stuck
from refloat_agent.health import Flapping, Gate, Track, Tracks
from refloat_agent.observation import HealthFacts
from refloat_agent.ports import Clock
from refloat_checks.api import Profile, Result, Severity, When
from refloat_checks.registry import NHC_LINE, CheckSpec
from refloat_checks.runner import Runner
from refloat_contract.errors import Refused
from refloat_contract.messages import Failure
from refloat_contract.words import Status

log = structlog.get_logger(__name__)

_NEVER_S = 3600.0
_GATE_S = 5.0
"""What keeps slurmd from starting is looked at this often, whatever its interval."""


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
    standing: StandingFile | None = None
    idle: IdleLooks | None = None
    tracks: Tracks = field(default_factory=lambda: health.NOTHING)
    off: dict[str, str] = field(default_factory=dict)
    """The checks that are switched off in this boot, and who did it."""
    passes: int = 0
    _specs: dict[str, CheckSpec] = field(default_factory=dict)
    _gates: dict[str, Gate] = field(default_factory=dict)
    _boot: tuple[CheckSpec, ...] = ()
    _lines: frozenset[str] = frozenset()
    _dismissed: dict[str, str] = field(default_factory=dict)
    _under_way: set[str] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)
    _stimulus: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _unkept: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._take(self.runner)

    def _take(self, runner: Runner) -> None:
        self.runner = runner
        self._specs = {spec.name: spec for spec in runner.specs}
        self._gates = {spec.name: gate_of(spec) for spec in runner.specs}
        self._boot = tuple(spec for spec in runner.specs if is_awaited(spec))
        self._lines = frozenset(spec.name for spec in runner.specs if spec.kind == NHC_LINE)

    async def load(self) -> None:
        """Take up what stood when the agent ended, if it is still the same boot."""
        if self.standing is None:
            return
        found = await self.standing.load()
        self.off = dict(found.off)
        for check, stuck in found.stuck.items():
            if check in self._gates:
                self.tracks = {**self.tracks, check: health.stuck(check, stuck.message, stuck.since_s)}

    def swap(self, runner: Runner) -> None:
        """Go on with other checks: those that are as they were keep what is known of them, failures that stick stay."""
        specs = {spec.name: spec for spec in runner.specs}
        known = {name for name, spec in specs.items() if spec == self._specs.get(name)}
        known |= {name for name, spec in specs.items() if spec.sticky and self._is_stuck(name)}
        self.tracks = {name: track for name, track in self.tracks.items() if name in known}
        self._take(runner)
        self._asked.clear()
        self._stimulus.set()
        self.wake()

    @property
    def is_known(self) -> bool:
        """Whether every check that is looked at by itself has been."""
        return all(gate.check in self.tracks for gate in self._counted() if gate.is_owed)

    def _counted(self) -> list[Gate]:
        return [gate for gate in self._gates.values() if gate.check not in self.off]

    def facts(self) -> HealthFacts:
        """The verdict as it stands."""
        dismissed = tuple(Failure(check=check, message=how) for check, how in self._dismissed.items())
        judged = health.judge(self.tracks, self._counted())
        return replace(judged, dismissed=dismissed, boot_waits=self._boot_waits())

    def _boot_waits(self) -> tuple[Failure, ...]:
        gating = [spec for spec in self._boot if spec.name not in self.off]
        found = [(spec.name, self.tracks.get(spec.name)) for spec in gating]
        return tuple(
            Failure(check=name, message=track.result.finding.message if track else "has not been looked at")
            for name, track in found
            if track is None or track.believed is not Status.OK
        )

    # What is asked for

    def look_now(self, names: Iterable[str]) -> None:
        """Something may have changed that these checks look at: look at them at once; names of no check are ignored.

        Returns at once. The look begins after this call, so that it sees the change.
        """
        self._ask_for({name for name in names if name in self._gates and name not in self.off})
        self._stimulus.set()

    def _ask_for(self, names: set[str]) -> None:
        idle = {name for name in names if self._gates[name].when is When.IDLE}
        self._asked |= names - idle
        if idle and self.idle is not None:
            self.idle.ask_for(sorted(idle))

    def look_for_gate(self) -> None:
        """The boot gate waits for what has not passed: see that it is looked at, every few seconds. Returns at once."""
        now_s = self.clock.boottime_s()
        waits = [self._specs[failure.check] for failure in self._boot_waits()]
        self.look_now(spec.name for spec in waits if self._age_s(spec, now_s) >= _GATE_S)

    async def run_all(self) -> None:
        """Run every check now, those included that are only run before a resume.

        Those for an idle node are asked for where they failed, and not waited for.
        """
        failing = {failure.check for failure in self.facts().raw_failing}
        self._ask_for({name for name in failing if self._gates[name].when is When.IDLE})
        await self.look(self._gates)

    async def look(self, names: Iterable[str]) -> None:
        """Look at these checks, each in a look that begins after this call, and return when all have ended."""
        wanted = {name for name in names if name in self._gates and self._gates[name].when is not When.IDLE}
        wanted -= self.off.keys()
        ready = self._ready(wanted)
        async with asyncio.TaskGroup() as tasks:
            if wanted - ready:
                tasks.create_task(self._look_after(wanted - ready), name="checks asked for again")
            if ready:
                await self._pass(ready)

    async def profile(self, profile: Profile, max_age_s: float | None) -> list[dict[str, Any]]:
        """What is known of the checks of a profile, after a look at those whose last is older than this.

        Without an age two intervals of the check count as old.
        """
        if self.idle is not None and profile is Profile.PROLOG:
            self.idle.job_comes()
        specs = [spec for spec in self._specs.values() if spec.is_in(profile) and spec.name not in self.off]
        now_s = self.clock.boottime_s()
        stale = [spec.name for spec in specs if self._age_s(spec, now_s) > (max_age_s or 2 * spec.interval_s)]
        if stale:
            await self.look(stale)
        return [self._believed(spec) for spec in specs]

    def _age_s(self, spec: CheckSpec, now_s: float) -> float:
        track = self.tracks.get(spec.name)
        return now_s - track.result.at_s if track is not None else health.FOREVER_S

    def _believed(self, spec: CheckSpec) -> dict[str, Any]:
        track = self.tracks.get(spec.name)
        status = track.believed if track is not None else Status.UNKNOWN
        message = health.told(track, self._gates[spec.name]) if track is not None else "has not been looked at"
        return {"check": spec.name, "status": status.value, "severity": spec.severity.value, "message": message}

    # What an administrator does

    def clear(self, check: str, by: str) -> str:
        """Forget what is known of a check, a failure that sticks included, and look at it anew. Raises Refused."""
        self._require(check)
        told = f"cleared by {by}"
        self._dismiss(check, told)
        log.warning("check_cleared", check=check, by=by)
        return f"{check}: {told}; it is looked at anew"

    def switch(self, check: str, by: str, *, on: bool) -> str:
        """Switch a check off until the node boots, or on again. Raises Refused."""
        self._require(check)
        if on:
            self.off.pop(check, None)
        else:
            self.off[check] = by
        told = f"switched {'on' if on else 'off'} by {by}"
        self._dismiss(check, told)
        log.warning("check_switched", check=check, on=on, by=by)
        return f"{check}: {told}" + ("" if on else ", until it is switched on or the node boots")

    def _require(self, check: str) -> None:
        if check not in self._gates:
            near = difflib.get_close_matches(check, self._gates, n=1)
            raise Refused(f"no check {check!r} here" + (f" (did you mean {near[0]!r}?)" if near else ""))

    def _dismiss(self, check: str, how: str) -> None:
        self.tracks = health.forget(self.tracks, check)
        self._dismissed[check] = how
        self._unkept.set()
        self.look_now([check])
        self.wake()

    def describe(self) -> list[dict[str, Any]]:
        """Every check, for `refloat status`: its latest result, what is believed, and what keeps it from counting."""
        found = []
        for name, gate in self._gates.items():
            if name in self.off:
                told = f"switched off by {self.off[name]}"
                found.append({"check": name, "status": Status.UNKNOWN.value, "message": told, "off": True})
            elif name in self.tracks:
                found.append(_row(self.tracks[name], gate))
        return found

    # How it is done

    async def run(self) -> None:
        """Look at checks as they fall due or are woken, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self.standing is not None:
                tasks.create_task(self._keep(self.standing), name="what stands")
            if self.idle is not None:
                tasks.create_task(self.idle.run(), name="idle checks")
            while True:
                self._stimulus.clear()
                due = set(self.runner.due(self.clock.wall_ns() / 1e9, self._done()))
                self._ask_for(due - self._under_way)
                if self._ready(self._asked):
                    asked, self._asked = self._asked, set()
                    tasks.create_task(self._look_at_ready(asked), name="checks due")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):
                        await self._stimulus.wait()

    def _done(self) -> set[str]:
        """The checks that are not looked at by themselves: switched off, or for a boot and passed."""
        boot = {name for name, gate in self._gates.items() if gate.when is When.BOOT}
        return {name for name in boot & self.tracks.keys() if self.tracks[name].believed is Status.OK} | self.off.keys()

    def _pause_s(self) -> float:
        now_s = self.clock.wall_ns() / 1e9
        next_s = self.runner.next_due(now_s, self._done())
        return max(0.05, next_s - now_s) if next_s is not None else _NEVER_S

    def _ready(self, names: set[str]) -> set[str]:
        """Those of these checks that are not being looked at; the lines of an nhc.conf are looked at in one pass."""
        lines_busy = not self._lines.isdisjoint(self._under_way)
        return {name for name in names if name not in self._under_way and not (lines_busy and name in self._lines)}

    async def _look_after(self, names: set[str]) -> None:
        while not self._ready(names):
            await self._ended.wait()
        await self.look(names)

    async def _look_at_ready(self, names: set[str]) -> None:
        ready = self._ready(names) & self._gates.keys()
        self._asked |= names & self._gates.keys() - ready
        if ready:
            await self._pass(ready)

    async def look_idle(self, name: str) -> None:
        """Look at a check that is for an idle node, which it is now."""
        if name in self._ready({name}) and name in self._gates:
            await self._pass({name})

    async def _pass(self, names: set[str]) -> None:
        runner = self.runner

        def found(result: Result) -> None:
            if runner is self.runner and result.finding.check not in self.off:
                self._fold(result)
            self._end(result.finding.check)

        self._under_way |= names
        try:
            await runner.run([name for name in self._gates if name in names], on_result=found)
            self.passes += 1
        finally:
            for name in names:
                self._end(name)

    def _end(self, name: str) -> None:
        self._under_way.discard(name)
        # Whoever waits is told once, and a later wait is for a later end.
        self._ended.set()
        self._ended = asyncio.Event()
        if name in self._asked:
            self._stimulus.set()

    def _fold(self, result: Result) -> None:
        check = result.finding.check
        gate, was = self._gates[check], self.tracks.get(check)
        self.tracks = health.fold(self.tracks, gate, result)
        now, status = self.tracks[check], result.finding.status
        if was is None or was.result.finding.status is not status:
            tell = log.info if status is Status.OK else log.warning
            tell("check", check=check, status=status.value, message=result.finding.message)
        if now.believed is Status.FAILED and (was is None or was.believed is not Status.FAILED):
            self._dismissed.pop(check, None)
            if gate.sticky:
                self._unkept.set()
        if was is None or _differs(was, now):
            self.wake()

    def _is_stuck(self, name: str) -> bool:
        return name in self.tracks and self.tracks[name].believed is Status.FAILED

    async def _keep(self, standing: StandingFile) -> None:
        while True:
            await self._unkept.wait()
            self._unkept.clear()
            stuck = {
                name: Stuck(message=self.tracks[name].trouble, since_s=self.tracks[name].since_s)
                for name, gate in self._gates.items()
                if gate.sticky and self._is_stuck(name)
            }
            await standing.save(stuck, self.off)


def _row(track: Track, gate: Gate) -> dict[str, Any]:
    row = {**track.result.as_dict(), "believed": track.believed.value, "since_s": track.since_s}
    if track.believed is not track.result.finding.status:
        row["counts_as"] = health.told(track, gate) if track.believed is Status.FAILED else track.believed.value
    if track.must_pass_s:
        row["must_pass_s"] = track.must_pass_s
    return row


def _differs(was: Track, now: Track) -> bool:
    """Whether there is something new to decide by: what passes at every look may say another figure each time."""
    if was.believed is not now.believed or was.result.finding.status is not now.result.finding.status:
        return True
    return now.result.finding.status is Status.FAILED and was.trouble != now.trouble
