# SPDX-License-Identifier: Apache-2.0
import random

import pytest

from refloat_contract.errors import Transient
from refloat_coordinator.operators.tickets import LIFE_S, MOST, MOST_OF_ONE, Tickets

ALICE, BOB = "refloat-operator-alice", "refloat-operator-bob"


@pytest.fixture
def tickets() -> Tickets:
    given = Tickets()
    given.give("t", ALICE, "r", 0.0)
    return given


def test_a_ticket_lets_its_request_act_once_and_then_tells_what_came_of_it(tickets: Tickets) -> None:
    assert tickets.use("t", ALICE, "r", 1.0) is None
    with pytest.raises(Transient, match="is being carried out"):
        tickets.use("t", ALICE, "r", 2.0)
    tickets.keep("t", "done", 500.0)

    assert tickets.use("t", ALICE, "r", 500.0 + LIFE_S - 1) == "done"
    with pytest.raises(Transient, match="too old"):
        tickets.use("t", ALICE, "r", 500.0 + LIFE_S)


def test_a_request_has_one_ticket_however_often_it_asks_for_one(tickets: Tickets) -> None:
    assert tickets.give("u", ALICE, "r", 1.0) == "t"
    assert tickets.give("u", BOB, "r", 1.0) == "u"
    assert tickets.use("t", ALICE, "r", 1.0) is None
    assert tickets.give("v", ALICE, "r", 2.0) == "t"


@pytest.mark.parametrize(
    ("name", "operator", "request_id", "now"),
    [
        ("t", BOB, "r", 1.0),
        ("t", ALICE, "q", 1.0),
        ("u", ALICE, "r", 1.0),
        ("", ALICE, "r", 1.0),
        ("t", ALICE, "r", LIFE_S),
    ],
)
def test_no_other_request_and_no_late_one_acts_by_it(
    tickets: Tickets, name: str, operator: str, request_id: str, now: float
) -> None:
    with pytest.raises(Transient, match="nothing was done now"):
        tickets.use(name, operator, request_id, now)


def test_another_life_knows_no_ticket() -> None:
    with pytest.raises(Transient, match="has ended since"):
        Tickets().use("t", ALICE, "r", 1.0)


def test_memory_is_bounded_and_one_operator_does_not_use_up_all_of_it(tickets: Tickets) -> None:
    for number in range(1000):
        tickets.give(f"b{number}", BOB, f"r{number}", 1.0)
    assert len(tickets) == MOST_OF_ONE + 1
    assert tickets.use("t", ALICE, "r", 1.0) is None
    for number in range(1000):
        tickets.give(f"x{number}", f"refloat-operator-x{number}", "r", 1.0)
    assert len(tickets) == MOST


@pytest.mark.parametrize("seed", range(20))
def test_in_any_order_of_repeats_losses_and_restarts_nothing_acts_twice(seed: int) -> None:
    dice, tickets, now = random.Random(seed), Tickets(), 0.0  # noqa: S311 - the same each time
    acted: list[str] = []
    given: list[tuple[str, str, str]] = []
    for number in range(400):
        now += dice.choice((0.0, 0.1, 5.0, 30.0))
        match dice.choice(("give", "use", "use", "use", "keep", "restart")):
            case "give":
                operator, request = f"o{dice.randrange(4)}", f"r{number // 8}"
                given.append((tickets.give(f"t{number}", operator, request, now), operator, request))
            case "keep" if acted:
                tickets.keep(dice.choice(acted), "done", now)
            case "restart" if not dice.randrange(10):
                tickets = Tickets()
            case _ if given:
                ticket, operator, request = dice.choice(given[-12:])
                try:
                    if tickets.use(ticket, operator, request, now) is None:
                        acted.append(ticket)
                except Transient:
                    continue

    assert acted
    assert len(acted) == len(set(acted))
