# SPDX-License-Identifier: Apache-2.0
"""How many nodes may be out at once, and what is left of that; pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

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
    """At most ``amount`` of ``nodes`` may be out; without ``nodes`` it is about all nodes that Slurm knows."""

    name: str
    amount: Amount
    nodes: frozenset[str] | None = None

    def covers(self, node: str, known: Collection[str]) -> bool:
        """Whether the node is one of those that this limit is about."""
        return node in (known if self.nodes is None else self.nodes)


class Room:
    """What is left of every limit while one decision is made.

    ``out`` maps a node that is out to why; ``known`` are the nodes that Slurm knows.
    """

    def __init__(self, limits: Iterable[Limit], out: Mapping[str, str], known: Collection[str]) -> None:
        self._known = known
        self._out = dict(out)
        self._limits = [(limit, {n for n in out if limit.covers(n, known)}) for limit in limits]

    def blocking(self, node: str) -> Limit | None:
        """The first limit that keeps ``node`` from going out now; the node itself never counts against itself."""
        for limit, out in self._limits:
            if limit.covers(node, self._known) and len(out) - (node in out) >= self._allowed(limit):
                return limit
        return None

    def refusal(self, node: str) -> str:
        """Why ``node`` may not go out now, naming the one limit; empty when it may."""
        blocking = self.blocking(node)
        if blocking is None:
            return ""
        others = next(out for limit, out in self._limits if limit is blocking) - {node}
        return f"budget {blocking.name}: {len(others)} of {self._allowed(blocking)} out{self._named(others)}"

    def take(self, node: str, why: str) -> None:
        """Count ``node`` as out from here on."""
        self._out[node] = why
        for limit, out in self._limits:
            if limit.covers(node, self._known):
                out.add(node)

    def _allowed(self, limit: Limit) -> int:
        return limit.amount.of(len(self._known if limit.nodes is None else limit.nodes))

    def _named(self, nodes: Collection[str]) -> str:
        if not nodes:
            return ""
        names = sorted(nodes)
        shown = ", ".join(f"{name} ({self._out[name]})" for name in names[:_NAMED])
        more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f": {shown}{more}"
