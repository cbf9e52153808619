# SPDX-License-Identifier: Apache-2.0
"""Keeps this process and its helpers on some processors, and what it starts for others off them.

Helpers and threads inherit the processors of the thread that makes them (sched_setaffinity(2)). So would a daemon that
a command of a recipe starts, for as long as it lives: such commands start with the processors that were there before.
"""

import contextlib
import os
import re
from collections.abc import Iterator

import structlog

from refloat_contract.errors import Misconfigured

log = structlog.get_logger(__name__)
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_MOST = 1 << 16

_before: frozenset[int] | None = None
_pinned: frozenset[int] = frozenset()


def parse(text: str) -> frozenset[int]:
    """Parse a list of processors as the kernel writes it, as in `0,64-67`. Raises Misconfigured."""
    found: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first = int(match[1]) if match else 0
        last = int(match[2] or match[1]) if match else -1
        if not 0 <= first <= last < _MOST:
            raise Misconfigured(f"{text!r} is no list of processors, as in '0,64-67'")
        found.update(range(first, last + 1))
    return frozenset(found)


def pin(wanted: frozenset[int]) -> None:
    """Stay on these processors, as far as they are there; on all, where none is. To be called before threads are."""
    global _before, _pinned
    there = frozenset(os.sched_getaffinity(0))
    if missing := sorted(wanted - there):
        log.warning("cpus_not_there", missing=missing, pinned=bool(wanted & there))
    if wanted & there:
        _before, _pinned = there, wanted & there
        os.sched_setaffinity(0, _pinned)


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """Have the calling thread on the processors of before meanwhile: what it starts stays there."""
    if _before is None:
        yield
        return
    os.sched_setaffinity(0, _before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, _pinned)
