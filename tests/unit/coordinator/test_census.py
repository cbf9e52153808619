# SPDX-License-Identifier: Apache-2.0
"""The census that follows from the one before is the census that a count from the beginning would make."""

from hypothesis import given, settings
from hypothesis import strategies as st

from refloat_contract.words import Turn
from refloat_coordinator.waves import census
from refloat_coordinator.waves.member import Member

PLACES = st.integers(0, 11)
MOVES = st.lists(st.dictionaries(PLACES, st.tuples(st.sampled_from(list(Turn)), st.booleans()), max_size=6), max_size=8)


@settings(deadline=None)
@given(MOVES)
def test_it_is_what_a_count_from_the_beginning_would_be(moves: list[dict[int, tuple[Turn, bool]]]) -> None:
    members = tuple(Member(node=f"n{number}") for number in range(12))
    for step in moves:
        changed = [members[at].but(turn=turn, left_out=left_out) for at, (turn, left_out) in step.items()]
        before = list(members)
        members = census.changed(members, changed)

        assert list(members) == [{m.node: m for m in changed}.get(m.node, m) for m in before]
        found = census.of(members)
        assert found.members is members
        for turn in Turn:
            assert found.with_turn(turn) == tuple(m for m in members if m.turn is turn)
        two = (Turn.HELD, Turn.MARKED)
        assert found.with_turn(*two) == tuple(m for m in members if m.turn in two)
        assert found.by_turn.keys() == {m.turn for m in members}
        assert found.nodes == {m.node for m in members if not m.left_out}
        assert [members[found.places[m.node]] for m in members] == list(members)


def test_the_set_of_nodes_stays_the_same_object_while_nobody_is_taken_out() -> None:
    members = tuple(Member(node=f"n{number}") for number in range(3))
    moved = census.changed(members, [members[1].but(turn=Turn.MARKED)])

    assert census.of(moved).nodes is census.of(members).nodes
