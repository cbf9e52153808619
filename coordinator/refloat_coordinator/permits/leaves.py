# SPDX-License-Identifier: Apache-2.0
"""On how many nodes checks for an idle node may run at once: leaves that agents renew, and that end by themselves.

Pure, and kept in memory only: after a start nobody is given leave for as long as one lasts, so whoever had one from the
life before has been told no, or has gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from refloat_contract.words import RequestKind

LEAVE_S: Final = 90.0
"""How long a leave lasts; agents renew theirs three times as often."""
RETRY_AFTER_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Leaves:
    """Who has leave, and until when. ``most``: at how many nodes at once."""

    most: int
    since: float
    until: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def answer(leaves: Leaves, node: str, kind: RequestKind, now: float) -> tuple[Leaves, str | None]:
    """The leaves after a request, and why the node has none; None where it has one."""
    others = {name: until for name, until in leaves.until.items() if now < until and name != node}
    freed = replace(leaves, until=MappingProxyType(others))
    if kind is RequestKind.RELEASE:
        return freed, "given back"
    if now - leaves.since < LEAVE_S:
        return freed, f"the coordinator has started: no idle checks for {LEAVE_S:.0f} s"
    if len(others) >= leaves.most:
        return freed, f"idle checks run on {len(others)} of at most {leaves.most} nodes"
    return replace(leaves, until=MappingProxyType({**others, node: now + LEAVE_S})), None
