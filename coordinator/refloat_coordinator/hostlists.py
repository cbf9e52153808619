# SPDX-License-Identifier: Apache-2.0
"""Hostlists as every site writes them (``n[1-4]``), read and folded by ClusterShell.

Its own groups are never asked, since a site's commands may be run for them; ours are given: ``@rack:r1``, ``*``.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import reduce
from typing import Final, TypeAlias

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from ClusterShell.NodeUtils import GroupResolver, GroupResolverError, GroupResolverSourceError, GroupSource

from refloat_contract import topics
from refloat_contract.errors import Misconfigured

MAX_NODES: Final = 100_000
"""More than any Slurm cluster has; a typing error must not fill the memory."""

_MAX_DIGITS: Final = 18
_NUMBER: Final = re.compile(r"\d+")
_PATTERN: Final = re.compile(r"(?:[^\s,\[]|\[[^\[\]]*\])+")
_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\]")
_NAMED: Final = re.compile(r"[@*?]")
# A group that is named in full: patterns and ranges of groups are ClusterShell's to read.
_GROUP: Final = re.compile(r"@(?:(?P<kind>[\w.-]+):)?(?P<name>[\w.-]+)(?![\w.:*?\[-])")
_SHOWN: Final = 5


Kinds: TypeAlias = Mapping[str, Mapping[str, Collection[str]]]
"""Groups of nodes by their kind and their name."""


def expand(text: str, kinds: Kinds | None = None, known: Collection[str] = ()) -> tuple[str, ...]:
    """The nodes of a hostlist, in its order.

    With ``kinds`` it may name groups: ``@rack:r1``, ``@rack:r[1-4]``, ``@rack:*``; ``@r1`` where only one kind has an
    r1. With ``known``, ``*`` is all of these, and ``n1*`` those that begin so.

    Raises:
        Misconfigured: it cannot be read, is empty, is too large, or has a name that cannot be a node's.
    """
    if text.strip() in {"*", "@*"} and known:
        return tuple(in_order(known))
    if _count(text) > MAX_NODES:
        raise Misconfigured(f"hostlist {text[:200]!r} names more than {MAX_NODES} nodes")
    is_named = kinds is not None and _NAMED.search(text) is not None
    resolver = _resolver(text, kinds or {}, known) if is_named else RESOLVER_NOGROUP
    try:
        nodes = NodeSet(text, resolver=resolver)
    except GroupResolverSourceError as error:
        raise Misconfigured(_no_kind(str(error), kinds or {})) from error
    except (NodeSetException, GroupResolverError, ValueError, AssertionError) as error:
        raise Misconfigured(f"hostlist {text[:200]!r} cannot be read: {error}; write it like n[1-4,7]") from error
    names = tuple(str(name) for name in nodes)
    if not names:
        none = f"hostlist {text[:200]!r} names no node that there is" if is_named else "the hostlist is empty"
        raise Misconfigured(f"{none}; write it like n[1-4,7]")
    for name in names:
        if not topics.is_level(name):
            raise Misconfigured(f"hostlist {text[:200]!r}: {name!r} cannot be a node's name")
    return names


class _Known(GroupSource):  # type: ignore[misc]  # ClusterShell has no types
    """Groups without a kind; all nodes, folded only when they are asked for."""

    def __init__(self, groups: Mapping[str, str], known: Collection[str]) -> None:
        super().__init__("refloat", dict(groups))
        self._known = known

    def resolv_all(self) -> str:
        """All nodes."""
        return fold(self._known)


def _resolver(text: str, kinds: Kinds, known: Collection[str]) -> GroupResolver:
    _refuse_unknown(text, kinds)
    often = Counter(name for groups in kinds.values() for name in groups)
    alone = {name: ",".join(nodes) for groups in kinds.values() for name, nodes in groups.items() if often[name] == 1}
    resolver = GroupResolver(default_source=_Known(alone, known))
    for kind, groups in kinds.items():
        resolver.add_source(GroupSource(kind, {name: ",".join(nodes) for name, nodes in groups.items()}))
    return resolver


def _refuse_unknown(text: str, kinds: Kinds) -> None:
    """ClusterShell takes a group that it does not know for an empty one; a typing error must not go by unseen."""
    for match in _GROUP.finditer(text):
        kind, name = match["kind"], match["name"]
        if kind is not None and kind not in kinds:
            raise Misconfigured(_no_kind(kind, kinds))
        where = {kind: kinds[kind]} if kind is not None else kinds
        found = [other for other, groups in where.items() if name in groups]
        if len(found) > 1:
            raise Misconfigured(f"@{name} is a {' and a '.join(found)}: write @{found[0]}:{name}")
        if not found:
            some = ", ".join([f"@{other}:{one}" for other, groups in where.items() for one in groups][:_SHOWN])
            raise Misconfigured(f"there is no group {match[0]} (known: {some or 'none: see docs/waves.md'})")


def _no_kind(kind: str, kinds: Kinds) -> str:
    return f"no kind of group is called {kind!r} (known: {', '.join(sorted(kinds)) or 'none'})"


def _count(text: str) -> int:
    """No fewer nodes than the hostlist names, or too many. ClusterShell makes them all before it can be asked how many.

    Counted no further than that: a product of thousands of ranges has thousands of digits.
    """
    count = 0
    for pattern in _PATTERN.findall(text):
        spans = (sum(map(_span, ranges.split(","))) for ranges in _BRACKETS.findall(pattern))
        count += reduce(lambda product, span: min(product * span, MAX_NODES + 1), spans, 1)
    return count


def _span(text: str) -> int:
    bounds = text.partition("/")[0].strip()
    numbers = _NUMBER.findall(bounds)
    if not numbers or (len(numbers) < 2 and not bounds.startswith("-")):  # noqa: PLR2004 - a range has two ends
        return 1
    if any(len(number) > _MAX_DIGITS for number in numbers):
        return MAX_NODES + 1
    first, last = int(numbers[0]), int(numbers[-1])
    # ClusterShell also takes negative numbers: n[-5-5].
    return max(1, last + first + 1 if bounds.startswith("-") else last - first + 1)


def fold(names: Iterable[str]) -> str:
    """Nodes as a hostlist."""
    return str(NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP))


def in_order(names: Iterable[str]) -> list[str]:
    """Nodes in the order that people count in: n2 before n10."""
    return [str(name) for name in NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP)]
