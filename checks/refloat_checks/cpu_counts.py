# SPDX-License-Identifier: Apache-2.0
"""Compare the numbers of processors, cores and threads with those that there should be."""

from __future__ import annotations

from refloat_checks.hardware import Processors
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator


@record
class Counts:
    """How many there should be; None: any number."""

    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None


@record
class Miscount:
    """What there are too many or too few of (`socket`, `core`, `thread`)."""

    what: str
    seen: int
    wanted: int


def miscounts(seen: Processors, wanted: Counts) -> Iterator[Miscount]:
    """Tell which counts differ, from sockets to threads."""
    for what, count, should_be in (
        ("socket", seen.sockets, wanted.sockets),
        ("core", seen.cores, wanted.cores),
        ("thread", seen.threads, wanted.threads),
    ):
        if should_be is not None and count != should_be:
            yield Miscount(what, count, should_be)
