# SPDX-License-Identifier: Apache-2.0
"""How many nodes may be out at once, and what is left of that; pure."""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from heapq import nsmallest
from typing import Final

_MANY: Final = 1000
_NAMED: Final = 3
"""So many nodes are named in a refusal; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of nodes, or a percentage of a set of them."""

    value: int
    percent: bool = False

    def of(self, total: int) -> int:
        """How many nodes of ``total`` that is; a percentage is rounded down, but to no less than one."""
        return max(1, total * self.value // 100) if self.percent else self.value


def parse_amount(given: int | str) -> Amount:
    """Read ``2``, ``"2"`` or ``"5%"``.

    Raises:
        ValueError: it is none of these, or out of range.
    """
    text = str(given).strip()
    number = text.removesuffix("%").strip()
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{given!r} is neither a number of nodes nor a percentage such as '5%'")
    amount = Amount(int(number), percent=text.endswith("%"))
    if amount.percent and not 1 <= amount.value <= 100:  # noqa: PLR2004 - per cent
        raise ValueError(f"{given!r} must lie between 1% and 100%")
    return amount


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``amount`` of ``nodes`` may be out; without ``nodes`` it is about all nodes that could serve."""

    name: str
    amount: Amount
    nodes: frozenset[str] | None = None


@lru_cache(maxsize=64)
def _bound_by(limits: tuple[Limit, ...]) -> Mapping[str, tuple[int, ...]]:
    """Which of these limits name a node, by its name; made once for the groups of a site, not once for a turn."""
    found: dict[str, list[int]] = {}
    for number, limit in enumerate(limits):
        for node in limit.nodes or ():
            found.setdefault(node, []).append(number)
    return {node: tuple(numbers) for node, numbers in found.items()}


def _common(nodes: frozenset[str], serving: AbstractSet[str]) -> int:
    if len(nodes) < _MANY:
        return len(nodes & serving)
    return _common_of_many(nodes, frozenset(serving))


@lru_cache(maxsize=8)
def _common_of_many(nodes: frozenset[str], serving: frozenset[str]) -> int:
    """Counted once while both sets stay the same objects, as those of a large wave do from turn to turn."""
    return len(nodes & serving)


class Room:
    """What is left of every limit while the decisions of one turn are made.

    ``out`` maps a node that is out to why, ``serving`` are the nodes that could serve: others are in no limit, and no
    part of a percentage. ``word`` says in refusals what the nodes are that were counted.
    """

    def __init__(
        self, limits: Iterable[Limit], out: Mapping[str, str], serving: AbstractSet[str], word: str = "out"
    ) -> None:
        self._limits = tuple(limits)
        self._serving = serving
        self._word = word
        self._named = _bound_by(self._limits)
        self._everywhere = tuple(number for number, limit in enumerate(self._limits) if limit.nodes is None)
        self._out = {node: why for node, why in out.items() if node in serving}
        self._out_by = [set(self._out) if limit.nodes is None else set[str]() for limit in self._limits]
        self._allowed: dict[int, int] = {}
        self._said: dict[int, str] = {}
        for node in self._out if self._named else ():
            for number in self._named.get(node, ()):
                self._out_by[number].add(node)

    @property
    def uses(self) -> Iterable[tuple[Limit, int, Mapping[str, str]]]:
        """Every limit with how many nodes it allows, and those that count, each with why."""
        for number, limit in enumerate(self._limits):
            yield limit, self._allows(number), {node: self._out[node] for node in self._out_by[number]}

    def blocking(self, node: str) -> Limit | None:
        """The first limit that keeps ``node`` from going out now; the node itself never counts against itself."""
        number = self._first(node)
        return None if number is None else self._limits[number]

    def refusal(self, node: str) -> str:
        """Why ``node`` may not go out now, naming the one limit; empty when it may."""
        number = self._first(node)
        if number is None:
            return ""
        if node in self._out_by[number]:
            return self._sentence(number, self._out_by[number] - {node})
        # Thousands may be refused for the same reason in one turn.
        if number not in self._said:
            self._said[number] = self._sentence(number, self._out_by[number])
        return self._said[number]

    def take(self, node: str, why: str) -> None:
        """Count ``node`` as out from here on."""
        self._out[node] = why
        for number in self._bind(node):
            self._out_by[number].add(node)
            self._said.pop(number, None)

    def give_back(self, node: str) -> None:
        """No longer count ``node``."""
        if self._out.pop(node, None) is None:
            return
        for number in self._bind(node):
            self._out_by[number].discard(node)
            self._said.pop(number, None)

    def _first(self, node: str) -> int | None:
        for number in self._bind(node):
            out = self._out_by[number]
            if len(out) - (node in out) >= self._allows(number):
                return number
        return None

    def _bind(self, node: str) -> tuple[int, ...]:
        named = self._named.get(node, ())
        return self._everywhere + named if named else self._everywhere

    def _allows(self, number: int) -> int:
        if number not in self._allowed:
            limit = self._limits[number]
            total = len(self._serving) if limit.nodes is None else _common(limit.nodes, self._serving)
            self._allowed[number] = limit.amount.of(total)
        return self._allowed[number]

    def _sentence(self, number: int, out: Collection[str]) -> str:
        limit = self._limits[number]
        return f"budget {limit.name}: {len(out)} of {self._allows(number)} {self._word}{self._names(out)}"

    def _names(self, nodes: Collection[str]) -> str:
        if not nodes:
            return ""
        shown = ", ".join(f"{name} ({self._out[name]})" for name in nsmallest(_NAMED, nodes))
        more = f", and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else ""
        return f": {shown}{more}"
