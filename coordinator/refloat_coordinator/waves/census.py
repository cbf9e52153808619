# SPDX-License-Identifier: Apache-2.0
"""The members of a wave by what they are at, worked out once for each set of them; pure but for that memory.

Of a large wave a few members change at a time: their census follows from the one before, at the cost of these few.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from typing import Final

from refloat_contract.words import Turn
from refloat_coordinator.waves.member import Member

_KEPT: Final = 16


class Census:
    """Members by turn, each turn's in the order of the wave."""

    def __init__(
        self,
        members: tuple[Member, ...],
        by_turn: Mapping[Turn, tuple[Member, ...]],
        places: Mapping[str, int],
        nodes: frozenset[str],
    ) -> None:
        self.members = members
        self.by_turn = by_turn
        self.places = places
        """Where in the wave each node stands."""
        self.nodes = nodes
        """The nodes that nobody took out of the wave."""
        self._with_turns: dict[tuple[Turn, ...], tuple[Member, ...]] = {}

    def with_turn(self, *turns: Turn) -> tuple[Member, ...]:
        """The members with one of these turns."""
        if len(turns) == 1:
            return self.by_turn.get(turns[0], ())
        found = self._with_turns.get(turns)
        if found is None:
            members = [m for turn in dict.fromkeys(turns) for m in self.by_turn.get(turn, ())]
            members.sort(key=self._place)
            found = self._with_turns[turns] = tuple(members)
        return found

    def after(self, moved: Iterable[Member]) -> "Census":
        """The census once these members have taken the places of those of the same nodes."""
        members, left, back = list(self.members), set[str](), set[str]()
        listed: dict[Turn, list[Member]] = {}

        def with_turn(turn: Turn) -> list[Member]:
            if turn not in listed:
                listed[turn] = list(self.by_turn.get(turn, ()))
            return listed[turn]

        for member in moved:
            place = self.places[member.node]
            before, members[place] = members[place], member
            found = with_turn(before.turn)
            at = bisect_left(found, place, key=self._place)
            if member.turn is before.turn:
                found[at] = member
            else:
                del found[at]
                insort(with_turn(member.turn), member, key=self._place)
            if member.left_out is not before.left_out:
                (left if member.left_out else back).add(member.node)
        by_turn = {**self.by_turn, **{turn: tuple(found) for turn, found in listed.items()}}
        nodes = (self.nodes - left) | back if left or back else self.nodes
        return Census(tuple(members), {turn: found for turn, found in by_turn.items() if found}, self.places, nodes)

    def _place(self, member: "Member") -> int:
        return self.places[member.node]


def _anew(members: tuple[Member, ...]) -> Census:
    sorted_in: dict[Turn, list[Member]] = {}
    for member in members:
        sorted_in.setdefault(member.turn, []).append(member)
    return Census(
        members,
        {turn: tuple(found) for turn, found in sorted_in.items()},
        {member.node: place for place, member in enumerate(members)},
        frozenset(member.node for member in members if not member.left_out),
    )


_taken: Final[dict[int, Census]] = {}
"""The latest, by the identity of the members, who live as long as they stand here."""


def of(members: tuple[Member, ...]) -> Census:
    """The census of these members."""
    found = _taken.get(id(members))
    return _keep(_anew(members)) if found is None else found


def changed(members: tuple[Member, ...], moved: Iterable[Member]) -> tuple[Member, ...]:
    """The members, of whom these have changed, in the same order."""
    return _keep(of(members).after(moved)).members


def _keep(census: Census) -> Census:
    _taken[id(census.members)] = census
    # In steps that a thread which plays a plan cannot come between.
    for oldest in list(_taken)[:-_KEPT]:
        _taken.pop(oldest, None)
    return census
