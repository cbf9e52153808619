# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence

import pytest
from unit.coordinator.world import T0, fleet_of, request, view

from refloat_contract.errors import Refused
from refloat_contract.messages import Failure, NodeReport, Request
from refloat_contract.words import EventKind, Phase, Purpose, Verdict
from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.permits import breaker as rules
from refloat_coordinator.permits.breaker import Breaker, Incident, Trip
from refloat_coordinator.permits.permit import Permit

NAMES = [f"n{i}" for i in range(40)]
FLEET = fleet_of(*(view(name) for name in NAMES))
TRIP = Trip(percent=10, nodes=5, window_s=600.0, clear_s=300.0)


def node(name: str, *failing: str) -> Node:
    report = NodeReport(
        at=1.0,
        boot_id="b",
        phase=Phase.IN_SERVICE,
        since=1.0,
        verdict=Verdict.UNHEALTHY if failing else Verdict.HEALTHY,
        failing=tuple(Failure(check=check, message="x") for check in failing),
    )
    return Node(name, online=True, since=T0, report=report)


def fail(
    breaker: Breaker, names: Sequence[str], at: float = T0, check: str = "lustre", out: Sequence[str] = ()
) -> Breaker:
    return rules.heard(breaker, [node(name, check) for name in names], [], out, at)


def mend(breaker: Breaker, names: Sequence[str], at: float) -> Breaker:
    return rules.heard(breaker, [node(name) for name in names], [], (), at)


def judge(breaker: Breaker, at: float = T0, fleet: Fleet = FLEET) -> tuple[Breaker, tuple[Incident, ...]]:
    return rules.judged(breaker, fleet, {}, at)


def opened() -> Breaker:
    return judge(fail(Breaker(TRIP), NAMES[:8]))[0]


def health(name: str = "n1", cause: str = "lustre") -> Request:
    return request(name, "h1", purpose=Purpose.HEALTH).model_copy(update={"cause": cause})


@pytest.mark.parametrize(
    ("serving", "trip", "count"),
    [(40, TRIP, 5), (100, TRIP, 11), (1500, TRIP, 151), (40, Trip(percent=1, nodes=1), 1), (10, Trip(nodes=3), 3)],
)
def test_so_many_nodes_open_an_incident(serving: int, trip: Trip, count: int) -> None:
    assert trip.count(serving) == count


def test_one_check_that_begins_to_fail_on_many_nodes_is_one_incident() -> None:
    few, none = judge(fail(Breaker(TRIP), NAMES[:4]))
    many, (incident,) = judge(fail(few, NAMES[4:5], T0 + 60), T0 + 60)

    assert none == ()
    assert (incident.id, incident.check, incident.of, incident.is_open) == ("b1", "lustre", 40, True)
    assert incident.nodes == tuple(NAMES[:5])
    assert judge(many, T0 + 61)[1] == ()


def test_different_checks_and_slow_failures_are_none() -> None:
    slow = Breaker(TRIP)
    for number, name in enumerate(NAMES[:12]):
        slow, moved = judge(fail(slow, [name], T0 + number * 200), T0 + number * 200)
        assert moved == ()
    mixed = fail(fail(Breaker(TRIP), NAMES[:4]), NAMES[4:8], check="gpu")

    assert judge(mixed)[1] == ()


def test_nodes_that_were_out_before_do_not_count() -> None:
    breaker = fail(Breaker(TRIP), NAMES[:8], out=NAMES[:4])

    assert judge(breaker)[1] == ()
    assert judge(fail(breaker, NAMES[8:9]))[1] != ()


def test_a_request_tells_of_a_failure_before_the_report_does() -> None:
    asked = [(health(name).model_copy(update={"at": 2.0}), Node(name)) for name in NAMES[:4]]
    late = [(health(name).model_copy(update={"at": 0.5}), node(name)) for name in NAMES[4:]]
    few = rules.heard(Breaker(TRIP), [], asked + late, (), T0)
    many = rules.heard(few, [], [(health("n9").model_copy(update={"at": 2.0}), node("n9"))], (), T0)

    assert judge(few)[1] == ()
    assert judge(many)[1] != ()


def test_no_incident_is_opened_by_nodes_that_slurm_does_not_know_nor_while_it_is_silent() -> None:
    strange = fail(Breaker(TRIP), [f"x{i}" for i in range(8)])
    silent = rules.judged(fail(Breaker(TRIP), NAMES[:8]), Fleet(), {}, T0)

    assert judge(strange)[1] == silent[1] == ()


def test_while_it_is_open_nothing_is_drained_for_its_check_alone() -> None:
    breaker = opened()

    assert "incident b1: lustre began to fail on 8 of 40 nodes at once" in rules.objection(
        breaker, health(), node("n1", "lustre")
    )
    assert rules.objection(breaker, health(), Node("n1"))  # by the request's word: the report is not here yet
    assert not rules.objection(breaker, health(), node("n1", "lustre", "gpu"))  # a fault of its own
    assert not rules.objection(breaker, health(cause=""), Node("n1"))
    assert not rules.objection(Breaker(TRIP), health(), node("n1", "lustre"))


