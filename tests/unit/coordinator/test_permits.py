# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.coordinator.world import T0, cycle, event, fleet_of, idle_fleet, request, status, view, will

from refloat_contract.messages import Event, NodeStatus, Request
from refloat_contract.words import EventKind, Phase, Purpose, Verdict
from refloat_coordinator import fleet as fleets
from refloat_coordinator.fleet import Fleet, Heard, Read, Unread
from refloat_coordinator.permits import grants as rules
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.grants import Denial, Grant
from refloat_coordinator.permits.permit import Permit
from refloat_coordinator.permits.rooms import Rooms
from refloat_coordinator.permits.rules import Budget

ONE = (Limit("cluster", Amount(1)),)
TWO = (Limit("cluster", Amount(2)),)
DRAINED = view(state="DOWN+DRAIN", reason="rebooting refloat=c1")


def decide(
    fleet: Fleet, limits: tuple[Limit, ...], permits: dict[str, Permit], request: Request, now: float
) -> Grant | Denial:
    return rules.decide(fleet, Rooms(fleet, permits, Budget(limits), now), permits, request, now)


def granted(fleet: Fleet, node: str = "n1", purpose: Purpose = Purpose.CYCLE) -> Permit:
    answer = decide(fleet, TWO, {}, request(node, purpose=purpose), T0)
    assert isinstance(answer, Grant)
    return answer.permit


def test_who_holds_a_permit_and_asks_again_gets_the_same() -> None:
    fleet = idle_fleet("n1")
    permit = granted(fleet)
    again = decide(fleet, ONE, {"n1": permit}, request(request_id="r2"), T0 + 60)

    assert again == Grant(permit, is_new=False)


def test_the_same_permit_is_granted_again_even_while_slurm_is_silent() -> None:
    permit = granted(idle_fleet("n1"))
    silent = fleets.fold(idle_fleet("n1"), [Unread("no answer")], T0)

    assert isinstance(decide(silent, ONE, {"n1": permit}, request(), T0), Grant)
    assert decide(silent, ONE, {}, request(), T0) == Denial("Slurm does not answer: no answer")


def test_a_denial_names_the_budget_and_who_is_out() -> None:
    fleet = fleet_of(view("n1"), view("n2"), view("n3", "DOWN+NOT_RESPONDING", "Not responding"))
    answer = decide(fleet, TWO, {"n2": granted(idle_fleet("n2"), "n2")}, request(), T0)

    assert answer == Denial("budget cluster: 2 of 2 out: n2 (permit), n3 (down: Not responding)")


def test_five_hundred_nodes_drained_by_hand_do_not_block_each_other() -> None:
    names = [f"n{i}" for i in range(500)]
    fleet = fleet_of(*(view(name, "IDLE+DRAIN", "reboot") for name in names))
    permits: dict[str, Permit] = {}
    for name in names:
        answer = decide(fleet, TWO, permits, request(name), T0)
        if isinstance(answer, Grant):
            permits[name] = answer.permit

    assert list(permits) == ["n0", "n1"]


def test_a_node_that_is_down_already_may_be_repaired_whatever_the_budget_says() -> None:
    fleet = fleet_of(view("n1", "DOWN+DRAIN", "reboot"), view("n2", "DOWN"), view("n3", "DOWN"))

    assert isinstance(decide(fleet, ONE, {}, request(), T0), Grant)


def test_a_node_that_is_merely_silent_asks_like_any_other() -> None:
    # Right after slurmctld has restarted every node looks like that.
    fleet = fleet_of(view("n1", "UNKNOWN+DRAIN", "reboot"), view("n2", "UNKNOWN+DRAIN", "reboot"))

    assert isinstance(decide(fleet, ONE, {}, request(), T0), Denial)


def test_a_health_drain_asks_for_the_same_budget() -> None:
    permits = {"n2": granted(idle_fleet("n2"), "n2")}
    answer = decide(idle_fleet("n1", "n2"), ONE, permits, request(purpose=Purpose.HEALTH), T0)

    assert isinstance(answer, Denial)


@pytest.mark.parametrize("fleet", [Fleet(slurm_why=""), fleet_of(view(known=False))])
def test_a_node_that_slurm_does_not_know_gets_none(fleet: Fleet) -> None:
    assert isinstance(decide(fleet, ONE, {}, request(), T0), Denial)


