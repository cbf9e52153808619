# SPDX-License-Identifier: Apache-2.0
"""Node states: read Slurm's words for them into sets of flags, and say what a set means. Pure.

A state is one base word (IDLE, MIXED, …) and any number of flags (DRAIN, COMPLETING, …). scontrol, pyslurm and sinfo's
StateComplete join them with ``+``; their order differs, so only sets are compared.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, TypeAlias

from refloat_slurm.gateway import NodeView

State: TypeAlias = NodeView | frozenset[str]

BASES: Final = frozenset({"ALLOCATED", "DOWN", "ERROR", "FUTURE", "IDLE", "MIXED", "UNKNOWN"})
"""The base states: exactly one of them is in every state."""

REBOOTS: Final = frozenset({"REBOOT_ISSUED", "REBOOT_REQUESTED"})
"""`scontrol reboot` or its RebootProgram is at work."""

POWERS: Final = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "POWER_DOWN", "POWER_UP"})
"""Power saving, or an administrator by `state=POWER_DOWN`, is at work."""

FLAGS: Final = (
    REBOOTS
    | POWERS
    | {
        "BLOCKED",
        "CLOUD",
        "COMPLETING",
        "DRAIN",
        "DYNAMIC_FUTURE",
        "DYNAMIC_NORM",
        "EXTERNAL",
        "FAIL",
        "INVALID_REG",
        "MAINTENANCE",
        "NOT_RESPONDING",
        "PLANNED",
        "RESERVED",
        "RESUME",
    }
)
"""The flags that Slurm 22.05 to 26.05 print."""

_BUSY: Final = frozenset({"ALLOCATED", "MIXED", "COMPLETING"})
_WORKING: Final = frozenset({"ALLOCATED", "IDLE", "MIXED"})
# MAINTENANCE and RESERVED are not here: such a node runs the jobs of its reservation. Nor are PLANNED and COMPLETING.
_OUT: Final = frozenset({"BLOCKED", "DRAIN", "FAIL", "INVALID_REG", "NOT_RESPONDING", "RESUME"}) | REBOOTS | POWERS

# Releases before 22.05 and sinfo's short states mark some flags with a character (sinfo(1), NODE STATE CODES).
_MARKS: Final[Mapping[str, str]] = {
    "*": "NOT_RESPONDING",
    "~": "POWERED_DOWN",
    "#": "POWERING_UP",
    "!": "POWER_DOWN",
    "%": "POWERING_DOWN",
    "$": "MAINTENANCE",
    "@": "REBOOT_REQUESTED",
    "^": "REBOOT_ISSUED",
    "-": "PLANNED",
}
_ALIASES: Final[Mapping[str, str]] = {"MAINT": "MAINTENANCE", "ALLOC": "ALLOCATED", "MIX": "MIXED", "UNK": "UNKNOWN"}
_WORD = re.compile(r"(?P<word>[A-Z][A-Z_]*|\?)(?P<marks>[*~#!%$@^-]*)")


def parse_flags(text: str) -> frozenset[str]:
    """Read ``IDLE+DRAIN``, ``idle+drain`` or ``DOWN*+DRAIN`` into a set of upper-case flags, base state included.

    A flag that is not known is kept (see `unknown_flags`; Slurm prints ``?`` for a bit without a name).

    Raises:
        ValueError: the text is no state: empty, not words joined by ``+``, or its first word is no base state.
    """
    words = [_WORD.fullmatch(part) for part in text.strip().upper().split("+")]
    flags: list[str] = []
    for match in words:
        if match is None:
            raise ValueError(f"not a node state: {text!r}")
        flags.append(_ALIASES.get(match["word"], match["word"]))
        flags.extend(_MARKS[mark] for mark in match["marks"])
    if flags[0] not in BASES or len(BASES.intersection(flags)) != 1:
        raise ValueError(f"no base state, or more than one, in the node state {text!r}")
    return frozenset(flags)


def is_drain_set(state: State) -> bool:
    """Whether the node carries the DRAIN flag: draining or drained."""
    return "DRAIN" in _flags(state)


def is_busy(state: State) -> bool:
    """Whether jobs run or their epilogs do. A suspended job does not show here: ask `SlurmGateway.jobs`."""
    return not _BUSY.isdisjoint(_flags(state))


def is_drained(state: State) -> bool:
    """Whether DRAIN is set, the base state is known and nothing runs by the flags. Suspended jobs do not show here."""
    flags = _flags(state)
    return "DRAIN" in flags and has_known_base(flags) and not is_busy(flags)


def is_in_service(state: State) -> bool:
    """Whether Slurm would start jobs here: a working base state and nothing that keeps jobs away."""
    return _serves(_flags(state))


@lru_cache(maxsize=1024)
def _serves(flags: frozenset[str]) -> bool:
    """The same of flags; of a whole cluster's nodes only a few sets of them differ."""
    return has_known_base(flags) and not _WORKING.isdisjoint(flags) and _OUT.isdisjoint(flags)


def is_foreign_operation(state: State) -> bool:
    """Whether Slurm itself reboots the node or switches its power: somebody else's operation, so stand back."""
    return not (REBOOTS | POWERS).isdisjoint(_flags(state))


def has_known_base(state: State) -> bool:
    """Whether there is one base state and it tells something: not ERROR, nor UNKNOWN as after slurmctld's start."""
    bases = BASES & _flags(state)
    return len(bases) == 1 and bases.isdisjoint({"UNKNOWN", "ERROR"})


def unknown_flags(state: State) -> frozenset[str]:
    """The flags that this release of refloat does not know: whoever sees any should wait, not guess."""
    return _flags(state) - BASES - FLAGS


def _flags(state: State) -> frozenset[str]:
    return state.flags if isinstance(state, NodeView) else state


def text(state: State) -> str:
    """The state as Slurm prints it: the base word first, then the flags in alphabetical order."""
    flags = _flags(state)
    return "+".join([*sorted(flags & BASES), *sorted(flags - BASES)])
