# SPDX-License-Identifier: Apache-2.0
"""What the agent remembers between two decisions, and the policy that it decides by. All of it is plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from refloat_contract.messages import Event, Failure, LastCycle
from refloat_contract.reasons import Dialect
from refloat_contract.words import Phase

_ENDS = frozenset({Phase.HELD, Phase.IN_SERVICE})

TRANSITIONS: Final[Mapping[Phase, frozenset[Phase]]] = MappingProxyType(
    {
        # Without a journal a cycle is adopted from the reason alone, so it may begin in its middle.
        Phase.IN_SERVICE: frozenset(
            {Phase.DRAINING, Phase.UNMOUNTING, Phase.REBOOTING, Phase.MOUNTING, Phase.HELD},
        ),
        Phase.DRAINING: _ENDS | {Phase.STOPPING},
        Phase.STOPPING: _ENDS | {Phase.UNMOUNTING},
        Phase.UNMOUNTING: _ENDS | {Phase.RUNNING, Phase.REBOOTING},
        Phase.RUNNING: _ENDS | {Phase.REBOOTING, Phase.MOUNTING},
        Phase.REBOOTING: _ENDS | {Phase.MOUNTING},
        Phase.MOUNTING: _ENDS | {Phase.CHECKING},
        Phase.CHECKING: _ENDS | {Phase.RESUMING, Phase.MOUNTING},
        Phase.RESUMING: _ENDS,
        Phase.HELD: frozenset({Phase.IN_SERVICE}),
    }
)
"""Every move that a node may make; any other is a fault of this program. The diagram in docs/ is drawn from it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The steps of a cycle, as phases, and how the record calls it. It reboots, or runs commands, or both."""

    name: str
    reboot: bool
    run: bool
    starting: tuple[str, str] = ("Rolling Reboot", "Rebooting for Updates")
    ending: tuple[str, str] = ("Rolling Reboot", "Host ready for production")
    tags: str = "slurm"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases in order, from DRAINING to RESUMING."""
        middle = ((Phase.RUNNING,) if self.run else ()) + ((Phase.REBOOTING,) if self.reboot else ())
        return (
            Phase.DRAINING,
            Phase.STOPPING,
            Phase.UNMOUNTING,
            *middle,
            Phase.MOUNTING,
            Phase.CHECKING,
            Phase.RESUMING,
        )

    @property
    def commits_in(self) -> Phase:
        """The phase that sets the node DOWN and writes the progress into the reason."""
        if self.reboot:
            return Phase.REBOOTING
        return Phase.RUNNING


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
    has_coordinator: bool = False
    proceed_without_coordinator: bool = True
    poll_s: float = 30.0
    health_update_s: float = 60.0
    acts: bool = True
    drains: bool = True


@dataclass(frozen=True, slots=True)
class Cycle:
    """One trip out of service and back. Times are CLOCK_BOOTTIME, ``started_at`` is wall-clock for the record."""

    id: str
    recipe: str
    trigger: str
    phase: Phase
    entered_s: float
    started_at: float
    image: str = ""
    wave: str = ""
    prior: str = ""
    """The reason of a foreign drain that stood before the trigger: given back, never resumed over."""
    attempts: int = 0
    retry_s: float = 0.0
    trouble: str = ""
    """What the last failed attempt said."""
    setbacks: int = 0
    """How often a goal that had been reached was lost again."""
    ran: bool = False
    """The recipe's commands have succeeded."""
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
    """Check a move against the table.

    Raises:
        AssertionError: the table does not have it.
    """
    source = before.phase if before else Phase.IN_SERVICE
    target = after.phase if after else Phase.IN_SERVICE
    if source is not target and target not in TRANSITIONS[source]:
        raise AssertionError(f"no transition from {source} to {target}")


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
    health_retry_s: float = 0.0
    """Before this, no drain for health is tried again, its reason is not rewritten, and no checks are run for it."""
    health_resume_s: float = 0.0
    """Before this, no health drain is lifted: a check that flaps must not make the node flap."""
    restore_attempts: int = 0
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
    return State(boot_id=boot_id, nonce=nonce, last=before.last, outbox=before.outbox, last_ns=before.last_ns)


def enter(state: State, phase: Phase, now_s: float) -> State:
    """The state with its cycle in another phase, all counters of the old one forgotten."""
    if state.cycle is None:
        raise AssertionError("only a cycle has phases")
    cycle = replace(state.cycle, phase=phase, entered_s=now_s, attempts=0, retry_s=0.0, trouble="", paused_s=None)
    return replace(state, cycle=cycle)
