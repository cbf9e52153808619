# SPDX-License-Identifier: Apache-2.0
"""Hostlists as every site writes them (``n[1-4]``), read and folded by ClusterShell; no groups, so nothing is run."""

import math
import re
from collections.abc import Iterable
from typing import Final

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

from refloat_contract import topics
from refloat_contract.errors import Misconfigured

MAX_NODES: Final = 100_000
"""More than any Slurm cluster has; a typing error must not fill the memory."""

_MAX_DIGITS: Final = 18
_NUMBER: Final = re.compile(r"\d+")
_PATTERN: Final = re.compile(r"(?:[^\s,\[]|\[[^\]]*\])+")
_BRACKETS: Final = re.compile(r"\[([^\]]*)\]")


def expand(text: str) -> tuple[str, ...]:
    """The nodes of a hostlist, in its order.

    Raises:
        Misconfigured: it cannot be read, is empty, is too large, or has a name that cannot be a node's.
    """
    count = _count(text)
    if count > MAX_NODES:
        raise Misconfigured(f"hostlist {text[:200]!r} names {count} nodes, more than {MAX_NODES}")
    try:
        # ClusterShell may run a site's commands for @group: never for what comes from outside.
        nodes = NodeSet(text, resolver=RESOLVER_NOGROUP)
    except (NodeSetException, ValueError) as error:
        raise Misconfigured(f"hostlist {text[:200]!r} cannot be read: {error}; write it like n[1-4,7]") from error
    names = tuple(str(name) for name in nodes)
    if not names:
        raise Misconfigured("the hostlist is empty; write it like n[1-4,7]")
    for name in names:
        if not topics.is_level(name):
            raise Misconfigured(f"hostlist {text[:200]!r}: {name!r} cannot be a node's name")
    return names


def _count(text: str) -> int:
    """No fewer nodes than the hostlist names. ClusterShell makes them all before it can be asked how many."""
    count = 0
    for pattern in _PATTERN.findall(text):
        count += math.prod(sum(map(_span, ranges.split(","))) for ranges in _BRACKETS.findall(pattern))
    return count


def _span(text: str) -> int:
    bounds = text.partition("/")[0].strip()
    numbers = _NUMBER.findall(bounds)
    if len(numbers) < 2:  # noqa: PLR2004 - a range has two ends
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
