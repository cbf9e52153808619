# SPDX-License-Identifier: Apache-2.0
"""What the agent remembers between two decisions, and the policy that it decides by. All of it is plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from refloat_agent.recipes import RETURN, Part, Recipe, Rung, Step
from refloat_contract.messages import Event, Failure, LastCycle
from refloat_contract.reasons import Dialect
from refloat_contract.words import Phase

_ENDS: Final = frozenset({Phase.HELD, Phase.IN_SERVICE})
_DOWN: Final = frozenset({Phase.STOPPING, Phase.UNMOUNTING, Phase.RUNNING, Phase.REBOOTING})
_UP: Final = frozenset({Phase.RUNNING, Phase.MOUNTING, Phase.STARTING, Phase.CHECKING})

TRANSITIONS: Final[Mapping[Phase, frozenset[Phase]]] = MappingProxyType(
    {
        # Without a journal a cycle is adopted from the reason alone, so it may begin in its middle.
        Phase.IN_SERVICE: frozenset({Phase.DRAINING, Phase.HELD}) | _DOWN | _UP,
        Phase.DRAINING: _ENDS | _DOWN | _UP - {Phase.CHECKING},
        Phase.STOPPING: _ENDS | _DOWN | _UP,
        Phase.UNMOUNTING: _ENDS | _DOWN | _UP,
        Phase.RUNNING: _ENDS | _DOWN | _UP,
        Phase.REBOOTING: _ENDS | _DOWN - {Phase.REBOOTING} | _UP,
        # On the way up nothing is taken down again.
        Phase.MOUNTING: _ENDS | _UP,
        Phase.STARTING: _ENDS | _UP | {Phase.RESUMING},
        Phase.CHECKING: _ENDS | {Phase.MOUNTING, Phase.STARTING, Phase.RESUMING},
        Phase.RESUMING: _ENDS,
        Phase.HELD: frozenset({Phase.IN_SERVICE}),
    }
)
"""Every move between phases that some recipe may make; any other is a fault of this program. `move` also holds a cycle
to the order of its own steps. The table in docs/ is made from this."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What an administrator decided: recipes, deadlines (seconds), and how to live without a coordinator."""

    node: str
    recipes: Mapping[str, Recipe]
    dialect: Dialect = field(default_factory=Dialect)
    deadlines_s: Mapping[Phase, float] = field(default_factory=lambda: MappingProxyType({}))
    max_attempts: int = 5
    retry_s: float = 5.0
    retry_ceiling_s: float = 60.0
    command_deadline_s: float = 900.0
    ladder: tuple[Rung, ...] = ()
    """Further ways to reboot a node that does not go down."""
    has_coordinator: bool = False
    proceed_without_coordinator: bool = True
    poll_s: float = 30.0
    health_update_s: float = 60.0
    acts: bool = True
    drains: bool = True
    remedies: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By check, the recipe that is to cure what it finds."""
    loop_limit: int = 2
    """So many cycles are begun as a remedy within ``loop_window_s``; then the node is held."""
    loop_window_s: float = 86400.0

    def __post_init__(self) -> None:
        """Add the way back, which needs no configuration."""
        object.__setattr__(self, "recipes", MappingProxyType({**self.recipes, RETURN.name: RETURN}))


@dataclass(frozen=True, slots=True)
class Cycle:
    """One trip out of service and back. Times are CLOCK_BOOTTIME, ``started_at`` is wall-clock for the record."""

    id: str
    recipe: str
    trigger: str
    phase: Phase
    entered_s: float
    started_at: float
    step: int = -1
    """The step of the recipe that the cycle is at, from 0; -1 before the first, and in a journal that has no steps."""
    part: Part = Part.MAIN
    committed: int = -1
    """How far Slurm's reason said that the cycle was when it was adopted: commands of earlier steps have been run."""
    image: str = ""
    wave: str = ""
    prior: str = ""
    """The reason of a foreign drain that stood before the trigger: given back, never resumed over."""
    cause: str = ""
    """The check whose failure this cycle is the remedy of."""
    loop: int = 0
    """How many cycles in a row were begun as its remedy, this one included."""
    attempts: int = 0
    trying: str = ""
    """What these attempts were made at."""
    retry_s: float = 0.0
    trouble: str = ""
    """What the last failed attempt said."""
    rung: int = 0
    """Which way to reboot is being tried: the recipe's own, then those of the ladder."""
    rung_s: float = 0.0
    """Since when."""
    reboot_try: int = 1
    """Which of its reboots for the right image this is; each is written into the reason before it is asked for."""
    setbacks: int = 0
    """How often a goal that had been reached was lost again."""
    announced: bool = False
    """The record has been told that the node is being serviced."""
    hold: str = ""
    undrained: bool = False
    """The hold came when Slurm had taken the node back already (and lost it): the hold has to drain it again."""
    paused_s: float | None = None
    """Since when Slurm cannot be asked; that time counts for no deadline."""
    hold_shown: bool = False
    """Slurm has shown our hold: whatever stands there later, somebody else wrote."""


