# SPDX-License-Identifier: Apache-2.0
"""Which nodes boot now, and whether one more may: boot servers serve so many at once, or rack by rack; pure.

The permit of a cycle that reboots counts from its grant until the node is back in another boot: an agent asks when its
node is empty, so nothing but the way down lies between.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from refloat_contract.words import Phase
from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.permits.budget import Amount, Limit, Room
from refloat_coordinator.permits.groups import Groups
from refloat_coordinator.permits.permit import Permit, Permits

GIVE_UP_S: Final = 1800.0
_BOOTED_BY_SLURM: Final = frozenset({"POWERING_UP", "REBOOT_ISSUED"})
_JITTER_S: Final = 3
"""Slurm's boot time of one boot differs by so much from registration to registration."""


@dataclass(frozen=True, slots=True)
class BootRule:
    """How many nodes may boot at once: ``at_once`` for each group of the kind ``per`` (empty: of the cluster).

    With ``one_at_a_time``, a kind, only nodes of one of its groups boot at once (for each group of ``per``). A node
    that is silent for longer than ``give_up_s`` no longer boots: it is lost. Recipes in ``without`` do not reboot.
    """

    at_once: Amount | None = None
    per: str = ""
    one_at_a_time: str = ""
    give_up_s: float = GIVE_UP_S
    without: frozenset[str] = frozenset({"reconfigure"})

    def is_about(self, recipe: str) -> bool:
        """Whether a cycle of this recipe reboots its node, as far as one can know here."""
        return recipe not in self.without

    @property
    def binds(self) -> bool:
        """Whether it limits anything."""
        return self.at_once is not None or bool(self.one_at_a_time)


class Berths:
    """Where nodes may boot, while the decisions of one turn are made."""

    def __init__(self, rule: BootRule, groups: Groups, booting: Mapping[str, str], fleet: Fleet) -> None:
        self._rule = rule
        limits: list[Limit] = []
        if rule.at_once is not None and rule.per:
            limits = [Limit(f"boot {name}", rule.at_once, nodes) for name, nodes in groups.of(rule.per).items()]
        elif rule.at_once is not None:
            limits = [Limit("boot", rule.at_once)]
        self.room = Room(limits, booting, fleet.serving, "booting")
        self._lanes = groups.place(rule.per) if rule.per else {}
        self._places = groups.place(rule.one_at_a_time) if rule.one_at_a_time else {}
        self._under_way: dict[str, Counter[str]] = {}
        self._nodes: set[str] = set()
        for node in booting:
            self._board(node, 1)

    def refusal(self, node: str) -> str:
        """Why the node may not boot now; empty when it may."""
        full = self.room.refusal(node)
        if full or not self._rule.one_at_a_time or node in self._nodes:
            return full
        mine = self._places.get(node, "")
        for place, count in self._under_way.get(self._lanes.get(node, ""), Counter[str]()).items():
            if place != mine and count:
                kind = self._rule.one_at_a_time
                named = f"{kind} {place} is" if place else f"nodes of no {kind} are"
                return f"one {kind} boots at a time: {named} booting ({count} {'node' if count == 1 else 'nodes'})"
        return ""

    def has(self, node: str) -> bool:
        """Whether the node boots."""
        return node in self._nodes

    def take(self, node: str) -> None:
        """Count the node as booting from here on."""
        if node not in self._nodes:
            self._board(node, 1)
        self.room.take(node, "just granted")

    def give_back(self, node: str) -> None:
        """It does not boot."""
        if node in self._nodes:
            self._board(node, -1)
        self.room.give_back(node)

    def _board(self, node: str, by: int) -> None:
        (self._nodes.add if by > 0 else self._nodes.discard)(node)
        lane = self._under_way.setdefault(self._lanes.get(node, ""), Counter())
        lane[self._places.get(node, "")] += by


def booting(fleet: Fleet, permits: Permits, rule: BootRule, now: float) -> dict[str, str]:
    """The nodes that boot now, or are about to, each with why that is thought."""
    found = {
        name: "has a permit, is not back yet"
        for name, permit in permits.items()
        if permit.boots and _is_under_way(fleet.node(name), permit, rule, now)
    }
    # Those that nobody asked leave for: Slurm's own, and nodes whose agents went on without a coordinator.
    for name in fleet.outages:
        if name not in permits and _boots_unasked(fleet.node(name), rule, now):
            found[name] = "boots without a permit"
    return found


def _is_under_way(node: Node, permit: Permit, rule: BootRule, now: float) -> bool:
    view = node.slurm
    report = node.report if node.report and node.report.at > permit.report_at else None
    if report is not None and permit.boot_id and report.boot_id != permit.boot_id:
        return False
    if view is not None and permit.boot_time and view.boot_time - permit.boot_time > _JITTER_S:
        return False
    if report is not None and report.phase is Phase.HELD:
        return False  # it waits for a human, and what a human lets go on is not in the way of anybody
    return node.online or not node.since or now - node.since <= rule.give_up_s


def _boots_unasked(node: Node, rule: BootRule, now: float) -> bool:
    if node.slurm is not None and not _BOOTED_BY_SLURM.isdisjoint(node.slurm.flags):
        return True
    went_down = node.report is not None and node.report.phase is Phase.REBOOTING
    return went_down and not node.online and now - node.since <= rule.give_up_s
