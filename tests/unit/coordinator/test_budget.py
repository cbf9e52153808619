# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_coordinator.permits.budget import Amount, Limit, Room, parse_amount


@pytest.mark.parametrize(
    ("given", "total", "expected"),
    [(2, 100, 2), ("2", 100, 2), ("5%", 100, 5), ("5%", 39, 1), ("5%", 5, 1), (" 50 % ", 9, 4), (0, 9, 0)],
)
def test_a_percentage_is_rounded_down_but_to_no_less_than_one(given: int | str, total: int, expected: int) -> None:
    assert parse_amount(given).of(total) == expected


@pytest.mark.parametrize("given", ["", "x", "-1", "0%", "101%", "1.5", "5%%", "٣"])
def test_what_is_no_amount_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"neither a number|must lie between"):
        parse_amount(given)


def test_a_refusal_names_the_one_limit_and_who_uses_it_up() -> None:
    rack = Limit("group r3", Amount(2), frozenset({"n7", "n8", "n9"}))
    room = Room([rack], {"n7": "permit", "n9": "down: Not responding", "n1": "down"}, {"n1", "n7", "n8", "n9"})

    assert room.refusal("n8") == "budget group r3: 2 of 2 out: n7 (permit), n9 (down: Not responding)"


def test_nodes_that_cannot_serve_are_no_part_of_a_percentage_and_count_for_nobody() -> None:
    rack = Limit("rack r1", Amount(50, percent=True), frozenset({"n1", "n2", "n3", "gone", "off"}))
    room = Room([rack], {"gone": "unknown to Slurm", "n1": "down"}, {"n1", "n2", "n3"})

    assert room.refusal("n2") == "budget rack r1: 1 of 1 out: n1 (down)"


def test_what_is_given_back_can_be_taken_again() -> None:
    room = Room([Limit("cluster", Amount(1))], {"n1": "permit"}, {"n1", "n2"})
    before = room.refusal("n2")
    room.give_back("n1")
    room.give_back("n1")
    after = room.refusal("n2")
    room.take("n2", "permit")

    assert (before, after) == ("budget cluster: 1 of 1 out: n1 (permit)", "")
    assert [(limit.name, allowed, dict(out)) for limit, allowed, out in room.uses] == [("cluster", 1, {"n2": "permit"})]


def test_a_node_never_counts_against_itself_and_only_limits_that_cover_it_bind() -> None:
    rack = Limit("group r3", Amount(1), frozenset({"n7", "n8"}))
    room = Room([rack], {"n7": "permit"}, {"n7", "n8", "n9"})

    assert room.refusal("n7") == ""
    assert room.refusal("n9") == ""
    assert room.refusal("n8") != ""


def test_the_cluster_limit_is_about_the_nodes_that_slurm_knows() -> None:
    room = Room([Limit("cluster", Amount(50, percent=True))], {"gone": "unknown to Slurm"}, {"n1", "n2"})

    assert room.refusal("n1") == ""
    room.take("n1", "marked")
    assert room.refusal("n2") == "budget cluster: 1 of 1 out: n1 (marked)"


def test_many_nodes_are_counted_and_not_all_named() -> None:
    out = {f"n{i}": "permit" for i in range(5)}
    room = Room([Limit("cluster", Amount(5))], out, {*out, "n9"})

    assert room.refusal("n9").endswith("n2 (permit), and 2 more")
