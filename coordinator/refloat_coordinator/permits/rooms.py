# SPDX-License-Identifier: Apache-2.0
"""What every limit leaves while the decisions of one turn are made; pure.

Thousands may ask in one turn, so what is left is counted once, and then kept from request to request.
"""

from collections.abc import Callable
from functools import cached_property

from refloat_contract import reasons
from refloat_contract.messages import Request
from refloat_contract.reasons import Dialect, Health
from refloat_contract.words import Purpose
from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.permits import boots
from refloat_coordinator.permits.boots import Berths
from refloat_coordinator.permits.budget import Limit, Room
from refloat_coordinator.permits.permit import Permit, Permits
from refloat_coordinator.permits.rules import Budget


def out(fleet: Fleet, permits: Permits) -> dict[str, str]:
    """All nodes that are out, each with the cause."""
    return {**fleet.outages, **dict.fromkeys(permits, "permit")}


class Rooms:
    """The rooms of one turn. ``own`` tells the limits that a wave sets to itself, by its id."""

    def __init__(
        self,
        fleet: Fleet,
        permits: Permits,
        budget: Budget,
        now: float,
        own: Callable[[str], tuple[Limit, ...]] = lambda _wave: (),
    ) -> None:
        self._fleet = fleet
        self._permits = permits
        self._budget = budget
        self._limits_of = own
        self._now = now
        self._of_waves: dict[str, Room] = {}

    def boots(self, request: Request) -> bool:
        """Whether what is asked for reboots the node."""
        return request.purpose is Purpose.CYCLE and self._budget.boot.is_about(request.recipe)

    def refusal(self, permit: Permit, *, is_out: bool) -> str:
        """Why this permit cannot be given now; empty when it can. One that ``is_out`` already takes nothing away."""
        node = permit.node
        if not is_out:
            for room in (self.site, self.of_wave(permit.wave)):
                if why := room.refusal(node):
                    return why
            if permit.purpose is Purpose.HEALTH and (why := self.health.refusal(node)):
                return why
        return self.berths.refusal(node) if permit.boots and self._budget.boot.binds else ""

    def lacks_berth(self, permit: Permit) -> bool:
        """Whether a node that asks once more has booted since its grant: not for its cycle, whose reboot is to come."""
        return permit.boots and self._budget.boot.binds and not self.berths.has(permit.node)

    def take(self, permit: Permit) -> None:
        """Count the node as out from here on."""
        for room in (self.site, *self._of_waves.values()):
            room.take(permit.node, "permit")
        if permit.purpose is Purpose.HEALTH:
            self.health.take(permit.node, "permit")
        if permit.boots and self._budget.boot.binds:
            self.berths.take(permit.node)

    def give_back(self, permit: Permit) -> None:
        """This permit is over; its node may be out all the same."""
        cause = self._fleet.outages.get(permit.node)
        for room in (self.site, *self._of_waves.values()):
            room.give_back(permit.node)
            if cause:
                room.take(permit.node, cause)
        if not cause:
            self.health.give_back(permit.node)
        if permit.boots and self._budget.boot.binds:
            self.berths.give_back(permit.node)

    @cached_property
    def site(self) -> Room:
        """The budget: how many may be out, for whatever cause."""
        return Room(self._budget.limits, out(self._fleet, self._permits), self._fleet.serving)

    @cached_property
    def health(self) -> Room:
        """How many may be drained by checks."""
        drained = _drained_by_checks(self._fleet, self._permits) if self._budget.health else {}
        return Room(self._budget.health, drained, self._fleet.serving, "drained by checks")

    @cached_property
    def berths(self) -> Berths:
        """How many may boot."""
        rule = self._budget.boot
        return Berths(
            rule, self._budget.groups, boots.booting(self._fleet, self._permits, rule, self._now), self._fleet
        )

    def of_wave(self, wave: str) -> Room:
        """What a wave lets out at once."""
        if wave not in self._of_waves:
            limits = self._limits_of(wave) if wave else ()
            self._of_waves[wave] = Room(limits, out(self._fleet, self._permits) if limits else {}, self._fleet.serving)
        return self._of_waves[wave]


def _drained_by_checks(fleet: Fleet, permits: Permits) -> dict[str, str]:
    unasked = {name: why for name, why in fleet.outages.items() if _is_health_drain(fleet.node(name), fleet.dialect)}
    return unasked | {name: "permit" for name, permit in permits.items() if permit.purpose is Purpose.HEALTH}


def _is_health_drain(node: Node, dialect: Dialect) -> bool:
    view = node.slurm
    return view is not None and "DRAIN" in view.flags and isinstance(reasons.parse(view.reason, dialect), Health)
