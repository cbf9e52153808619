# SPDX-License-Identifier: Apache-2.0
"""Groups: which nodes share a rack, a switch, a power feed, a boot server, a partition; pure.

A kind of group (``rack``) has named groups (``r1``), each a set of nodes. What a site writes down is read here from its
text: Slurm's topology.conf, a table of nodes and groups, a pattern of node names.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from refloat_contract.errors import Misconfigured
from refloat_coordinator import hostlists
from refloat_coordinator.permits.budget import Amount, Limit

PARTITION: Final = "partition"
"""The kind that Slurm itself tells."""

Named: TypeAlias = Mapping[str, frozenset[str]]
"""Groups of one kind: the nodes of each, by its name."""

_DIGITS: Final = re.compile(r"(\d+)")
_SETTING: Final = re.compile(r"(?P<key>[A-Za-z]+)\s*=\s*(?P<value>\S+)")
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Groups:
    """All groups, by kind: ``{"rack": {"r1": {"n1", "n2"}}}``."""

    kinds: Mapping[str, Named] = field(default_factory=dict)

    def of(self, kind: str) -> Named:
        """The groups of a kind, in the order that people count in.

        Raises:
            Misconfigured: there is no such kind; the sentence names those that there are.
        """
        found = self.kinds.get(kind)
        if found is None:
            known = ", ".join(sorted(self.kinds)) or "none: see [groups] in coordinator.toml"
            raise Misconfigured(f"no kind of group is called {kind!r} (known: {known})")
        return found

    def limits(self, kind: str, amount: Amount) -> tuple[Limit, ...]:
        """At most ``amount`` out in each group of a kind.

        Raises:
            Misconfigured: there is no such kind.
        """
        return tuple(Limit(f"{kind} {name}", amount, nodes) for name, nodes in self.of(kind).items())

    def place(self, kind: str) -> dict[str, str]:
        """The group of each node; a node of several is in the first.

        Raises:
            Misconfigured: there is no such kind.
        """
        placed: dict[str, str] = {}
        for name, nodes in self.of(kind).items():
            for node in nodes:
                placed.setdefault(node, name)
        return placed


def joined(*parts: Named) -> dict[str, frozenset[str]]:
    """Groups of one kind from several sources: those of one name are one; in the order that people count in."""
    together: dict[str, frozenset[str]] = {}
    for part in parts:
        for name, nodes in part.items():
            together[name] = together.get(name, frozenset()) | nodes
    return {name: together[name] for name in sorted(together, key=_counting)}


def by_pattern(kind: str, pattern: re.Pattern[str], nodes: Iterable[str]) -> dict[str, frozenset[str]]:
    """A group for each text that the pattern finds in whole node names: its group of the kind's name, or its first."""
    key: str | int = kind if kind in pattern.groupindex else min(1, pattern.groups)
    found: dict[str, set[str]] = {}
    for node in nodes:
        match = pattern.fullmatch(node)
        name = match[key] if match else None
        if name:
            found.setdefault(name, set()).add(node)
    return {name: frozenset(members) for name, members in found.items()}