def test_a_remedy_waits_too_and_what_somebody_asked_for_does_not() -> None:
    remedy = request("n1").model_copy(update={"cause": "lustre"})

    assert rules.objection(opened(), remedy, node("n1", "lustre"))
    assert not rules.objection(opened(), request("n1"), node("n1", "lustre"))


def test_it_clears_when_the_check_has_failed_on_few_nodes_for_a_while() -> None:
    breaker = mend(opened(), NAMES[:5], T0 + 100)  # three of a limit of five are left: not fewer than half
    breaker, none = judge(breaker, T0 + 1000)
    breaker, first = judge(mend(breaker, NAMES[5:6], T0 + 1000), T0 + 1000)
    again, _ = judge(fail(breaker, NAMES[:1], T0 + 1200), T0 + 1200)
    once_more, second = judge(mend(again, NAMES[:1], T0 + 1210), T0 + 1210)
    early, third = judge(once_more, T0 + 1500)
    _, (last,) = judge(early, T0 + 1510)

    assert none == first == second == third == ()
    assert (last.closed_by, last.closed_at, last.is_open) == (rules.CLEARED, T0 + 1510, False)


def test_nodes_that_somebody_drained_no_longer_keep_it_open() -> None:
    drained = fleet_of(*(view(n) for n in NAMES[8:]), *(view(n, "IDLE+DRAIN", "outage of scratch") for n in NAMES[:8]))
    breaker, _ = judge(opened(), T0 + 1, drained)
    _, (last,) = judge(breaker, T0 + 301, drained)

    assert not last.is_open


def test_nodes_with_a_permit_no_longer_keep_it_open() -> None:
    permits = {n: Permit(node=n, cycle="c", purpose=Purpose.HEALTH, granted_at=T0) for n in NAMES[:8]}
    breaker, _ = rules.judged(opened(), FLEET, permits, T0 + 1)
    _, moved = rules.judged(breaker, FLEET, permits, T0 + 301)

    assert [one.closed_by for one in moved] == [rules.CLEARED]


@pytest.mark.parametrize("name", ["b1", "lustre"])
def test_somebody_closes_it_and_only_other_nodes_open_another(name: str) -> None:
    breaker, done = rules.closed(opened(), name, "alice", T0 + 10)

    assert (done.closed_by, done.spared) == ("alice", tuple(NAMES[:8]))
    assert not rules.objection(breaker, health(), node("n1", "lustre"))
    assert judge(breaker, T0 + 11)[1] == ()
    assert judge(fail(breaker, NAMES[8:12], T0 + 12), T0 + 12)[1] == ()
    assert [one.id for one in judge(fail(breaker, NAMES[8:13], T0 + 12), T0 + 12)[1]] == ["b2"]
    with pytest.raises(Refused, match=r"no incident 'b7' is open \(open: none\)"):
        rules.closed(breaker, "b7", "alice", T0 + 11)


@pytest.mark.parametrize("close", [False, True])
def test_a_start_takes_up_what_is_open_and_who_was_spared(close: bool) -> None:  # noqa: FBT001
    before = opened()
    if close:
        before, _ = rules.closed(before, "b1", "alice", T0 + 10)
    kept = [Incident.model_validate_json(one.model_dump_json()) for one in before.incidents.values()]
    after, moved = judge(fail(rules.taken_up(TRIP, kept), NAMES[:8], T0 + 20), T0 + 20)

    assert moved == ()
    assert bool(after.open) is not close
    assert bool(rules.objection(after, health(), node("n1", "lustre"))) is not close


def test_a_breaker_that_is_switched_off_does_nothing() -> None:
    breaker = fail(Breaker(Trip(percent=0)), NAMES)

    assert judge(breaker) == (Breaker(Trip(percent=0)), ())


def test_a_report_that_changes_nothing_costs_no_copy() -> None:
    breaker = opened()

    assert rules.heard(breaker, [node("n1", "lustre"), node("n20")], [], (), T0 + 5) is breaker


def test_what_the_record_is_told() -> None:
    (incident,) = opened().incidents.values()
    after = incident.model_copy(update={"closed_at": T0 + 90, "closed_by": "alice"})
    by_itself = after.model_copy(update={"closed_by": rules.CLEARED})
    first, second, third = (rules.told(one, T0 + 90) for one in (incident, after, by_itself))

    assert (first.kind, second.kind) == (EventKind.INCIDENT_OPENED, EventKind.INCIDENT_CLOSED)
    assert first.id != second.id
    assert first.message.startswith("b1: lustre began to fail on 8 of 40 nodes at once (n[0-7]): nothing is drained")
    assert second.message == "b1: closed by alice after 1m30s: nodes that fail lustre may be drained"
    assert third.message == "b1: lustre fails on few nodes again, after 1m30s"
