# SPDX-License-Identifier: Apache-2.0
"""Whether a node is out by Slurm's word alone, and why; pure."""

from collections.abc import Mapping
from typing import Final

from refloat_contract import reasons
from refloat_contract.messages import SlurmView
from refloat_contract.reasons import Dialect, Trigger
from refloat_slurm import states

# First hit wins: the flag that says most comes first.
_OUT_FLAGS: Final[Mapping[str, str]] = {
    "DOWN": "down",
    "FAIL": "fail",
    "FAILING": "fail",
    "ERROR": "error",
    "FUTURE": "future",
    "INVALID_REG": "invalid registration",
    "POWERED_DOWN": "powered down",
    "POWERING_DOWN": "powering down",
    "POWER_DOWN": "powering down",
    "POWERING_UP": "powering up",
    "POWER_UP": "powering up",
    "REBOOT_ISSUED": "rebooting by Slurm",
    "REBOOT_REQUESTED": "about to be rebooted by Slurm",
    "UNKNOWN": "not registered",
    "NOT_RESPONDING": "not responding",
    "NO_RESPOND": "not responding",
}
_SILENT: Final = frozenset({"NOT_RESPONDING", "NO_RESPOND", "UNKNOWN"})
_SWITCHED_OFF: Final = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN"})
_AMISS: Final = frozenset({"DOWN", "DRAIN", "ERROR", "FAIL", "FAILING", "INVALID_REG"})
_REASONED: Final = frozenset({"DOWN", "DRAIN", "FAIL", "FAILING", "REBOOT_ISSUED", "REBOOT_REQUESTED"})
_SHOWN: Final = 60


def cause(view: SlurmView, dialect: Dialect) -> str:
    """Why the node is out; empty when it is not.

    A node that merely drains with a trigger is not out yet: it asks for a permit first, and 500 nodes that somebody
    drained by hand must not block each other.
    """
    if not view.known:
        return "unknown to Slurm"
    flags = frozenset(view.flags)
    if not _OUT_FLAGS.keys().isdisjoint(flags):
        word = next(words for flag, words in _OUT_FLAGS.items() if flag in flags)
        # A node that is not held may still show the reason of an earlier time (facts/slurm.md, trap 2).
        return _with_reason(word, view.reason) if flags & _REASONED else word
    if states.is_drain_set(flags) and not isinstance(reasons.parse(view.reason, dialect), Trigger):
        return _with_reason("drained" if states.is_drained(flags) else "draining", view.reason)
    return ""


def is_absent(view: SlurmView) -> bool:
    """Whether the node neither serves nor is missing: not there yet (FUTURE), or switched off by power saving.

    Budgets count it on neither side. One that is drained or down as well is out like any other.
    """
    flags = view.flags
    return view.known and ("FUTURE" in flags or (not _SWITCHED_OFF.isdisjoint(flags) and _AMISS.isdisjoint(flags)))


def is_down_for_sure(view: SlurmView) -> bool:
    """Whether slurmctld talks to the node and holds it DOWN: no job can be there, and none will come.

    A node that is merely silent may be back the next second: after a restart of slurmctld all nodes look like that.
    """
    flags = frozenset(view.flags)
    return view.known and "DOWN" in flags and not flags & _SILENT


def is_in_service(view: SlurmView) -> bool:
    """Whether Slurm knows the node and gives it jobs."""
    return view.known and states.is_in_service(frozenset(view.flags))


def _with_reason(word: str, reason: str) -> str:
    line = reasons.one_line(reason, _SHOWN)
    return f"{word}: {line}" if line else word
