# SPDX-License-Identifier: Apache-2.0
"""When NHC drains and resumes a node in Slurm, and with which words; for states as `sinfo -o %t` spells them."""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

LEADER: Final = "NHC:"
NO_REASON: Final = "none"
# Reboot pending, powering off, ... and what this NHC release does not know yet: left alone, whatever the checks found.
_LEFT_ALONE_WITH: Final = ("@", "#", "-")
_LEFT_ALONE: Final = ("boot", "plnd")
_IN_SERVICE: Final = ("alloc", "comp", "idle", "mix", "resume", "resv", "undrain")
_OUT_OF_SERVICE: Final = ("drain", "drng", "fail", "maint")
_DOWN: Final = "down"


def offline(
    state: str, reason: str, message: str, *, node: str | None = None, ignore_empty_note: bool = False
) -> list[str] | None:
    """Give the arguments with which NHC has scontrol drain a node whose check failed; None if it leaves it.

    A reason that is not NHC's is kept, also where it is a left-over on a node in service, and the message is lost then.
    """
    if _is_left_alone(state) or not state.startswith((*_IN_SERVICE, *_OUT_OF_SERVICE)):
        return None
    leader, note = _split(reason)
    if leader == NO_REASON and state.startswith(_OUT_OF_SERVICE) and not ignore_empty_note:
        return None
    if leader in {NO_REASON, LEADER}:
        leader, note = LEADER, message
    return ["update", "State=DRAIN", *_named(node), f"Reason={leader} {note}"]


def online(state: str, reason: str, *, node: str | None = None, ignore_empty_note: bool = False) -> list[str] | None:
    """Give the arguments with which NHC has scontrol resume a node whose checks passed; None if it leaves it."""
    if _is_left_alone(state) or not state.startswith((*_OUT_OF_SERVICE, _DOWN)):
        return None
    leader, _ = _split(reason)
    if leader == LEADER or (leader == NO_REASON and ignore_empty_note):
        return ["update", "State=RESUME", *_named(node)]
    return None


def _is_left_alone(state: str) -> bool:
    return any(flag in state for flag in _LEFT_ALONE_WITH) or state.startswith(_LEFT_ALONE)


def _split(reason: str) -> tuple[str, str]:
    """Split off the first word, which tells whose the reason is; runs of blanks in the rest become one."""
    leader, *rest = reason.split() or [""]
    return leader, " ".join(rest)


def _named(node: str | None) -> list[str]:
    return [] if node is None else [f"NodeName={node}"]
