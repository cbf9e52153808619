# SPDX-License-Identifier: Apache-2.0
"""NHC's node ranges, `{n[01-10],login1}`, with every oddity of theirs: what they match decides which checks run."""

from __future__ import annotations

import re

from refloat_checks.nhc import globs
from refloat_checks.nhc.arithmetic import evaluate
from refloat_checks.nhc.language import BadPattern, matcher

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

_NAME: Final = re.compile(r"[-a-zA-Z0-9_]+[0-9]+[-\\.a-zA-Z0-9]*")
_RANGE: Final = re.compile(r"([-a-zA-Z0-9_]+)\[([0-9]+)-([0-9]+)\]([-\\.a-zA-Z0-9]*)")
_ESCAPED: Final = re.compile(r"\\(.)")


def fits(ranges: str, text: str) -> bool:
    """Tell whether a name is in the ranges.

    An item that is no range ends the list: those before it count, those after it do not.
    """
    for item in _items(ranges):
        if _NAME.fullmatch(item):
            if matcher(globs.parse(item), anywhere=False)(text):
                return True
        elif found := _RANGE.fullmatch(item):
            if _in_range(found, text):
                return True
        else:
            return False
    return False


def check(ranges: str) -> None:
    """Raise BadPattern, which names the column, for the first item that is neither a node nor a range."""
    column = 2  # behind the brace
    for item in _items(ranges):
        if not _NAME.fullmatch(item) and not _RANGE.fullmatch(item):
            raise BadPattern(f"{{{ranges}}}", column, f"{item!r} is no node and no range such as n[01-10]")
        column += len(item) + 1


def _items(ranges: str) -> list[str]:
    items = ranges.split(",")
    return items[:-1] if items[-1] == "" else items


def _in_range(found: re.Match[str], text: str) -> bool:
    prefix, start, end, suffix = found.groups()
    suffix = _ESCAPED.sub(r"\1", suffix)
    if not text.startswith(prefix) or not text.endswith(suffix):
        return False
    node = text.removeprefix(prefix).removesuffix(suffix)
    # What stands between prefix and suffix is evaluated, so that node n5-4 is number 1.
    low, high, number = evaluate(f"10#{start}"), evaluate(f"10#{end}"), evaluate(f"10#{node}")
    if low is None or high is None or number is None:
        return False
    # The wider of the two ends gives the width: {n[1-10]} has n01 to n10, and no n1.
    return min(low, high) <= number <= max(low, high) and len(node) == max(len(start), len(end))