def table(text: str, where: str) -> dict[str, frozenset[str]]:
    """Read lines of a hostlist and a group's name; ``#`` begins a comment. A group may stand on several lines.

    Raises:
        Misconfigured: a line says something else; the sentence names it.
    """
    found: dict[str, frozenset[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:  # noqa: PLR2004 - nodes and a name
            raise Misconfigured(f"{where}:{number}: {_short(line)!r} is not a hostlist and a group: n[1-16] r1")
        found[words[1]] = found.get(words[1], frozenset()) | _nodes(words[0], where, number)
    return found


def topology(text: str, where: str, level: int = 0) -> dict[str, frozenset[str]]:
    """Read Slurm's topology.conf: the nodes below each switch of a level (0: those that nodes hang on), or each block.

    Raises:
        Misconfigured: a line cannot be read, or there is nothing of that level.
    """
    tree = _Tree(where)
    for number, settings in _settings(text, where):
        if "switchname" in settings:
            tree.add(settings["switchname"], settings, number)
        elif "blockname" in settings:
            tree.add_block(settings["blockname"], settings, number)
    return tree.level(level)


class _Tree:
    """Switches or blocks while a file is read."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._nodes: dict[str, frozenset[str]] = {}
        self._below: dict[str, tuple[str, ...]] = {}
        self._lines: dict[str, int] = {}

    def add(self, name: str, settings: Mapping[str, str], number: int) -> None:
        below = settings.get("switches")
        if below is None:
            self.add_block(name, settings, number)
            return
        self._line(name, number)
        self._below[name] = _expanded(below, self._where, number)

    def add_block(self, name: str, settings: Mapping[str, str], number: int) -> None:
        self._line(name, number)
        if "nodes" not in settings:
            raise Misconfigured(f"{self._where}:{number}: {name} has no Nodes")
        self._nodes[name] = _nodes(settings["nodes"], self._where, number)

    def level(self, level: int) -> dict[str, frozenset[str]]:
        heights: dict[str, int] = {}
        found = {
            name: self._under(name, ())
            for name in (*self._nodes, *self._below)
            if self._height(name, heights, ()) == level
        }
        if not found:
            raise Misconfigured(f"{self._where}: no switch or block of level {level}")
        return found

    def _line(self, name: str, number: int) -> None:
        if name in self._lines:
            raise Misconfigured(f"{self._where}:{number}: {name} stands in line {self._lines[name]} already")
        self._lines[name] = number

    def _height(self, name: str, known: dict[str, int], above: tuple[str, ...]) -> int:
        if name in self._nodes:
            return 0
        if name not in known:
            known[name] = 1 + max(self._height(child, known, (*above, name)) for child in self._children(name, above))
        return known[name]

    def _under(self, name: str, above: tuple[str, ...]) -> frozenset[str]:
        if name in self._nodes:
            return self._nodes[name]
        return frozenset().union(*(self._under(child, (*above, name)) for child in self._children(name, above)))

    def _children(self, name: str, above: tuple[str, ...]) -> tuple[str, ...]:
        number = self._lines[name]
        if name in above:
            raise Misconfigured(f"{self._where}:{number}: {name} is below itself")
        for child in self._below[name]:
            if child not in self._lines:
                raise Misconfigured(f"{self._where}:{number}: there is no switch {child!r}")
        return self._below[name]


def _settings(text: str, where: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Each line of a file of Slurm's as its settings; a line that ends with a backslash goes on in the next."""
    begun, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        first = first if begun else number
        begun = f"{begun} {line}".strip()
        if begun.endswith("\\"):
            begun = begun[:-1].rstrip()
            continue
        if begun:
            yield first, _read(begun, where, first)
        begun = ""
    if begun:
        yield first, _read(begun, where, first)


def _read(line: str, where: str, number: int) -> dict[str, str]:
    found = {match["key"].lower(): match["value"] for match in _SETTING.finditer(line)}
    if not found or _SETTING.sub("", line).strip():
        raise Misconfigured(f"{where}:{number}: {_short(line)!r} is not read here: name the file that has the switches")
    return found


def _nodes(text: str, where: str, number: int) -> frozenset[str]:
    if text.upper() == "ALL":
        raise Misconfigured(f"{where}:{number}: ALL is no group: write the nodes as n[1-16]")
    return frozenset(_expanded(text, where, number))


def _expanded(text: str, where: str, number: int) -> tuple[str, ...]:
    try:
        return hostlists.expand(text)
    except Misconfigured as error:
        raise Misconfigured(f"{where}:{number}: {error}") from error


def _short(line: str) -> str:
    return line.strip()[:_SHOWN]


def _counting(name: str) -> list[tuple[int, str]]:
    """A key by which r2 comes before r10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in _DIGITS.split(name)]
