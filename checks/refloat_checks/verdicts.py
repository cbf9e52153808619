# SPDX-License-Identifier: Apache-2.0
"""Make one finding of many complaints: what is wrong outweighs what could not be read."""

from collections.abc import Mapping, Sequence

from refloat_checks.api import NO_MEASURES, Finding
from refloat_contract.words import Status


def verdict(
    name: str,
    fine: str,
    wrong: Sequence[str] = (),
    unread: Sequence[str] = (),
    measures: Mapping[str, float] = NO_MEASURES,
) -> Finding:
    """Find FAILED if anything is wrong, else UNKNOWN if anything could not be read, else OK, which says `fine`."""
    if wrong:
        return Finding(name, Status.FAILED, "; ".join(wrong), measures)
    if unread:
        return Finding(name, Status.UNKNOWN, "; ".join(unread), measures)
    return Finding(name, Status.OK, fine, measures)


def a_few(names: Sequence[str], most: int = 4) -> str:
    """Name the first of many: a message is one line."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