def move(before: Cycle | None, after: Cycle | None) -> None:
    """Check a move against the table, and against the order of the recipe's steps.

    Raises:
        AssertionError: it may not be made.
    """
    if before is not None and after is not None and _tries_again(before, after):
        return
    source = before.phase if before else Phase.IN_SERVICE
    target = after.phase if after else Phase.IN_SERVICE
    if source is not target and target not in TRANSITIONS[source]:
        raise AssertionError(f"no transition from {source} to {target}")
    if before is None or after is None or target is Phase.HELD or (source, before.step) == (target, after.step):
        return
    known = before.step >= 0 or source is Phase.DRAINING
    back = source is Phase.CHECKING and target is Phase.MOUNTING and after.step < before.step
    if known and after.step != before.step + 1 and not back:
        raise AssertionError(f"no move from step {before.step} ({source}) to step {after.step} ({target})")


def _tries_again(before: Cycle, after: Cycle) -> bool:
    """Whether a cycle begins anew, counted, because the node has booted a wrong image."""
    return after.reboot_try == before.reboot_try + 1 and after.step == 0 and before.step > 0


@dataclass(frozen=True, slots=True)
class Remedied:
    """When, by the wall clock, cycles were begun as the remedy of what this check found."""

    check: str
    at: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class State:
    """Everything that is saved. ``boot_id`` and ``nonce`` say which boot, and which journal of it, wrote this."""

    boot_id: str
    nonce: str
    cycle: Cycle | None = None
    last: LastCycle | None = None
    prior: str = ""
    restore: bool = False
    """Storage or services may be down that should be up: after a boot, or after a cycle that was cancelled."""
    distrust: bool = False
    """The journal of this boot could not be read: never go on with a cycle that it may have held."""
    failing: tuple[Failure, ...] = ()
    health_permit: str = ""
    """Under which name a permit for a health drain is asked for; empty while none is wanted."""
    health_drained: bool = False
    """The record has been told of a health drain that still stands."""
    health_since_s: float = 0.0
    """When that drain was seen: only looks made after it may lift it."""
    health_drained_ns: int = 0
    """The same by the wall clock, for the record."""
    health_cause: str = ""
    """The check that the drain is for, for the record."""
    health_retry_s: float = 0.0
    """Before this, no drain for health is tried again, its reason is not rewritten, and no checks are run for it."""
    health_resume_s: float = 0.0
    """Before this, no health drain is lifted: a check that flaps must not make the node flap."""
    restore_retry_s: float = 0.0
    """Before this, storage and services that failed to come up are not tried again."""
    boot_failed: bool = False
    """The boot gate let slurmd start, or is about to, although storage is missing, and it still is."""
    restore_attempts: int = 0
    remedied: tuple[Remedied, ...] = ()
    seq: int = 0
    last_ns: int = 0
    outbox: tuple[Event, ...] = ()


def initial(boot_id: str, nonce: str, *, distrust: bool = False, last: LastCycle | None = None) -> State:
    """The state of an agent that remembers nothing of this boot."""
    return State(boot_id=boot_id, nonce=nonce, distrust=distrust, last=last)


def after_boot(before: State, boot_id: str, nonce: str) -> State:
    """The state in a new boot of a node that kept its disk.

    What another boot left is history: the reason and the boot id decide. Only what was not reported yet is carried on.
    """
    return State(
        boot_id=boot_id,
        nonce=nonce,
        last=before.last,
        outbox=before.outbox,
        last_ns=before.last_ns,
        remedied=before.remedied,
    )


def enter(state: State, phase: Phase, now_s: float) -> State:
    """The state with its cycle in another phase, all counters of the old one forgotten."""
    cycle = _cycle_of(state)
    return replace(state, cycle=_anew(cycle, now_s, phase, cycle.step, cycle.part))


def enter_step(state: State, number: int, step: Step, now_s: float) -> State:
    """The state with its cycle at the beginning of a step."""
    return replace(state, cycle=_anew(_cycle_of(state), now_s, step.phase, number, step.first_part))


def enter_part(state: State, part: Part, now_s: float) -> State:
    """The state with its cycle in another part of its step, whose clock and attempts begin anew."""
    cycle = _cycle_of(state)
    return replace(state, cycle=_anew(cycle, now_s, cycle.phase, cycle.step, part))


def _cycle_of(state: State) -> Cycle:
    if state.cycle is None:
        raise AssertionError("only a cycle has phases and steps")
    return state.cycle


def _anew(cycle: Cycle, now_s: float, phase: Phase, step: int, part: Part) -> Cycle:
    return replace(
        cycle,
        phase=phase,
        step=step,
        part=part,
        entered_s=now_s,
        attempts=0,
        trying="",
        retry_s=0.0,
        trouble="",
        rung=0,
        rung_s=0.0,
        paused_s=None,
    )
