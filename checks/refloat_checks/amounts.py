# SPDX-License-Identifier: Apache-2.0
"""Amounts as people write them in the configuration: sizes, counts, and percentages of a whole."""

import math
import re
from collections.abc import Callable
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from refloat_checks.bounds import Bound

_UNITS: Final = "kmgtpe"
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtpe]?)(?:i?b)?", re.IGNORECASE)
_COUNT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtpe]?)", re.IGNORECASE)
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_WHOLE_PERCENT: Final = 100


def least_size_kb(text: str, whole_kb: int) -> float:
    """How many kB `"10G"`, `"512MiB"`, `"1048576"` (bytes) or `"3%"` of a whole are; units are binary.

    Raises ValueError for anything else: a size that is misread lets a full disk pass.
    """
    if found := _PERCENT.fullmatch(text):
        return whole_kb * _percent(found)
    if found := _SIZE.fullmatch(text):
        return float(found[1]) * math.pow(1024, _power(found[2]) - 1)
    raise ValueError(f'{text!r} is neither a size such as "10G" nor a percentage such as "3%"')


def least_count(text: str, whole: int) -> float:
    """How many `"10k"` (powers of 1000), `"5000"` or `"3%"` of a whole are. Raises ValueError for anything else."""
    if found := _PERCENT.fullmatch(text):
        return whole * _percent(found)
    if found := _COUNT.fullmatch(text):
        return float(found[1]) * math.pow(1000, _power(found[2]))
    raise ValueError(f'{text!r} is neither a count such as "10k" nor a percentage such as "3%"')


def size_bound(text: str | None) -> Bound | None:
    """Make a bound, in kB or percent, of a size; None where there is none."""
    return None if text is None else _bound(text, least_size_kb)


def count_bound(text: str | None) -> Bound | None:
    """Make a bound of a count; None where there is none."""
    return None if text is None else _bound(text, least_count)


def _bound(text: str, read: Callable[[str, int], float]) -> Bound:
    return Bound(read(text, _WHOLE_PERCENT), is_percent=text.endswith("%"))


def _power(unit: str) -> int:
    return _UNITS.index(unit.lower()) + 1 if unit else 0


def _percent(found: re.Match[str]) -> float:
    percent = float(found[1])
    if percent > _WHOLE_PERCENT:
        raise ValueError(f"{found[0]!r} is more than the whole")
    return percent / _WHOLE_PERCENT


def size_text(kb: float) -> str:
    """Spell a size for a human: `1.5 GB` (binary units)."""
    amount = float(kb)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        if amount < 1024:  # noqa: PLR2004 - binary units
            return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"  # noqa: PLR2004 - no 1e+03
        amount /= 1024
    return f"{amount:.3g} EB"


def _valid_size(value: object) -> str:
    least_size_kb(str(value), 0)
    return str(value)


def _valid_count(value: object) -> str:
    least_count(str(value), 0)
    return str(value)


def _is_no_share(text: str) -> str:
    if text.endswith("%"):
        raise ValueError("it cannot be a percentage: of what?")
    return text


Size = Annotated[str, BeforeValidator(_valid_size), Field(description="A size, or a percentage of the whole.")]
Count = Annotated[str, BeforeValidator(_valid_count), Field(description="A count, or a percentage of the whole.")]
Kilobytes = Annotated[Size, AfterValidator(_is_no_share), Field(description="A size; no percentage.")]
Number = Annotated[Count, AfterValidator(_is_no_share), Field(description="A count; no percentage.")]
