# SPDX-License-Identifier: Apache-2.0
"""Golden transcripts: what Slurm shows, and what the agent does about it, second by second.

A transcript is rewritten by ``pytest tests/scenarios --update-scenarios`` and committed only when each changed line can
be explained.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fakes import World
from harness import POLICY, RECIPES, live

from refloat_agent import performer
from refloat_agent.loop import Loop
from refloat_agent.observation import Observation
from refloat_agent.recipes import Rung, Way
from refloat_agent.state import Policy
from refloat_contract.words import Phase
from refloat_slurm import states

COORDINATED = replace(POLICY, has_coordinator=True)
CURED = replace(POLICY, remedies={"labd": "reboot"})
LADDER = replace(POLICY, ladder=(Rung(Way.FORCE, 30.0), Rung(Way.FORCE_FORCE, 20.0)), max_attempts=2)


@dataclass(frozen=True)
class Scenario:
    """What differs from an idle node in service, what happens when, and for how long to watch."""

    plan: tuple[tuple[float, str, dict[str, Any]], ...]
    world: dict[str, Any] = field(default_factory=dict)
    policy: Policy = POLICY
    seconds: float = 60.0


def _drain(reason: str) -> dict[str, Any]:
    return {"drain": True, "reason": reason}


SCENARIOS = {
    "reboot": Scenario(((3.0, "alice: state=drain reason=reboot", _drain("reboot")),)),
    "gpfs-restart": Scenario(((3.0, "alice: state=drain reason=gpfs-restart", _drain("gpfs-restart")),)),
    "job-running": Scenario(((3.0, "alice: state=drain reason=reboot", _drain("reboot")),), {"job_until_s": 115.0}),
    "hold-on-failed-check": Scenario(
        (
            (3.0, "alice: state=drain reason=reboot", _drain("reboot")),
            (100.0, "alice: labd is repaired, reason=reboot", {**_drain("reboot"), "fails_after_boot": ""}),
        ),
        {"fails_after_boot": "labd is not running"},
        seconds=130.0,
    ),
    "foreign-drain": Scenario(
        (
            (3.0, "alice: state=drain reason='bad dimm'", _drain("bad dimm")),
            (10.0, "labd dies", {"check_fails": "labd is not running"}),
            (20.0, "bob: reason=reboot", _drain("reboot")),
            (20.0, "labd lives", {"check_fails": ""}),
        ),
    ),
    "health-drain-and-resume": Scenario(
        (
            (5.0, "labd dies", {"check_fails": "labd is not running"}),
            (20.0, "labd lives", {"check_fails": ""}),
            (30.0, "labd dies again", {"check_fails": "labd is not running"}),
            (40.0, "labd lives", {"check_fails": ""}),
        ),
        seconds=100.0,
    ),
    "slurmctld-away": Scenario(
        (
            (3.0, "alice: state=drain reason=reboot", _drain("reboot")),
            (10.0, "slurmctld goes away", {"slurm_down": True}),
            (200.0, "slurmctld is back", {"slurm_down": False}),
        ),
        seconds=240.0,
    ),
    "admin-cancels": Scenario(
        (
            (3.0, "alice: state=drain reason=reboot", _drain("reboot")),
            (10.0, "alice: reason='bad dimm'", _drain("bad dimm")),
            (20.0, "alice: state=resume", {"drain": False, "reason": ""}),
        ),
    ),
    "called-off": Scenario(
        (
            (3.0, "alice: state=drain reason=reboot", _drain("reboot")),
            (8.0, "bob: refloat cycle cancel", _drain("refloat-release: cancelled by bob refloat=e64e1ae6")),
        ),
        {"job_until_s": 130.0},
    ),
    "held-and-released": Scenario(
        (
            (3.0, "alice: state=drain reason=reboot", _drain("reboot")),
            (100.0, "labd is repaired", {"fails_after_boot": "", "check_fails": ""}),
            (101.0, "bob: refloat cycle release", _drain("refloat-release: released by bob refloat=c1 was: bad fan")),
        ),
        {"fails_after_boot": "labd is not running"},
        seconds=130.0,
    ),
    "remedy-past-its-limit": Scenario(
        (
            *((at, "labd dies", {"check_fails": "labd is not running"}) for at in (5.0, 60.0, 115.0)),
            (140.0, "labd is repaired", {"check_fails": ""}),
            (141.0, "bob: refloat cycle release", _drain("refloat-release: released by bob refloat=c1")),
            (160.0, "labd dies", {"check_fails": "labd is not running"}),
        ),
        policy=CURED,
        seconds=175.0,
    ),
    "firmware": Scenario(
        ((3.0, "alice: state=drain reason='firmware: BIOS 2.4'", _drain("firmware: BIOS 2.4")),),
        {"command_fails": {"fwlog": 5}},
    ),
    "reboot-ladder": Scenario(
        ((3.0, "alice: state=drain reason=reboot", _drain("reboot")),),
        {"deaf_to": frozenset({Way.SYSTEMD}), "refuses": frozenset({Way.FORCE})},
        LADDER,
        seconds=110.0,
    ),
    "wrong-image-once": Scenario(
        ((3.0, "alice: state=drain reason='reboot image=compute-1'", _drain("reboot image=compute-1")),),
        {"next_images": ["compute-0", "compute-1"]},
        replace(POLICY, recipes={**RECIPES, "reboot": replace(RECIPES["reboot"], image_retries=1)}),
        seconds=90.0,
    ),
    "soft-reboot": Scenario(((3.0, "alice: state=drain reason=soft", _drain("soft")),)),
    "permit-denied-then-granted": Scenario(
        (
            (3.0, "alice: state=drain reason=reboot", _drain("reboot")),
            (20.0, "the coordinator grants", {"grants": True}),
        ),
        {"coordinator": True, "grants": False},
        COORDINATED,
    ),
}


class Transcript:
    """Lines, each only when it says something that the one before did not."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._last = ""

    def happens(self, world: World, text: str) -> None:
        """Somebody else does something."""
        self.lines.append(f"\n{world.age_s:5.0f}  {text}")

    def decided(self, world: World, loop: Loop, seen: Observation, why: str, done: tuple[Any, ...]) -> None:
        """The agent has looked and decided."""
        slurm = states.text(seen.slurm.view.flags) if seen.slurm else "?"
        reason = f" ({seen.slurm.view.reason})" if seen.slurm and seen.slurm.view.reason else ""
        phase = loop.state.cycle.phase if loop.state.cycle else Phase.IN_SERVICE
        acts = "".join(f"\n         > {action!r}" for action in done)
        line = f"{slurm}{reason}\n         {phase}: {why or 'nothing to do'}{acts}"
        if line != self._last:
            self.lines.append(f"{world.age_s:5.0f}  {line}")
        self._last = line


