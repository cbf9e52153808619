# SPDX-License-Identifier: Apache-2.0
"""What the loop sees before it decides. None always means "not looked at, or could not be told": never "nothing"."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from refloat_agent.actions import Action
from refloat_contract.messages import Failure
from refloat_contract.words import Verdict
from refloat_slurm.gateway import Job, NodeView


@dataclass(frozen=True, slots=True)
class SlurmFacts:
    """The node as Slurm shows it. ``fresh``: read from slurmctld for this very decision.

    ``rests``: the feed is silent for all nodes at once, and it is not this one's turn to ask slurmctld just to look.
    """

    view: NodeView
    fresh: bool
    age_s: float = 0.0
    from_feed: bool = False
    rests: bool = False


@dataclass(frozen=True, slots=True)
class StepProcess:
    """A slurmstepd on this node, and its title, which names the job step."""

    pid: int
    title: str


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """One configured storage: whether anything is mounted there, and whether it is the right thing.

    ``mounted`` is false only when it is proven gone, ``right`` true only when it is proven right.
    """

    name: str
    mounted: bool
    right: bool
    why: str = ""
    note: str = ""
    """What its unmounting waits for at the moment; empty while there is nothing to say."""
    skipped: str = ""
    """The cycle that leaves it mounted, because it stayed busy and the configuration says to go on."""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One configured service."""

    name: str
    active: bool


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """The damped verdict, and what each gating check last found."""

    verdict: Verdict = Verdict.UNKNOWN
    failing: tuple[Failure, ...] = ()
    unknown: tuple[Failure, ...] = ()
    oldest_s: float | None = None
    """When the oldest of the latest results was made (CLOCK_BOOTTIME); None while a check has not run yet."""
    raw_failing: tuple[Failure, ...] = ()
    """What failed at the latest look, undamped: damping may keep a node in service, it never puts one back."""
    warning: tuple[Failure, ...] = ()
    """What fails, but is only reported."""
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What each check measured at its latest look; units in the names."""
    dismissed: tuple[Failure, ...] = ()
    """The checks whose failure an administrator took away, each with how, and who it was."""
    boot_waits: tuple[Failure, ...] = ()
    """The checks that the boot gate waits for: they have not passed, and none of them looks at slurmd."""


@dataclass(frozen=True, slots=True)
class PermitFacts:
    """What the coordinator said. ``coordinator``: True present, False absent, None not known yet.

    ``rests``: what was denied is not to be asked again before ``again_s`` (CLOCK_BOOTTIME). A node that would only ask
    need not read Slurm until then; as many may be denied at once as a check fails on.
    """

    coordinator: bool | None = False
    granted: str = ""
    denied: str = ""
    denied_why: str = ""
    rests: bool = False
    again_s: float = 0.0

    def withholds(self, permit: str) -> bool:
        """Whether this permit was denied, and is not to be asked for again yet."""
        return self.rests and bool(permit) and self.denied == permit and self.granted != permit


NO_PERMIT: Final = PermitFacts()


@dataclass(frozen=True, slots=True)
class GateFacts:
    """The boot gate. ``holds``: it keeps slurmd from starting now; ``overdue``: what it waits for is past its time."""

    holds: bool = False
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class ActionOutcome:
    """How an action ended since the last decision. ``final``: trying again needs a human first."""

    action: Action
    error: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """All that a decision may depend on. Times are seconds of CLOCK_BOOTTIME; ``wall_ns`` is for the record only."""

    now_s: float
    wall_ns: int
    boot_id: str
    slurm: SlurmFacts | None = None
    slurm_error: str = ""
    jobs: tuple[Job, ...] | None = None
    steps: tuple[StepProcess, ...] | None = None
    storage: tuple[StorageFacts, ...] | None = None
    services: tuple[ServiceFacts, ...] | None = None
    registered: bool | None = None
    """Whether slurmd has registered this boot with slurmctld."""
    health: HealthFacts = field(default_factory=HealthFacts)
    permit: PermitFacts = field(default_factory=PermitFacts)
    gate: GateFacts = field(default_factory=GateFacts)
    outcomes: tuple[ActionOutcome, ...] = ()
    busy: frozenset[str] = frozenset()
    """The lanes (see `performer`) where an action is still under way: a phase does not end under its own action."""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Wants:
    """What the next decision needs to look at closely; everything else is too dear to look at every time."""

    slurm: bool = False
    jobs: bool = False
    steps: bool = False
    storage: bool = False
    services: bool = False
    registered: bool = False
