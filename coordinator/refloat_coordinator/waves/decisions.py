# SPDX-License-Identifier: Apache-2.0
"""What a wave decides to do, to ask and to tell; pure."""

from dataclasses import dataclass
from typing import TypeAlias

from refloat_contract.messages import Event
from refloat_coordinator.waves.blocker import AskBlocker
from refloat_slurm.gateway import JobEnd


@dataclass(frozen=True, slots=True)
class Mark:
    """Drain the node with this reason, unless a fresh read shows that it is not free; ``replaces``: our old holds."""

    wave: str
    node: str
    reason: str
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Resume the node, if a fresh read still shows exactly this reason."""

    wave: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class EndJobs:
    """End the jobs of the node, if a fresh read still shows exactly this reason: ``by`` said so for this wave."""

    wave: str
    node: str
    reason: str
    how: JobEnd
    by: str
    attempt: int


@dataclass(frozen=True, slots=True)
class AskJobs:
    """Ask Slurm for all jobs, and when they end."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Put this event into the record."""

    event: Event


Errand: TypeAlias = Mark | GiveBack | EndJobs
"""What is to be done to Slurm."""
Question: TypeAlias = AskBlocker | AskJobs
"""What has to be asked before a wave can go on; the answer comes in with the world."""
Decision: TypeAlias = Errand | Question | Tell
