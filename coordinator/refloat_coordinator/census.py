# SPDX-License-Identifier: Apache-2.0
"""The members of a wave by what they are at, worked out once for each set of them; pure but for that memory."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

from refloat_contract.words import Turn

if TYPE_CHECKING:
    from refloat_coordinator.wave import Member

_KEPT: Final = 8


class Census:
    """Members by turn, each turn's in the order of the wave."""

    def __init__(self, members: "tuple[Member, ...]") -> None:
        self.members = members
        sorted_in: dict[Turn, list[Member]] = {}
        for member in members:
            sorted_in.setdefault(member.turn, []).append(member)
        self.by_turn: Mapping[Turn, tuple[Member, ...]] = {turn: tuple(found) for turn, found in sorted_in.items()}

    @cached_property
    def nodes(self) -> frozenset[str]:
        """The nodes that nobody took out of the wave."""
        return frozenset(m.node for m in self.members if not m.left_out)

    def with_turn(self, *turns: Turn) -> "tuple[Member, ...]":
        """The members with one of these turns."""
        found = [self.by_turn[turn] for turn in dict.fromkeys(turns) if turn in self.by_turn]
        if len(found) == 1:
            return found[0]
        return tuple(m for m in self.members if m.turn in turns) if found else ()


_taken: Final[dict[int, Census]] = {}
"""The latest, by the identity of the members, who live as long as they stand here."""


def of(members: "tuple[Member, ...]") -> Census:
    """The census of these members."""
    found = _taken.get(id(members))
    if found is None:
        while len(_taken) >= _KEPT:
            del _taken[next(iter(_taken))]
        found = _taken[id(members)] = Census(members)
    return found
