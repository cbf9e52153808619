# SPDX-License-Identifier: Apache-2.0
import pytest
from unit.coordinator.world import T0, cycle, fleet_of, idle_fleet, request, status, view, will

from refloat_contract.messages import Request
from refloat_contract.words import Phase, Purpose
from refloat_coordinator import fleet as fleets
from refloat_coordinator.fleet import Fact, Fleet, Heard, Read
from refloat_coordinator.permits import boots
from refloat_coordinator.permits import grants as rules
from refloat_coordinator.permits.boots import BootRule
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.grants import Denial, Grant
from refloat_coordinator.permits.groups import Groups
from refloat_coordinator.permits.permit import Permit
from refloat_coordinator.permits.rooms import Rooms
from refloat_coordinator.permits.rules import Budget

GROUPS = Groups(
    {
        "server": {"s1": frozenset({"n1", "n2", "n3"}), "s2": frozenset({"n4", "n5"})},
        "rack": {"r1": frozenset({"n1", "n2"}), "r2": frozenset({"n3", "n4", "n5"})},
    }
)
NAMES = ("n1", "n2", "n3", "n4", "n5", "n6")
REBOOTING = "rebooting refloat=c1"


def ask(node: str, recipe: str = "reboot") -> Request:
    return request(node, "c1").model_copy(update={"recipe": recipe})


def answers(rule: BootRule, *requests: Request, fleet: Fleet | None = None) -> list[str]:
    """What each is told; empty for a grant."""
    fleet = fleet or idle_fleet(*NAMES)
    permits: dict[str, Permit] = {}
    rooms = Rooms(fleet, permits, Budget(boot=rule, groups=GROUPS), T0)
    said = []
    for one in requests:
        answer = rules.decide(fleet, rooms, permits, one, T0)
        if isinstance(answer, Grant):
            permits[one.node] = answer.permit
            rooms.take(answer.permit)
        said.append(answer.why if isinstance(answer, Denial) else "")
    return said


def test_so_many_boot_at_once_from_each_server() -> None:
    rule = BootRule(at_once=Amount(2), per="server")

    assert answers(rule, *(ask(name) for name in NAMES)) == [
        "",
        "",
        "budget boot s1: 2 of 2 booting: n1 (just granted), n2 (just granted)",
        "",
        "",
        "",  # of no server: nothing is known that it could overload
    ]


def test_without_a_kind_of_group_the_limit_is_the_clusters() -> None:
    rule = BootRule(at_once=Amount(1))

    assert answers(rule, ask("n1"), ask("n4")) == ["", "budget boot: 1 of 1 booting: n1 (just granted)"]


def test_one_rack_boots_at_a_time_from_each_server() -> None:
    rule = BootRule(per="server", one_at_a_time="rack")

    assert answers(rule, ask("n1"), ask("n2"), ask("n3"), ask("n4")) == [
        "",
        "",
        "one rack boots at a time: rack r1 is booting (2 nodes)",
        "",
    ]


def test_recipes_that_do_not_reboot_do_not_count() -> None:
    rule = BootRule(at_once=Amount(1))

    assert answers(rule, ask("n1", "reconfigure"), ask("n2"), ask("n3", "reconfigure")) == ["", "", ""]


def test_a_node_that_is_down_boots_like_any_other() -> None:
    fleet = fleet_of(view("n1", "DOWN+DRAIN", "reboot"), view("n2", "DOWN+DRAIN", "reboot"))
    rule = BootRule(at_once=Amount(1))

    assert answers(rule, ask("n1"), ask("n2"), fleet=fleet)[1].startswith("budget boot: 1 of 1 booting")


