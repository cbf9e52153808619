# SPDX-License-Identifier: Apache-2.0
"""The lines of an nhc.conf: `TARGET || CHECK`, and which of them apply to a host."""

from __future__ import annotations

from refloat_checks.nhc.language import BadPattern
from refloat_checks.nhc.match import matches
from refloat_contract.errors import Misconfigured
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_BLANKS: Final = " \t"
_LONE_SLASHES: Final = frozenset({"/", "!/"})


@record
class Line:
    """One line as NHC reads it: whom it applies to, and what to run there. `number` is where it begins, from 1."""

    number: int
    target: str
    check: str


def check_lines(text: str, host: str, *, strict: bool = False) -> list[str]:
    """Give the checks that apply to a host, in order.

    Raises Misconfigured, naming line and column, for a target that is a lone slash: NHC ends there, and runs no check
    at all. With `strict` also for any other target that means nothing, which NHC takes for one that does not match.
    """
    return [line.check for line in lines(text) if _applies(line, host, strict=strict)]


def _applies(line: Line, host: str, *, strict: bool) -> bool:
    try:
        return matches(line.target, host, strict=strict or line.target in _LONE_SLASHES)
    except BadPattern as error:
        raise Misconfigured(
            f"line {line.number}: column {error.column} of the target {line.target!r}: {error.what}"
        ) from error


def lines(text: str) -> Iterator[Line]:
    """Read the lines that have a target and a check.

    A last line without a line's end is not there. Without `||` the whole line is target and check at once.
    """
    for number, line in logical_lines(text):
        target, bars, check = line.partition("||")
        target, check = _trim(target), _trim(check if bars else line)
        if target and check and not target.startswith("#"):
            yield Line(number, target, check)


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    r"""Read lines as bash's `read` without -r: a backslash goes, and the character behind it loses its meaning.

    So `\` at the end of a line joins it with the next, and an escaped blank at the start or end stays.
    """
    number = first = 1
    characters: list[tuple[str, bool]] = []
    source = iter(text)
    for character in source:
        number += character == "\n"
        if character == "\n":
            yield first, _strip(characters)
            characters, first = [], number
        elif character == "\\":
            escaped = next(source, "")
            number += escaped == "\n"
            if escaped not in {"\n", ""}:
                characters.append((escaped, True))
        elif character != "\0":
            characters.append((character, False))


def _strip(characters: list[tuple[str, bool]]) -> str:
    start, end = 0, len(characters)
    while start < end and characters[start] in _UNESCAPED_BLANKS:
        start += 1
    while end > start and characters[end - 1] in _UNESCAPED_BLANKS:
        end -= 1
    return "".join(character for character, _ in characters[start:end])


_UNESCAPED_BLANKS: Final = frozenset((blank, False) for blank in _BLANKS)


def _trim(text: str) -> str:
    """Take blanks off both ends as NHC does: one on each side at a time, until neither way changes it differently."""
    while True:
        without_first = text[1:] if text[:1] in set(_BLANKS) else text
        without_last = text[:-1] if text[-1:] in set(_BLANKS) else text
        if without_first == without_last:
            return text
        text = without_first
        text = text[:-1] if text[-1:] in set(_BLANKS) else text