@pytest.mark.parametrize(
    ("asked", "said", "granted"),
    [
        (request("n1").model_copy(update={"at": 5.0}), status(at=6.0), False),
        (request("n1").model_copy(update={"at": 5.0}), status(at=4.0), True),
        (request("n1"), status(at=6.0), True),  # of an agent that does not tell the time
        (request("n1").model_copy(update={"at": 5.0}), status(at=6.0, phase=Phase.DRAINING, now=cycle()), True),
        (request("n1", purpose=Purpose.HEALTH).model_copy(update={"at": 5.0}), status(at=6.0), False),
        (
            request("n1", purpose=Purpose.HEALTH).model_copy(update={"at": 5.0}),
            status(at=6.0, verdict=Verdict.UNHEALTHY),
            True,
        ),
    ],
)
def test_a_request_that_a_later_report_has_overtaken_gets_nothing(
    asked: Request,
    said: NodeStatus,
    granted: bool,  # noqa: FBT001
) -> None:
    answer = decide(fleet_of(view(), said), ONE, {}, asked, T0)

    assert isinstance(answer, Grant) is granted


def test_a_request_from_before_does_not_take_the_place_of_a_permit() -> None:
    fleet = fleet_of(DRAINED, status(at=1.0, phase=Phase.DRAINING, now=cycle()))
    first = decide(fleet, ONE, {}, request().model_copy(update={"at": 3.0}), T0)
    assert isinstance(first, Grant)
    old = request(cycle_id="h0", purpose=Purpose.HEALTH).model_copy(update={"at": 2.0})
    new = request(cycle_id="c2").model_copy(update={"at": 4.0})

    assert decide(fleet, ONE, {"n1": first.permit}, old, T0) == Denial("its agent has asked for c1 since")
    assert isinstance(decide(fleet, ONE, {"n1": first.permit}, new, T0), Grant)


def test_a_report_from_before_the_request_ends_nothing_however_late_it_comes() -> None:
    before = fleet_of(DRAINED, status(at=1.0))
    answer = decide(before, ONE, {}, request().model_copy(update={"at": 3.0}), T0)
    assert isinstance(answer, Grant)
    late = fleets.fold(before, [Heard(status(at=2.0))], T0 + 1)
    over = fleets.fold(before, [Heard(status(at=4.0))], T0 + 1)

    assert rules.ended(late, {"n1": answer.permit}) == {}
    assert rules.ended(over, {"n1": answer.permit}) == {"n1": "the agent reports no cycle"}


def test_a_late_release_for_another_cycle_ends_nothing() -> None:
    permit = granted(idle_fleet("n1"))

    assert rules.is_released(permit, request())
    assert not rules.is_released(permit, request(cycle_id="c0"))
    assert not rules.is_released(None, request())


@pytest.mark.parametrize(
    ("facts", "ends"),
    [
        ([Heard(status(at=1.0))], False),  # the report from before, delivered again
        ([Heard(status(at=2.0))], True),
        ([Heard(status(at=2.0, phase=Phase.REBOOTING, now=cycle()))], False),
        ([Heard(status(at=2.0, phase=Phase.HELD, now=cycle()))], False),
        ([Heard(status(at=2.0, phase=Phase.DRAINING, now=cycle("c2")))], True),
        ([Heard(will())], False),  # a dead node is out all the same
        ([Heard(status(at=2.0)), Heard(will())], False),
        ([Read(T0 + 1, (view(),))], True),
        ([Read(T0 - 1, (view(),))], False),  # read before the grant
        ([Read(T0 + 1, (view(state="IDLE+NOT_RESPONDING"),))], False),
        ([Read(T0 + 1, (view(known=False),))], True),
    ],
)
def test_when_a_permit_ends(facts: list[fleets.Fact], ends: bool) -> None:  # noqa: FBT001
    before = fleet_of(DRAINED, status(at=1.0), now=T0 - 5)
    permit = granted(before)
    after = fleets.fold(before, facts, T0 + 1)

    assert bool(rules.ended(after, {"n1": permit})) is ends


