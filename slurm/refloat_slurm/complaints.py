# SPDX-License-Identifier: Apache-2.0
"""Complaints: sort what Slurm says when a call fails into refloat's errors. Pure.

Whatever is not known is Transient: to retry in vain is harmless, to take an outage for an answer is not.
"""

import re
from collections.abc import Mapping
from typing import Final

from refloat_contract.errors import RefloatError, Refused, Transient, UnknownNode

_UNKNOWN_NODE = re.compile(r"invalid node name|node '?\S+'? (?:not found|does not exist)", re.IGNORECASE)
_REFUSED = re.compile(
    r"invalid user id|invalid node state|permission denied|invalid input|must specify a reason|not supported"
    # sacctmgr, where slurm.conf names no slurmdbd; Slurm 24.11 says it in two lines.
    r"|not running a supported accounting_storage plugin",
    re.IGNORECASE,
)
# 1800…1803 connect, send, receive, shutdown; 1007 munge; 5004 timeout; 2002 access; 2010 user; 2018 name; 2028 state.
_BY_ERRNO: Final[Mapping[int, type[RefloatError]]] = {
    1007: Transient,
    1800: Transient,
    1801: Transient,
    1802: Transient,
    1803: Transient,
    5004: Transient,
    2002: Refused,
    2010: Refused,
    2018: UnknownNode,
    2028: Refused,
}


def sort_complaint(text: str, errno: int | None = None) -> RefloatError:
    """The error for what a Slurm program printed or, with ``errno``, for what a Slurm library call returned."""
    sentence = _sentence(text)
    kind = _BY_ERRNO.get(errno) if errno is not None else None
    return (kind or _by_text(text))(sentence)


def not_understood(what: str, answer: str) -> Transient:
    """The error for an answer that cannot be read: unknown is never taken for empty."""
    shown = answer if len(answer) <= 200 else answer[:200] + "…"  # noqa: PLR2004 - enough to see what it was
    return Transient(f"cannot understand {what}: {shown!r}")


def _by_text(text: str) -> type[RefloatError]:
    if _UNKNOWN_NODE.search(text):
        return UnknownNode
    return Refused if _REFUSED.search(text) else Transient


def _sentence(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return "; ".join(lines[-3:]) if lines else "Slurm failed without a word"
