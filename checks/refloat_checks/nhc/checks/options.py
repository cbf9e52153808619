# SPDX-License-Identifier: Apache-2.0
"""A check's options as the shell's getopts reads them: single letters, bundled, arguments attached or following."""

from __future__ import annotations

from refloat_checks.nhc.native import NhcOutcome, failed
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence


@record
class Options:
    """The options in order, each with its argument (empty for a flag), and the words behind them."""

    given: tuple[tuple[str, str], ...]
    rest: tuple[str, ...]

    def has(self, letter: str) -> bool:
        """Tell whether an option is there."""
        return any(each == letter for each, _ in self.given)

    def last(self, letter: str, default: str = "") -> str:
        """Give an option's argument: where it stands more than once, the last."""
        return next((argument for each, argument in reversed(self.given) if each == letter), default)

    def all(self, letter: str) -> tuple[str, ...]:
        """Give all arguments of an option, in order."""
        return tuple(argument for each, argument in self.given if each == letter)


def getopts(name: str, spec: str, words: Sequence[str]) -> Options | NhcOutcome:
    """Read options; `spec` holds their letters, with a colon behind those that take an argument.

    A letter that is not there, or an argument that is missing, is the failure that NHC reports.
    """
    given: list[tuple[str, str]] = []
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        word = words[at]
        at += 1
        if word == "--":
            break
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            place = spec.find(letter)
            if place < 0 or letter == ":":
                return failed(name, f"Invalid option:  -{letter}")
            if spec[place + 1 : place + 2] != ":":
                given.append((letter, ""))
                continue
            if not letters:
                if at >= len(words):
                    return failed(name, f"Option -{letter} requires an argument.")
                letters, at = words[at], at + 1
            given.append((letter, letters))
            letters = ""
    return Options(tuple(given), tuple(words[at:]))


def absolute(path: str) -> str:
    """Give a path a meaning that does not depend on where we were started."""
    return path if path.startswith("/") else f"/{path}"
