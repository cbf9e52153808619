# SPDX-License-Identifier: Apache-2.0
"""Patterns so plain that they need no reading: a text, or a text with stars at its ends, or anchored."""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

# What stands for itself in globs and in regular expressions alike.
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _/:,;=-@%#\"'~&<>")


def glob(pattern: str) -> Callable[[str], bool] | None:
    """Give what compares with a glob; None if it has to be read."""
    text = pattern.strip("*")
    if not _PLAIN.issuperset(text.replace(".", "")) or (not text and "*" not in pattern):
        return None
    return _test(text, at_start=pattern[:1] != "*", at_end=pattern[-1:] != "*")


def expression(pattern: str) -> Callable[[str], bool] | None:
    """Give what looks for a regular expression; None if it has to be read."""
    text = pattern.removeprefix("^").removesuffix("$")
    if not _PLAIN.issuperset(text):
        return None
    return _test(text, at_start=pattern[:1] == "^", at_end=pattern[-1:] == "$")


def _test(wanted: str, *, at_start: bool, at_end: bool) -> Callable[[str], bool]:
    if at_start and at_end:
        return lambda text: text == wanted
    if at_start:
        return lambda text: text.startswith(wanted)
    if at_end:
        return lambda text: text.endswith(wanted)
    return lambda text: wanted in text
