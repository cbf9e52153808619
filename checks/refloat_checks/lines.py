# SPDX-License-Identifier: Apache-2.0
"""Compare lines, of a file or of what a command printed, with match strings that some or none of them must match."""

from __future__ import annotations

from refloat_checks.nhc.match import compiled
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@record
class Unwanted:
    """A line that matches what none may: which of the patterns (from 0), the line's number (from 1), and the line."""

    place: int
    number: int
    line: str


@record
class Compared:
    """The first line that must not be there, or else the places of the patterns that no line matched."""

    unwanted: Unwanted | None = None
    missing: tuple[int, ...] = ()


def compare(lines: Iterable[str], patterns: Sequence[str]) -> Compared:
    """Go through the lines up to the first that matches a pattern with `!`, or to where nothing is left to find."""
    unwanted = [(place, compiled(each[1:])) for place, each in enumerate(patterns) if each.startswith("!")]
    missing = [(place, compiled(each)) for place, each in enumerate(patterns) if not each.startswith("!")]
    for number, line in enumerate(lines, start=1):
        if not missing and not unwanted:
            break
        for place, fits in unwanted:
            if fits(line):
                return Compared(Unwanted(place, number, line))
        missing = [each for each in missing if not each[1](line)]
    return Compared(missing=tuple(place for place, _ in missing))
