# SPDX-License-Identifier: Apache-2.0
"""What the machine may ask for: one frozen record per action; performing the same one twice is harmless."""

from dataclasses import dataclass
from typing import TypeAlias

from refloat_agent.recipes import Argv, Way
from refloat_contract.words import Purpose


@dataclass(frozen=True, slots=True)
class AskPermit:
    """Ask the coordinator for leave to take the node out of service."""

    permit: str
    purpose: Purpose
    recipe: str
    wave: str
    cause: str = ""
    """The check whose failure the cycle is the remedy of."""


@dataclass(frozen=True, slots=True)
class ReleasePermit:
    """Give a permit back: the node is in service again, or the wish is gone."""

    permit: str


@dataclass(frozen=True, slots=True)
class StopServices:
    """Stop the configured services, in order; with ``keep_going`` also those after one that does not stop."""

    keep_going: bool = False


@dataclass(frozen=True, slots=True)
class StartServices:
    """Start them again, in reverse order."""


@dataclass(frozen=True, slots=True)
class Unmount:
    """Unmount all configured storage, last mounted first.

    ``cycle`` names whose doing it is; ``reboots``: that cycle reboots the node, which ends what is detached lazily.
    """

    cycle: str = ""
    reboots: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """Mount all configured storage, in order."""


@dataclass(frozen=True, slots=True)
class RunCommands:
    """Run commands of the recipe, or a hook; ``token`` names this one running, so that its outcome is not mistaken.

    ``deadline_s`` is for each; with ``keep_going`` those after one that failed are run, too.
    """

    argvs: tuple[Argv, ...]
    deadline_s: float
    token: str
    keep_going: bool = False


@dataclass(frozen=True, slots=True)
class Reboot:
    """Hand over what is not yet reported, then reboot the node."""

    way: Way = Way.SYSTEMD


@dataclass(frozen=True, slots=True)
class RunChecks:
    """Run every check now."""


@dataclass(frozen=True, slots=True)
class TakeDown:
    """Set the node DOWN with the cycle's progress as reason; DRAIN stays."""

    reason: str


@dataclass(frozen=True, slots=True)
class WriteReason:
    """Replace a reason of ours (a hold, a health drain, a drain given back); the state stays."""

    reason: str


@dataclass(frozen=True, slots=True)
class DrainForHealth:
    """Drain the node because checks fail."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Give the node back to Slurm."""


Action: TypeAlias = (
    AskPermit
    | ReleasePermit
    | StopServices
    | StartServices
    | Unmount
    | Mount
    | RunCommands
    | Reboot
    | RunChecks
    | TakeDown
    | WriteReason
    | DrainForHealth
    | Resume
)

UNSAFE = (StopServices, Unmount, RunCommands, Reboot, TakeDown)
"""Actions that take something from a job, if there is one: done only on a node that is proven empty."""

WITHOUT_JOURNAL = (DrainForHealth, RunChecks, AskPermit, ReleasePermit, StartServices, Mount)
"""Actions that a full or read-only disk does not stop: they only protect jobs or put things back."""
