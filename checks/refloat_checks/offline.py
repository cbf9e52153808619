# SPDX-License-Identifier: Apache-2.0
"""The facts of an offline tree, such as an image's root: its files are there, its kernel is not."""

from collections.abc import Callable
from pathlib import Path

from refloat_checks.facts import Facts, T, Threads
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_contract.errors import Refused


class TreeFacts(Facts):
    """Facts of a tree, in which nothing is mounted: what only a running system has, cannot be looked at."""

    async def read(self, source: str, read: Callable[[], T]) -> T:  # noqa: ARG002 - nothing is read
        """Refuse: a tree has no kernel whose tables could be read."""
        raise Refused(f"{source}: only a running system has that")

    def require_running(self) -> None:
        """Refuse: what runs here is another system than the tree."""
        raise Refused("only a running system can be asked that")

    async def _probe_key(self, path: str) -> str:
        return path


def source(root: Path, probes: ProbePool) -> Callable[[], Facts]:
    """Give what makes the facts of each next pass; the pool must be that of the same tree."""
    threads = Threads()
    roots = Roots(root / "proc", root / "sys", root)
    return lambda: TreeFacts(roots, probes, threads)