def test_a_permit_that_is_given_back_frees_its_berth() -> None:
    fleet = idle_fleet(*NAMES)
    rule = BootRule(at_once=Amount(1), per="server", one_at_a_time="rack")
    rooms = Rooms(fleet, {}, Budget(boot=rule, groups=GROUPS), T0)
    first = rules.decide(fleet, rooms, {}, ask("n1"), T0)
    assert isinstance(first, Grant)
    rooms.take(first.permit)
    between = rules.decide(fleet, rooms, {}, ask("n3"), T0)
    rooms.give_back(first.permit)

    assert isinstance(between, Denial)
    assert isinstance(rules.decide(fleet, rooms, {}, ask("n3"), T0), Grant)


DRAINED = view(state="DOWN+DRAIN", reason=REBOOTING, boot_time=1000)


@pytest.mark.parametrize(
    ("facts", "later_s", "boots_still"),
    [
        ([], 5, True),
        ([Heard(status(at=2.0, phase=Phase.REBOOTING, now=cycle()))], 5, True),
        ([Heard(will())], 1800, True),
        ([Heard(will())], 1801, False),  # lost: it is out, and loads no boot server
        ([Heard(status(at=2.0, phase=Phase.CHECKING, now=cycle(), boot_id="boot-b"))], 5, False),
        ([Read(T0 + 1, (view(state="DOWN+DRAIN", reason=REBOOTING, boot_time=1090),))], 5, False),
        ([Read(T0 + 1, (view(state="DOWN+DRAIN", reason=REBOOTING, boot_time=1002),))], 5, True),  # the same boot
        ([Read(T0 + 1, (view(state="DOWN+DRAIN+NOT_RESPONDING", reason=REBOOTING, boot_time=0),))], 5, True),
        ([Heard(status(at=2.0, phase=Phase.HELD, now=cycle()))], 5, False),  # waits for a human
        ([Heard(status(at=1.0, phase=Phase.HELD, now=cycle()))], 5, True),  # the report from before
    ],
)
def test_until_when_a_node_boots(facts: list[Fact], later_s: float, boots_still: bool) -> None:  # noqa: FBT001
    before = fleet_of(DRAINED, status(at=1.0))
    permit = rules.decide(before, Rooms(before, {}, Budget(), T0), {}, ask("n1"), T0)
    assert isinstance(permit, Grant)
    after = fleets.fold(before, facts, T0)

    assert bool(boots.booting(after, {"n1": permit.permit}, BootRule(), T0 + later_s)) is boots_still


def test_nodes_that_boot_without_a_permit_count_too() -> None:
    fleet = fleet_of(
        view("n1", "IDLE+POWERING_UP+NOT_RESPONDING"),
        view("n2", "DOWN+DRAIN+REBOOT_ISSUED", "R : reboot issued"),
        view("n3", "DOWN+DRAIN", REBOOTING),
        status("n3", Phase.REBOOTING),
        will("n3"),
        view("n4", "DOWN"),
    )

    assert boots.booting(fleet, {}, BootRule(), T0 + 1) == dict.fromkeys(("n1", "n2", "n3"), "boots without a permit")


def test_drains_by_checks_have_a_limit_of_their_own() -> None:
    fleet = fleet_of(
        view("n1"), view("n2"), view("n3", "IDLE+DRAIN", "refloat: mount: /x is gone"), view("n4", "IDLE+DRAIN", "DIMM")
    )
    budget = Budget(health=(Limit("health_drain", Amount(2)),))
    permits: dict[str, Permit] = {}
    rooms = Rooms(fleet, permits, budget, T0)
    first = rules.decide(fleet, rooms, permits, request("n1", "h", purpose=Purpose.HEALTH), T0)
    assert isinstance(first, Grant)
    rooms.take(first.permit)
    second = rules.decide(fleet, rooms, permits, request("n2", "h", purpose=Purpose.HEALTH), T0)

    assert isinstance(second, Denial)
    assert second.why == (
        "budget health_drain: 2 of 2 drained by checks: n1 (permit), n3 (drained: refloat: mount: /x is gone)"
    )
    assert isinstance(rules.decide(fleet, rooms, permits, request("n2"), T0), Grant)
