# SPDX-License-Identifier: Apache-2.0
"""The decision table: what the agent does about every kind of reason, by flags and phase, as `decide` itself says."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from refloat_agent import in_service, machine
from refloat_agent.actions import ReleasePermit
from refloat_agent.moves import Decision
from refloat_agent.observation import HealthFacts, Observation, ServiceFacts, SlurmFacts, StorageFacts
from refloat_agent.recipes import RETURN, Recipe, short_form
from refloat_agent.state import Cycle, Policy, State, initial
from refloat_contract.messages import Failure
from refloat_contract.words import Phase, Verdict
from refloat_slurm.gateway import NodeView

_BOOT: Final = "aaaaaaaa-0000-4000-8000-000000000000"
_NOW_S: Final = 1000.0
_POLICY: Final = Policy("n1", {"reboot": Recipe("reboot", short_form(reboot=True))})
_FLAGS: Final = (
    "IDLE",
    "IDLE+DRAIN",
    "MIXED+DRAIN",
    "DOWN+DRAIN",
    "DOWN",
    "DOWN+DRAIN+NOT_RESPONDING",
    "UNKNOWN+DRAIN",
    "IDLE+DRAIN+REBOOT_REQUESTED",
    "IDLE+DRAIN+POWERING_DOWN",
    "IDLE+DRAIN+MAINTENANCE",
)
_REASONS: Final[Mapping[str, str]] = {
    "none": "",
    "somebody else's": "bad dimm",
    "`scontrol reboot`'s": "kernel : reboot issued",
    "trigger": "reboot",
    "trigger, for another image": "reboot image=other",
    "progress of this cycle": "rebooting refloat=c1 boot=aaaaaaaa",
    "the same, silent for long": "rebooting refloat=c1 boot=aaaaaaaa : Not responding",
    "progress, of an earlier boot": "rebooting refloat=c1 boot=bbbbbbbb",
    "progress of another cycle": "rebooting refloat=c2 boot=aaaaaaaa",
    "bare word of the old script": "rebooting",
    "hold of this cycle": "refloat-hold: it failed refloat=c1",
    "release": "refloat-release: cancelled by alice refloat=c1",
    "health drain": "refloat: labd: not running",
}
_WELL: Final = HealthFacts(Verdict.HEALTHY, oldest_s=_NOW_S)
_SICK: Final = HealthFacts(Verdict.UNHEALTHY, (Failure(check="labd", message="not running"),), oldest_s=_NOW_S)
_UNKNOWN: Final = HealthFacts()
_DOING: Final[Mapping[str, str]] = {
    "StopServices": "stop services",
    "StartServices": "start services",
    "Unmount": "unmount",
    "Mount": "mount",
    "RunCommands": "run commands",
    "Reboot": "reboot",
    "RunChecks": "run checks",
    "TakeDown": "set DOWN, write progress",
    "WriteReason": "write reason",
    "DrainForHealth": "drain",
    "Resume": "resume",
}


def page() -> str:
    """All tables."""
    intro = (
        "# What the agent decides\n\n"
        "Computed by the agent's own `decide`: the recipe is `reboot`, the node is empty (but where Slurm shows "
        "MIXED), Slurm has just been read, there is no coordinator, and the goal of the phase is not met yet. `(…)` is "
        "a change of phase, the rest is what is done at once. A cell that says `waits` does nothing and looks again; "
        "`ends` gives up the cycle, brings up what it had taken down, and leaves Slurm as it is.\n\n"
        "A row is what the node's reason is, a column what its state is. Columns that say the same stand together.\n"
    )
    parts = [intro]
    parts += [_section(f"No cycle, checks {word}", state, health) for word, state, health in _outside()]
    parts += [_section(f"In {cycle.phase}", _state(cycle), _UNKNOWN) for cycle in _cycles()]
    parts.append(
        _section(f"In {Phase.CHECKING}, on the way back of a cycle that was called off", _state(_way_back()), _UNKNOWN)
    )
    return "\n".join(parts)


def _outside() -> Iterator[tuple[str, State, HealthFacts]]:
    yield "pass", replace(initial(_BOOT, "nonce0"), health_drained=False), _WELL
    yield "fail", initial(_BOOT, "nonce0"), _SICK
    yield "not known yet", initial(_BOOT, "nonce0"), _UNKNOWN


def _cycles() -> Iterator[Cycle]:
    steps = _POLICY.recipes["reboot"].steps
    yield Cycle("c1", "reboot", "reboot", Phase.DRAINING, _NOW_S - 5, 1.0)
    for number, step in enumerate(steps):
        yield Cycle("c1", "reboot", "reboot", step.phase, _NOW_S - 5, 1.0, step=number, announced=True)
    yield Cycle("c1", "reboot", "reboot", Phase.HELD, _NOW_S - 5, 1.0, hold="it failed", hold_shown=True)


def _way_back() -> Cycle:
    return Cycle("c1", RETURN.name, "", Phase.CHECKING, _NOW_S - 5, 1.0, step=2)


def _state(cycle: Cycle) -> State:
    return replace(initial(_BOOT, "nonce0"), cycle=cycle)


def _section(title: str, state: State, health: HealthFacts) -> str:
    cells = {kind: [_cell(state, flags, reason, health) for flags in _FLAGS] for kind, reason in _REASONS.items()}
    columns: dict[tuple[str, ...], list[str]] = {}
    for number, flags in enumerate(_FLAGS):
        columns.setdefault(tuple(row[number] for row in cells.values()), []).append(flags)
    heads = [", ".join(f"`{flags}`" for flags in group) for group in columns.values()]
    rows: dict[tuple[str, ...], list[str]] = {}
    for number, kind in enumerate(cells):
        rows.setdefault(tuple(column[number] for column in columns), []).append(kind)
    lines = [f"## {title}\n", f"| reason | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    lines += [f"| {'; '.join(kinds)} | {' | '.join(row)} |" for row, kinds in rows.items()]
    return "\n".join(lines) + "\n"


def _cell(state: State, flags: str, reason: str, health: HealthFacts) -> str:
    seen = _seen(state, flags, reason, health)
    decide = machine.decide if state.cycle is not None else in_service.decide
    return _said(state, decide(state, seen, _POLICY))


def _seen(state: State, flags: str, reason: str, health: HealthFacts) -> Observation:
    """The node as it is while the goal of its phase is not met; proven well where that is the goal."""
    phase = state.cycle.phase if state.cycle else Phase.IN_SERVICE
    is_up = phase not in {Phase.REBOOTING, Phase.MOUNTING}
    runs = phase not in {Phase.UNMOUNTING, Phase.REBOOTING, Phase.MOUNTING, Phase.STARTING}
    return Observation(
        now_s=_NOW_S,
        wall_ns=10**18,
        boot_id=_BOOT,
        slurm=SlurmFacts(NodeView("n1", frozenset(flags.split("+")), reason, "alice", 1), fresh=True),
        jobs=(),
        steps=(),
        storage=(StorageFacts("scratch", mounted=is_up, right=is_up),),
        services=(ServiceFacts("site.service", active=runs),),
        registered=True,
        health=health,
        image="",
    )


def _said(before: State, decision: Decision) -> str:
    after = decision.state.cycle
    doing = [_DOING[type(action).__name__] for action in decision.actions if not isinstance(action, ReleasePermit)]
    if before.cycle is not None and after is None:
        last = decision.state.last
        return f"ends: {last.outcome}" if last is not None else "ends"
    if after is not None and (before.cycle is None or before.cycle.phase is not after.phase):
        doing.insert(0, f"({after.phase})")
    if doing:
        return " ".join([doing[0], ", ".join(doing[1:])]).strip() if doing[0].startswith("(") else ", ".join(doing)
    return "waits" if before.cycle is not None else "nothing"
