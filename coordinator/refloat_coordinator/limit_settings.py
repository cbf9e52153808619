# SPDX-License-Identifier: Apache-2.0
"""The settings of groups, limits and the breaker; the reference in docs/ is made from the descriptions here."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from refloat_contract.errors import Misconfigured
from refloat_coordinator import hostlists
from refloat_coordinator.permits.boots import BootRule
from refloat_coordinator.permits.breaker import Trip
from refloat_coordinator.permits.budget import Amount, Limit, parse_amount
from refloat_coordinator.permits.grants import Loops
from refloat_coordinator.permits.groups import PARTITION
from refloat_coordinator.permits.rules import Rules
from refloat_service.settings import Settings


def _amount(given: int | str) -> int | str:
    parse_amount(given)
    return given


def _hostlist(text: str) -> str:
    try:
        hostlists.expand(text)
    except Misconfigured as error:
        raise ValueError(str(error)) from error
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    return text


Share = Annotated[int | str, AfterValidator(_amount)]
Hostlist = Annotated[str, AfterValidator(_hostlist)]
Pattern = Annotated[str, AfterValidator(_pattern)]

_SOURCES: Final = ("sets", "pattern", "topology", "file", "clustershell")


class GroupKindSettings(Settings):
    """One kind of group: which nodes share a rack, a switch, a power feed, a boot server. Sources can be combined."""

    sets: dict[str, Hostlist] = Field(default_factory=dict, description='the nodes of each group: { r1 = "n[1-16]" }')
    pattern: Pattern | None = Field(
        None,
        description="a regular expression over whole node names; what its group of the kind's name finds, or its "
        "first, names a node's group: 'r(?P<rack>\\d+)n\\d+'",
    )
    topology: Path | None = Field(None, description="Slurm's topology.conf: its switches, or its blocks")
    level: int = Field(0, ge=0, description="topology: of which height; 0: the switches that nodes hang on")
    file: Path | None = Field(None, description="lines of a hostlist and a group: n[1-16] r1")
    clustershell: str | None = Field(
        None, min_length=1, description="a source of ClusterShell's groups.conf, all groups of which are taken"
    )

    @model_validator(mode="after")
    def _has_a_source(self) -> "GroupKindSettings":
        if not any(getattr(self, name) for name in _SOURCES):
            raise ValueError(f"says nothing of its nodes: it needs one of {', '.join(_SOURCES)}")
        return self


class GroupSettings(Settings):
    """How many of some nodes may be out at once."""

    nodes: Hostlist = Field(description="the nodes, as a hostlist: n[1-16]")
    max_unavailable: Share = Field(description='how many may be out at once: 2, or "5%" (rounded down, at least 1)')


class PartitionSettings(Settings):
    """How many nodes of a partition may be out at once."""

    nodes: Hostlist | None = Field(None, description="its nodes, as a hostlist; none: as Slurm has them")
    max_unavailable: Share = Field(description='how many may be out at once: 2, or "5%" (rounded down, at least 1)')


class PerGroupSettings(Settings):
    """How many nodes of each group of a kind may be out at once."""

    max_unavailable: Share = Field(description='how many may be out at once: 2, or "5%" (rounded down, at least 1)')


class BootSettings(Settings):
    """How many nodes may boot at once; a permit counts from its grant until the node is back in another boot."""

    at_once: Share | None = Field(None, description="how many in each group of the kind `per`; none: no limit")
    per: str = Field("", description="a kind of group, such as boot servers; empty: `at_once` is of the cluster")
    one_at_a_time: str = Field(
        "",
        description='a kind of group, such as "rack": only nodes of one of its groups boot at once, for each of `per`',
    )
    give_up_s: float = Field(
        1800.0, gt=0, description="a node that is silent for longer boots no longer: it is lost, and counts as out"
    )
    recipes_without: tuple[str, ...] = Field(
        ("reconfigure",), description="recipes that do not reboot; all others are taken for such that do"
    )

    def rule(self) -> BootRule:
        """The rule as decisions take it."""
        return BootRule(
            at_once=None if self.at_once is None else _parsed(self.at_once),
            per=self.per,
            one_at_a_time=self.one_at_a_time,
            give_up_s=self.give_up_s,
            without=frozenset(self.recipes_without),
        )


class BreakerSettings(Settings):
    """The breaker: one check that begins to fail on many nodes at once is one incident, not many broken nodes."""

    percent: int = Field(
        10, ge=0, le=100, description="open when a check begins to fail on more of what could serve; 0: never"
    )
    nodes: int = Field(5, ge=1, description="and on so many nodes at least")
    window_s: float = Field(600.0, gt=0, description="within this time")
    clear_s: float = Field(300.0, ge=0, description="close when it has failed on fewer than half of that for so long")

    def trip(self) -> Trip:
        """When incidents open and close, as decisions take it."""
        return Trip(self.percent, self.nodes, self.window_s, self.clear_s)


class LimitSettings(Settings):
    """The budget: how many nodes may be out at once, for whatever cause. Every limit that names a node binds.

    A percentage is of the nodes that could serve: those in Slurm's table, without FUTURE ones and those that power
    saving has switched off.
    """

    max_unavailable: Share = Field("10%", description='of all nodes that could serve: 2, or "5%"')
    partitions: dict[str, PartitionSettings] = Field(default_factory=dict, description="limits by partition")
    groups: dict[str, GroupSettings] = Field(
        default_factory=dict, description="limits of any nodes, by a name of yours"
    )
    per_group: dict[str, PerGroupSettings] = Field(
        default_factory=dict, description="a limit for each group of a kind: of `[groups]`, or `partition`"
    )
    health_drain: Share | None = Field(
        None, description="of all nodes that could serve, how many may be drained by checks; none: no limit of its own"
    )
    boot: BootSettings = Field(
        default_factory=lambda: BootSettings.model_validate({}), description="how many nodes may boot at once"
    )
    idle_checks_at_once: int = Field(
        4, ge=0, description='on how many nodes checks with `when = "idle"` may run at once; 0: on none'
    )
    groups_reread_s: float = Field(
        300.0, ge=1, description="how often files, groups and partitions are read again; what cannot be read stays"
    )

    loop_limit: int = Field(
        2, ge=1, description="how many cycles of one node may be the remedy of the same check within `loop_window_s`"
    )
    loop_window_s: float = Field(86400.0, gt=0, description="see `loop_limit`")

    def loops(self) -> Loops:
        """How often a remedy may be tried."""
        return Loops(self.loop_limit, self.loop_window_s)

    def limits(self) -> tuple[Limit, ...]:
        """The limits whose nodes stand in the configuration."""
        named: list[tuple[str, PartitionSettings | GroupSettings]] = [
            *((f"partition {name}", group) for name, group in self.partitions.items()),
            *((f"group {name}", group) for name, group in self.groups.items()),
        ]
        return (
            Limit("cluster", _parsed(self.max_unavailable)),
            *(
                Limit(name, _parsed(group.max_unavailable), frozenset(hostlists.expand(group.nodes)))
                for name, group in named
                if group.nodes is not None
            ),
        )

    def rules(self, kinds: Mapping[str, GroupKindSettings]) -> Rules:
        """All limits, before anything was read from files or Slurm."""
        return Rules(
            fixed=self.limits(),
            per_group={kind: _parsed(limit.max_unavailable) for kind, limit in self.per_group.items()},
            partitions={n: _parsed(p.max_unavailable) for n, p in self.partitions.items() if p.nodes is None},
            health=None if self.health_drain is None else _parsed(self.health_drain),
            boot=self.boot.rule(),
            listed={
                kind: {name: frozenset(hostlists.expand(nodes)) for name, nodes in one.sets.items()}
                for kind, one in kinds.items()
            },
            patterns=tuple((kind, re.compile(one.pattern)) for kind, one in kinds.items() if one.pattern),
        )

    def kinds(self) -> dict[str, str]:
        """The kinds of group that limits are about, each with the key that names it."""
        named = {kind: f"limits.per_group.{kind}" for kind in self.per_group}
        return named | {
            kind: f"limits.boot.{key}"
            for key, kind in (("per", self.boot.per), ("one_at_a_time", self.boot.one_at_a_time))
            if kind
        }


def unknown_kind(limits: LimitSettings, kinds: Mapping[str, GroupKindSettings]) -> str:
    """What is wrong with the kinds of group that are named; empty when nothing is."""
    if PARTITION in kinds:
        return f"groups.{PARTITION}: Slurm tells its partitions; give this kind another name"
    known = {*kinds, PARTITION}
    for kind, key in limits.kinds().items():
        if kind not in known:
            return f"{key}: no kind of group is called {kind!r} (known: {', '.join(sorted(known))}); see [groups]"
    return ""


def _parsed(given: int | str) -> Amount:
    return parse_amount(given)
