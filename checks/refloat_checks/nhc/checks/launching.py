# SPDX-License-Identifier: Apache-2.0
"""Run the programs that some checks are about, as NHC's shell would see them end."""

from __future__ import annotations

import os

from refloat_checks.nhc.engine import Late
from refloat_checks.nhc.native import NhcRun
from refloat_contract.errors import Refused
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

PATH: Final = "/sbin:/usr/sbin:/bin:/usr/bin"
NOT_FOUND: Final = 127
OUTPUT_CAP_BYTES: Final = 1 << 20
DEADLINE_S: Final = 3600.0  # a backstop: the check's own deadline cancels the command, which kills its process group
_NOT_EXECUTABLE: Final = 126
CANNOT_RUN: Final = frozenset({_NOT_EXECUTABLE, NOT_FOUND})
_SIGNALLED: Final = 128
TERMINATED: Final = 143


@record
class Ended:
    """How a program ended, in the shell's numbers, and what it said; `error` alone goes to NHC's log."""

    rc: int
    output: str
    error: str = ""
    timed_out: bool = False

    @property
    def lines(self) -> list[str]:
        """The lines of its output; empty ones are lost."""
        return [line for line in self.output.split("\n") if line]


async def launch(argv: Sequence[str], run: NhcRun, timeout_s: float | None = None) -> Ended:
    """Run a program to its end, or to the end of its time; a program that is not there is the shell's 127.

    Raises Refused for an offline tree: no program is run there.
    """
    run.facts.require_running()
    try:
        started = run.engine.command(argv, deadline_s=DEADLINE_S, env=_environment(run), cap_bytes=OUTPUT_CAP_BYTES)
        done = await run.engine.within(timeout_s, started)
    except Late:
        return Ended(TERMINATED, "", timed_out=True)
    except Refused as error:
        rc = _NOT_EXECUTABLE if "ermission denied" in str(error) else NOT_FOUND
        return Ended(rc, "", str(error))
    return Ended(_as_shell(done.returncode), done.stdout, done.stderr)


def _as_shell(returncode: int) -> int:
    return returncode if returncode >= 0 else _SIGNALLED - returncode


def _environment(run: NhcRun) -> Mapping[str, str]:
    path = run.variable("PATH", PATH)
    return {**os.environ, "PATH": path, **run.environment}


async def once(argv: Sequence[str], run: NhcRun) -> Ended:
    """Run a program once per pass, for all checks that look at what it says."""
    return await run.facts.remember(("program", *argv), lambda: launch(argv, run))