def _change(transcript: Transcript, text: str, values: dict[str, Any]) -> Callable[[World], None]:
    def change(world: World) -> None:
        transcript.happens(world, text)
        wanted = dict(values)
        if "reason" in wanted:
            world.admin(drain=wanted.pop("drain"), reason=wanted.pop("reason"), user=text.partition(":")[0])
        for name, value in wanted.items():
            setattr(world, name, value)
            world.checked_s = world.now_s if name == "check_fails" else world.checked_s

    return change


def play(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the agent live through a scenario and write down what it saw and did."""
    transcript = Transcript()
    world = World(**scenario.world)
    world.plan = [(at, _change(transcript, text, values)) for at, text, values in scenario.plan]
    performed: list[tuple[Any, ...]] = []
    real = performer.Performer.perform

    def perform(self: performer.Performer, wanted: Any) -> None:
        performed.append(tuple(wanted))
        real(self, performed[-1])

    monkeypatch.setattr(performer.Performer, "perform", perform)

    def step(world: World, loop: Loop) -> bool:
        return world.age_s >= scenario.seconds

    def watch(loop: Loop) -> None:
        loop.on_decision = lambda decision, seen: transcript.decided(world, loop, seen, decision.why, performed[-1])

    live(world, step, policy=scenario.policy, lives=4, watch=watch)
    assert world.violations == []
    return "\n".join(transcript.lines).strip("\n") + "\n"


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_transcript_is_as_it_was(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(__file__).parent / f"{name}.txt"
    played = play(SCENARIOS[name], monkeypatch)
    if request.config.getoption("--update-scenarios", default=False):
        path.write_text(played)

    assert played == path.read_text()


def test_no_transcript_is_left_over() -> None:
    assert {path.stem for path in Path(__file__).parent.glob("*.txt")} == set(SCENARIOS)