@pytest.mark.parametrize(
    ("facts", "ends"),
    [
        ([Read(T0 + 1, (view(),)), Heard(status(at=2.0, verdict=Verdict.UNHEALTHY))], False),  # about to drain
        ([Read(T0 + 1, (view(state="IDLE+DRAIN", reason="refloat: x"),)), Heard(status(at=2.0))], False),
        ([Read(T0 + 1, (view(),)), Heard(status(at=2.0))], True),
        ([Read(T0 + 1, (view(),)), Heard(status(at=1.0))], False),
        ([Heard(will()), Read(T0 + 3600, (view(),))], False),
        ([Heard(will()), Read(T0 + 3602, (view(),))], True),  # its agent is gone, and the node serves
        ([Heard(will()), Read(T0 + 3602, (view(state="DOWN+NOT_RESPONDING"),))], False),
    ],
)
def test_when_a_health_permit_ends(facts: list[fleets.Fact], ends: bool) -> None:  # noqa: FBT001
    before = fleet_of(view(), status(at=1.0, verdict=Verdict.UNHEALTHY), now=T0 - 5)
    permit = granted(before, purpose=Purpose.HEALTH)
    after = fleets.fold(before, facts, T0 + 1)

    assert bool(rules.ended(after, {"n1": permit})) is ends


NAMES = tuple(f"n{i}" for i in range(6))
STATES_BY_NAME = {
    "free": ("IDLE", ""),
    "triggered": ("IDLE+DRAIN", "reboot"),
    "foreign": ("IDLE+DRAIN", "bad DIMM"),
    "silent": ("DOWN+NOT_RESPONDING", "Not responding"),
    "down": ("DOWN", "bad DIMM"),
}
STEPS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(NAMES), st.sampled_from(["c1", "c2"])),
    st.tuples(st.just("read"), st.sampled_from(NAMES), st.sampled_from(sorted(STATES_BY_NAME))),
    st.tuples(st.just("report"), st.sampled_from(NAMES), st.sampled_from(["none", "c1", "c2", "will"])),
    st.tuples(st.just("release"), st.sampled_from(NAMES), st.sampled_from(["c1", "c2"])),
    st.tuples(st.just("restart"), st.just(""), st.just("")),
)
RACK = frozenset({"n0", "n1", "n2"})
LIMITS = (Limit("cluster", Amount(2)), Limit("rack", Amount(1), RACK))


@settings(deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_no_grant_ever_takes_more_out_than_any_limit_allows(steps: list[tuple[str, str, str]]) -> None:
    fleet = fleet_of(*(view(name) for name in NAMES))
    permits: dict[str, Permit] = {}
    for number, (what, node, fact) in enumerate(steps):
        now = T0 + number
        match what:
            case "ask":
                out = set(rules.out(fleet, permits))
                answer = decide(fleet, LIMITS, permits, request(node, fact), now)
                if isinstance(answer, Grant):
                    permits[node] = answer.permit
                    # A node that was out already takes nothing more from anybody.
                    assert node in out or len(out | {node}) <= 2
                    assert node in out or node not in RACK or len((out | {node}) & RACK) <= 1
            case "read":
                fleet = fleets.fold(fleet, [Read(now, (view(node, *STATES_BY_NAME[fact]),))], now)
            case "report":
                info = cycle(fact) if fact in {"c1", "c2"} else None
                said = will(node) if fact == "will" else status(node, at=now, now=info)
                fleet = fleets.fold(fleet, [Heard(said)], now)
            case "release":
                if rules.is_released(permits.get(node), request(node, fact)):
                    del permits[node]
            case "restart":
                permits = {n: Permit.model_validate_json(p.model_dump_json()) for n, p in permits.items()}
        for over in rules.ended(fleet, permits):
            del permits[over]


def _seen(cycle_id: str, check: str = "labd", hours: float = 0.0, kind: EventKind = EventKind.DRAIN_SEEN) -> Event:
    at_ns = int((T0 + hours * 3600) * 1e9)
    return event(f"e{cycle_id}{hours}", kind=kind, cycle_id=cycle_id, at_ns=at_ns).model_copy(update={"check": check})


LOOPED = "labd failed again after 2 cycles; needs a human: refloat cycle cancel n1"


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([_seen("c1"), _seen("c2", hours=1), _seen("c3", hours=2)], LOOPED),
        ([_seen("c2", hours=1), _seen("c2", hours=1.5), _seen("c3", hours=2)], ""),
        ([_seen("c1", "gpu"), _seen("c2", hours=1), _seen("c3", hours=2)], ""),
        ([_seen("c1"), _seen("c2", hours=20), _seen("c3", hours=25)], ""),
        ([_seen("c1"), _seen("c2", hours=1), _seen("c2", "", 2, EventKind.RELEASED), _seen("c3", hours=3)], ""),
        ([], ""),
    ],
)
def test_a_remedy_is_begun_so_often_and_then_a_human_is_asked_for(events: list[Event], why: str) -> None:
    asked = request(cycle_id="c3").model_copy(update={"cause": "labd"})

    assert rules.looped(events, asked, rules.Loops()) == why
