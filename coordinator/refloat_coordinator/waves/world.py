# SPDX-License-Identifier: Apache-2.0
"""What a wave is decided by; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.permits.budget import Limit
from refloat_coordinator.permits.groups import Groups
from refloat_coordinator.permits.permit import Permits
from refloat_coordinator.waves.blocker import BlockerAnswer
from refloat_coordinator.waves.member import Member


@dataclass(slots=True)
class Settled:
    """What looks at a wave's members have changed nothing of; it only saves time.

    ``judged`` has members with the nodes that were looked at, and until when nothing can follow while both are the same
    objects. The waiting ones of ``members`` were looked at, too, when the fleet had this ``stamp``.
    """

    judged: dict[str, tuple[Member, Node, float]] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    stamp: object = None


@dataclass(frozen=True, slots=True)
class World:
    """What a wave is decided by.

    ``reserved`` are the nodes that other waves have marked, each with why. ``free_at`` is when the last job of a node
    ends by its time limit, as Slurm said at ``jobs_at`` (0: it was not asked). ``answer`` is what the wave's blocker
    said last.

    ``settled`` is of earlier looks at this wave; looks add to it.
    """

    fleet: Fleet
    permits: Permits = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    reserved: Mapping[str, str] = field(default_factory=dict)
    settled: Settled = field(default_factory=Settled)
    groups: Groups = field(default_factory=Groups)
    free_at: Mapping[str, float] = field(default_factory=dict)
    jobs_at: float = 0.0
    answer: BlockerAnswer | None = None
