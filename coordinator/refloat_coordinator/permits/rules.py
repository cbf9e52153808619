# SPDX-License-Identifier: Apache-2.0
"""The limits that a site sets, and what they come to for the nodes that Slurm knows; pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from refloat_coordinator.permits import groups as grouping
from refloat_coordinator.permits.boots import BootRule
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.groups import PARTITION, Groups, Named

Pattern: TypeAlias = tuple[str, re.Pattern[str]]
"""A kind of group, and what finds a node's group in its name."""

_UNREAD: Final = Limit("partition, whose nodes have not been read from Slurm yet", Amount(0))


@dataclass(frozen=True, slots=True)
class Budget:
    """All limits, with their nodes: ``limits`` of what may be out, ``health`` of drains by checks, ``boot`` of reboots.

    ``warnings`` are sentences about limits that bind nothing.
    """

    limits: tuple[Limit, ...] = ()
    health: tuple[Limit, ...] = ()
    boot: BootRule = field(default_factory=BootRule)
    groups: Groups = field(default_factory=Groups)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What a site has written down.

    ``fixed`` are the limits whose nodes need nothing else; ``per_group`` says how much of each group of a kind may be
    out, ``partitions`` the same of partitions by name. ``listed`` are the groups that were read, ``patterns`` make some
    of node names; ``told`` are Slurm's partitions, None before they were read.
    """

    fixed: tuple[Limit, ...] = ()
    per_group: Mapping[str, Amount] = field(default_factory=dict)
    partitions: Mapping[str, Amount] = field(default_factory=dict)
    health: Amount | None = None
    boot: BootRule = field(default_factory=BootRule)
    listed: Mapping[str, Named] = field(default_factory=dict)
    patterns: tuple[Pattern, ...] = ()
    told: Named | None = None

    @property
    def needs_partitions(self) -> bool:
        """Whether a limit is about partitions as Slurm tells them."""
        return bool(self.partitions) or PARTITION in {*self.per_group, self.boot.per, self.boot.one_at_a_time}

    def budget(self, known: Iterable[str]) -> Budget:
        """The limits over these nodes."""
        nodes = tuple(known)
        groups = self._groups(nodes)
        limits = [*self.fixed]
        for kind, amount in self.per_group.items():
            limits += groups.limits(kind, amount)
        partitions = groups.of(PARTITION)
        for name, amount in self.partitions.items():
            if name in partitions:
                limits.append(Limit(f"partition {name}", amount, partitions[name]))
        if self.needs_partitions and self.told is None:
            limits.append(_UNREAD)
        return Budget(
            limits=tuple(limits),
            health=() if self.health is None else (Limit("health_drain", self.health),),
            boot=self.boot,
            groups=groups,
            warnings=tuple(self._warnings(groups)) if nodes else (),
        )

    def _groups(self, known: tuple[str, ...]) -> Groups:
        kinds: dict[str, list[Named]] = {kind: [named] for kind, named in self.listed.items()}
        for kind, pattern in self.patterns:
            kinds.setdefault(kind, []).append(grouping.by_pattern(kind, pattern, known))
        kinds[PARTITION] = [self.told or {}]
        return Groups({kind: grouping.joined(*parts) for kind, parts in kinds.items()})

    def _warnings(self, groups: Groups) -> Iterable[str]:
        for kind in {*self.per_group, self.boot.per, self.boot.one_at_a_time} - {""}:
            if not groups.of(kind) and not (kind == PARTITION and self.told is None):
                yield f"no node is in any {kind}: its limits bind nothing"
        for name in self.partitions:
            if self.told is not None and name not in self.told:
                yield f"Slurm has no partition {name!r}: its limit binds nothing"
