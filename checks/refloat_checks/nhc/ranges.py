# SPDX-License-Identifier: Apache-2.0
"""NHC's node ranges, `{n[01-10],login1}`, with every oddity of theirs: what they match decides which checks run."""

from __future__ import annotations

from refloat_checks.nhc import globs
from refloat_checks.nhc.arithmetic import evaluate
from refloat_checks.nhc.language import BadPattern, matcher

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

_DIGITS: Final = frozenset("0123456789")
_HEAD: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_TAIL: Final = _HEAD - {"_"} | {".", "\\"}


def fits(ranges: str, text: str) -> bool:
    """Tell whether a name is in the ranges.

    An item that is no range ends the list: those before it count, those after it do not.
    """
    for item in _items(ranges):
        if _is_name(item):
            if matcher(globs.parse(item), anywhere=False)(text):
                return True
        elif found := _range(item):
            if _in_range(found, text):
                return True
        else:
            return False
    return False


def check(ranges: str) -> None:
    """Raise BadPattern, which names the column, for the first item that is neither a node nor a range."""
    column = 2  # behind the brace
    for item in _items(ranges):
        if not _is_name(item) and _range(item) is None:
            raise BadPattern(f"{{{ranges}}}", column, f"{item!r} is no node and no range such as n[01-10]")
        column += len(item) + 1


def _items(ranges: str) -> list[str]:
    items = ranges.split(",")
    return items[:-1] if items[-1] == "" else items


def _is_name(item: str) -> bool:
    """Tell whether it is a node: characters of names, a digit among them that is not the first, and a domain."""
    return any(
        character in _DIGITS and at and _HEAD.issuperset(item[:at]) and _TAIL.issuperset(item[at:])
        for at, character in enumerate(item)
    )


def _range(item: str) -> tuple[str, str, str, str] | None:
    """Read `n[01-10].ib`: what stands before, the two ends, and what stands behind."""
    prefix, _, rest = item.partition("[")
    start, _, rest = rest.partition("-")
    end, bracket, suffix = rest.partition("]")
    numbers = start and end and _DIGITS.issuperset(start + end)
    if not (prefix and bracket and numbers and _HEAD.issuperset(prefix) and _TAIL.issuperset(suffix)):
        return None
    return prefix, start, end, suffix


def _unescaped(text: str) -> str:
    r"""Take the backslash from before each character; a lone one at the end stays."""
    characters = iter(text)
    return "".join(next(characters, "\\") if each == "\\" else each for each in characters)


def _in_range(found: tuple[str, str, str, str], text: str) -> bool:
    prefix, start, end, suffix = found
    suffix = _unescaped(suffix)
    if not text.startswith(prefix) or not text.endswith(suffix):
        return False
    node = text.removeprefix(prefix).removesuffix(suffix)
    # What stands between prefix and suffix is evaluated, so that node n5-4 is number 1.
    low, high, number = evaluate(f"10#{start}"), evaluate(f"10#{end}"), evaluate(f"10#{node}")
    if low is None or high is None or number is None:
        return False
    # The wider of the two ends gives the width: {n[1-10]} has n01 to n10, and no n1.
    return min(low, high) <= number <= max(low, high) and len(node) == max(len(start), len(end))
