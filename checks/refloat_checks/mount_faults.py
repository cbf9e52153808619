# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a mount: its source, its type, or its options."""

from __future__ import annotations

from enum import Enum

from refloat_checks.nhc.match import matches
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

    from refloat_checks.facts import Facts


@record
class Mounted:
    """What is mounted somewhere; its options with commas between."""

    source: str
    fstype: str
    options: str


@record
class Wanted:
    """What it must be: match strings, all of which must fit, and single options (`!option`: must not be set)."""

    sources: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


class Part(Enum):
    """A part of a mount."""

    SOURCE = "source"
    TYPE = "type"
    OPTIONS = "options"
    FLAG = "flag"


@record
class Fault:
    """Which part is wrong, what it is, and what it should be."""

    part: Part
    seen: str
    wanted: str


def faults(mounted: Mounted, wanted: Wanted) -> Iterator[Fault]:
    """Tell all that is wrong, in NHC's order."""
    for part, seen, patterns in (
        (Part.SOURCE, mounted.source, wanted.sources),
        (Part.TYPE, mounted.fstype, wanted.types),
        (Part.OPTIONS, mounted.options, wanted.options),
    ):
        yield from (Fault(part, seen, pattern) for pattern in patterns if not matches(pattern, seen))
    are_set = mounted.options.split(",")
    for flag in wanted.flags:
        if (flag.removeprefix("!") in are_set) is flag.startswith("!"):
            yield Fault(Part.FLAG, mounted.options, flag)


async def automount(facts: Facts, point: str) -> None:
    """Make the automounter mount what belongs there: any walk below does, and what is found there does not matter.

    Raises Transient where there is no answer.
    """
    try:
        await facts.stat(f"{point}/.refloat-automount")
    except OSError:
        return
