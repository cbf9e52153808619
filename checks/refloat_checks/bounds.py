# SPDX-License-Identifier: Apache-2.0
"""Compare amounts with the bounds that are set for them; what is wrong is told as data, and worded by who asked."""

from __future__ import annotations

from enum import Enum

from refloat_contract.records import record


@record
class Bound:
    """An amount, or a percentage."""

    value: float
    is_percent: bool = False


class Breach(Enum):
    """On which side an amount is out of bounds."""

    TOO_LITTLE = "too little"
    TOO_MUCH = "too much"


def breach(amount: float, least: float | None, most: float | None, slack: float = 0) -> Breach | None:
    """Compare an amount with a least and a most, either of which may be None, as if it were more or less by a slack."""
    if least is not None and amount + slack < least:
        return Breach.TOO_LITTLE
    if most is not None and amount - slack > most:
        return Breach.TOO_MUCH
    return None
