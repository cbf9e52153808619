# SPDX-License-Identifier: Apache-2.0
"""Hostlists as every site writes them (``n[1-4]``), read and folded by ClusterShell; no groups, so nothing is run."""

from collections.abc import Iterable
from typing import Final

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

from refloat_contract import topics
from refloat_contract.errors import Misconfigured

MAX_NODES: Final = 100_000
"""More than any Slurm cluster has; a typing error must not fill the memory."""


def expand(text: str) -> tuple[str, ...]:
    """The nodes of a hostlist, in its order.

    Raises:
        Misconfigured: it cannot be read, is empty, is too large, or has a name that cannot be a node's.
    """
    try:
        # ClusterShell may run a site's commands for @group: never for what comes from outside.
        nodes = NodeSet(text, resolver=RESOLVER_NOGROUP)
        count = len(nodes)
    except (NodeSetException, ValueError, OverflowError, MemoryError) as error:
        raise Misconfigured(f"hostlist {text[:200]!r} cannot be read: {error}; write it like n[1-4,7]") from error
    if count == 0:
        raise Misconfigured("the hostlist is empty; write it like n[1-4,7]")
    if count > MAX_NODES:
        raise Misconfigured(f"hostlist {text[:200]!r} names {count} nodes, more than {MAX_NODES}")
    names = tuple(str(name) for name in nodes)
    for name in names:
        if not topics.is_level(name):
            raise Misconfigured(f"hostlist {text[:200]!r}: {name!r} cannot be a node's name")
    return names


def fold(names: Iterable[str]) -> str:
    """Nodes as a hostlist."""
    return str(NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP))


def in_order(names: Iterable[str]) -> list[str]:
    """Nodes in the order that people count in: n2 before n10."""
    return [str(name) for name in NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP)]
