# SPDX-License-Identifier: Apache-2.0
"""Make one finding of many complaints: what is wrong outweighs what could not be read."""

from collections.abc import Sequence

from refloat_checks.api import Finding, failed, passed, unknown


def verdict(name: str, fine: str, wrong: Sequence[str] = (), unread: Sequence[str] = (), **measures: float) -> Finding:
    """Find FAILED if anything is wrong, else UNKNOWN if anything could not be read, else OK, which says `fine`."""
    if wrong:
        return failed(name, "; ".join(wrong), **measures)
    if unread:
        return unknown(name, "; ".join(unread), **measures)
    return passed(name, fine, **measures)


def a_few(names: Sequence[str], most: int = 4) -> str:
    """Name the first of many: a message is one line."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
