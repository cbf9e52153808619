# SPDX-License-Identifier: Apache-2.0
"""Golden transcripts of damping: what checks find, what is believed of it, and what the agent does about it.

Every check is looked at every ten seconds. The transcripts in health/ are rewritten like the others:
``pytest tests/scenarios --update-scenarios``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
from fakes import Killed, World
from harness import live

from refloat_agent import health, performer
from refloat_agent.actions import Action
from refloat_agent.health import Flapping, Gate, Tracks
from refloat_agent.loop import Loop
from refloat_agent.observation import HealthFacts, Observation
from refloat_agent.ports import Health
from refloat_checks.api import Finding, Result
from refloat_contract.words import Phase, Status
from refloat_slurm import states

PLACE = Path(__file__).parent / "health"
INTERVAL_S = 10.0


@dataclass
class Checks:
    """The Health port over checks that find what they are told to; what sticks outlives the agent, within a boot."""

    world: World
    gates: Sequence[Gate]
    finds: dict[str, tuple[Status, str]] = field(default_factory=dict)
    tracks: Tracks = field(default_factory=lambda: health.NOTHING)
    boot: int = 0
    looked_s: float = -INTERVAL_S

    def start(self) -> None:
        """The agent starts: it knows nothing but what sticks."""
        stuck = {gate.check: self.tracks[gate.check] for gate in self.gates if self._is_stuck(gate)}
        self.tracks, self.boot = health.NOTHING, self.world.boot
        for check, track in stuck.items():
            self.tracks = {**self.tracks, check: health.stuck(check, track.trouble, track.since_s)}

    def _is_stuck(self, gate: Gate) -> bool:
        known = gate.sticky and self.boot == self.world.boot and gate.check in self.tracks
        return known and self.tracks[gate.check].believed is Status.FAILED

    def facts(self) -> HealthFacts:
        """The verdict, after a look if one is due."""
        if self.world.now_s - self.looked_s >= INTERVAL_S or self.world.now_s < self.looked_s:
            self.look()
        return health.judge(self.tracks, self.gates)

    def look(self) -> None:
        """Look at every check."""
        self.looked_s = self.world.now_s
        for gate in self.gates:
            status, message = self.finds.get(gate.check, (Status.OK, "well"))
            finding = Finding(gate.check, status, message)
            self.tracks = health.fold(self.tracks, gate, Result(finding, self.world.now_s, 0.1))

    async def run_all(self) -> None:
        """Look at every check."""
        self.look()
        self.world.checked_s = self.world.now_s

    def clear(self, check: str) -> None:
        """What `refloat check clear` does."""
        self.tracks = health.forget(self.tracks, check)
        self.look()

    def told(self) -> str:
        """What is believed, and what the last look found."""
        return ", ".join(
            f"{name} {track.result.finding.status}"
            + (f" (counts as {track.believed})" if track.believed is not track.result.finding.status else "")
            for name, track in self.tracks.items()
        )


Happening = Callable[[Checks], None]


def finds(check: str, status: Status, message: str = "") -> Happening:
    """From now on a check finds this."""
    return lambda checks: checks.finds.update({check: (status, message)})


def well(check: str) -> Happening:
    """From now on a check passes."""
    return finds(check, Status.OK, "well")


def ails(check: str, message: str) -> Happening:
    """From now on a check fails."""
    return finds(check, Status.FAILED, message)


def _restart(_: Checks) -> None:
    raise Killed


def _lose_power(checks: Checks) -> None:
    checks.world.going_down = True
    raise Killed


@dataclass(frozen=True)
class Scenario:
    """The checks, and what happens when."""

    gates: tuple[Gate, ...]
    plan: tuple[tuple[float, str, Happening], ...]
    seconds: float


DOWN = "labd is not running"
SCENARIOS = {
    "damping": Scenario(
        (Gate("labd", fail_after=3, pass_after=2),),
        (
            (15.0, "labd dies", ails("labd", DOWN)),
            (25.0, "labd lives", well("labd")),
            (35.0, "labd dies for longer", ails("labd", DOWN)),
            (85.0, "nobody can tell", finds("labd", Status.UNKNOWN, "no answer")),
            (105.0, "labd lives", well("labd")),
        ),
        160.0,
    ),
    "flapping": Scenario(
        (Gate("link", flapping=Flapping(limit=3, window_s=600.0, pass_s=40.0, pass_most_s=60.0)),),
        tuple(
            (
                at,
                f"the link goes {'down' if number % 2 == 0 else 'up'}",
                ails("link", "down") if number % 2 == 0 else well("link"),
            )
            for number, at in enumerate((15.0, 25.0, 95.0, 105.0, 215.0, 225.0, 355.0, 365.0))
        ),
        520.0,
    ),
    "sticky": Scenario(
        (Gate("ecc", sticky=True),),
        (
            (15.0, "an uncorrectable error", ails("ecc", "1 uncorrectable error")),
            (25.0, "the counter is reset", well("ecc")),
            (95.0, "the agent is restarted", _restart),
            (125.0, "alice: refloat check clear n1/ecc", lambda checks: checks.clear("ecc")),
            (195.0, "another uncorrectable error", ails("ecc", "1 uncorrectable error")),
            (205.0, "the counter is reset", well("ecc")),
            (275.0, "the node loses its power, and boots", _lose_power),
        ),
        360.0,
    ),
    "reason-follows-the-set": Scenario(
        (Gate("load"), Gate("fan"), Gate("scratch")),
        (
            (15.0, "the load is high", ails("load", "load 98 (limit 64)")),
            (45.0, "the load is higher", ails("load", "load 120 (limit 64)")),
            (95.0, "a fan fails", ails("fan", "fan 3 stands still")),
            (105.0, "and scratch is lost", ails("scratch", "/scratch is not mounted")),
            (115.0, "the load is good", well("load")),
            (235.0, "scratch is back", well("scratch")),
            (305.0, "the fan is replaced", well("fan")),
        ),
        400.0,
    ),
}


class Transcript:
    """Lines, each only when it says something that the one before did not."""

    def __init__(self, checks: Checks) -> None:
        self.lines: list[str] = []
        self._checks = checks
        self._last = ""

    def happens(self, text: str) -> None:
        """Something happens to the node."""
        self.lines.append(f"\n{self._checks.world.age_s:5.0f}  {text}")

    def decided(self, loop: Loop, why: str, seen: Observation, done: tuple[Action, ...]) -> None:
        """The agent has looked and decided."""
        slurm = states.text(seen.slurm.view.flags) if seen.slurm else "?"
        reason = f" ({seen.slurm.view.reason})" if seen.slurm and seen.slurm.view.reason else ""
        phase = loop.state.cycle.phase if loop.state.cycle else Phase.IN_SERVICE
        acts = "".join(f"\n         > {action!r}" for action in done)
        line = f"{slurm}{reason}\n         {self._checks.told()}"
        line += f"\n         {phase}: {why or 'nothing to do'}{acts}"
        if line != self._last:
            self.lines.append(f"{self._checks.world.age_s:5.0f}  {line}")
        self._last = line


def play(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the agent live through a scenario and write down what it saw and did."""
    world = World()
    checks = Checks(world, scenario.gates)
    transcript = Transcript(checks)

    def plan(text: str, happening: Happening) -> Callable[[World], None]:
        def happen(_: World) -> None:
            transcript.happens(text)
            happening(checks)

        return happen

    world.plan = [(at, plan(text, happening)) for at, text, happening in scenario.plan]
    performed: list[tuple[Action, ...]] = []
    real = performer.Performer.perform

    def perform(self: performer.Performer, wanted: Sequence[Action]) -> None:
        performed.append(tuple(wanted))
        real(self, performed[-1])

    monkeypatch.setattr(performer.Performer, "perform", perform)

    def watch(loop: Loop) -> None:
        checks.start()
        loop.performer.effects = replace(loop.performer.effects, health=cast("Health", checks))
        loop.on_decision = lambda decision, seen: transcript.decided(loop, decision.why, seen, performed[-1])

    live(world, lambda world, loop: world.age_s >= scenario.seconds, lives=6, ticks=600, watch=watch)
    assert world.violations == []
    return "\n".join(transcript.lines).strip("\n") + "\n"


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_transcript_is_as_it_was(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = PLACE / f"{name}.txt"
    played = play(SCENARIOS[name], monkeypatch)
    if request.config.getoption("--update-scenarios", default=False):
        path.write_text(played)

    assert played == path.read_text()


def test_no_transcript_is_left_over() -> None:
    assert {path.stem for path in PLACE.glob("*.txt")} == set(SCENARIOS)
