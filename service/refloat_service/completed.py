# SPDX-License-Identifier: Apache-2.0
"""How a program that was run ended, whoever waited for it."""

from __future__ import annotations

from refloat_contract.errors import Refused
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

OUTPUT_CAP_BYTES: Final = 8 << 20
# Whoever starts a program waits for the exec itself; an executable on a filesystem that hangs would hang it.
# env(1) is on the root filesystem: what it executes may hang alone, and is killed at the deadline.
LAUNCHER: Final = ("/usr/bin/env", "--")
_CANNOT_RUN: Final = frozenset({126, 127})


@record
class Completed:
    """How a program ended: its exit status (negative: the signal), its output, and the seconds it took."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    duration_s: float

    @property
    def complaint(self) -> str:
        """The last line that the program said, errors first: what to show a human."""
        for text in (self.stderr, self.stdout):
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            if lines:
                return lines[-1]
        return f"exit status {self.returncode}"


def require_program(argv: Sequence[str]) -> None:
    """Refuse what the launcher would take for something else than a program."""
    if not argv or not argv[0] or "=" in argv[0]:
        raise Refused(f"not a program's name: {argv[0] if argv else ''!r}")


def as_run(done: Completed) -> Completed:
    """Give what has ended; Refused where it was the launcher that ended, for there is no such program."""
    if done.returncode in _CANNOT_RUN and done.stderr.startswith(f"{LAUNCHER[0]}: "):
        raise Refused(f"cannot run {done.argv[0]}: {done.complaint.rpartition(': ')[2]}")
    return done
