# SPDX-License-Identifier: Apache-2.0
"""The numbers among a check's arguments; None stands for what the shell cannot compare, which then is never true."""

from __future__ import annotations

from refloat_checks.nhc import units
from refloat_checks.nhc.arithmetic import evaluate
from refloat_checks.nhc.native import Aborted
from refloat_checks.nhc.units import BadUnit

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

_SCALED: Final = "mgtpe"
_SCALED_COUNT: Final = "kmgtpe"


def size_kb(text: str, *, strict: bool) -> int | None:
    """Read a size. Raises BadUnit for one that NHC cannot read; in strict mode gives what its comparison makes of it.

    Raises Aborted in strict mode where the shell's arithmetic gives up.
    """
    return _amount(text, units.parse_size, _SCALED, strict=strict)


def count(text: str, *, strict: bool) -> int | None:
    """Read a count, as `size_kb` does."""
    return _amount(text, units.parse_count, _SCALED_COUNT, strict=strict)


def _amount(text: str, parse: Callable[[str], int], scaled: str, *, strict: bool) -> int | None:
    try:
        return parse(text)
    except BadUnit:
        if not strict:
            raise
        is_size = parse is units.parse_size
        scale = text[:-1] if is_size and text[-1:] in {"b", "B"} else text
        if scale and scale[-1].lower() in scaled:
            raise Aborted from None
        return evaluate(text.removesuffix("b").removesuffix("B") if is_size else text)


def whole(text: str, what: str, *, strict: bool) -> int | None:
    """Read a whole number as the shell's arithmetic does; an empty one is zero."""
    value = evaluate(text)
    if strict:
        return value
    if value is None or (text and not text.strip().lstrip("-+").isdigit() and not text.lower().startswith("0x")):
        raise BadUnit(f"{text!r} is not a whole number, as the {what} must be")
    return value


def percent(text: str, *, strict: bool) -> int | None:
    """Read the number before a percent sign at the end."""
    return whole(text.removesuffix("%"), "percentage", strict=strict)
