# SPDX-License-Identifier: Apache-2.0
"""check_moab_sched, _rm, _torque: what Moab and TORQUE say of themselves."""

from __future__ import annotations

import re

from refloat_checks.nhc.checks.cmd import run_output
from refloat_checks.nhc.checks.options import Options, getopts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

_SCHED: Final = "check_moab_sched"
_RM: Final = "check_moab_rm"
_TORQUE: Final = "check_moab_torque"
_VERSION: Final = re.compile(r"Version:\s+([0-9]+\.[0-9]+\.[0-9])\s+")
_ALERT: Final = re.compile(r"ALERT:\s+(.*)$")
_STATE: Final = re.compile(r"^([A-Z][A-Z]\[[^\]]+\])\s+State: ([A-Za-z0-9_]+)")
_SCHEDULING: Final = re.compile(r"set server scheduling = ([A-Za-z0-9]+)")


def sched_fault(lines: Iterable[str], version: str, alert: str) -> str:
    """Say what is wrong with Moab's scheduler: its version (a match string), or alerts that match another."""
    for line in lines:
        found = _VERSION.search(line) if version else None
        if found is not None:
            if not matches(version, found[1]):
                return f"Moab version {found[1]} != expected version {version}"
        elif (found := _ALERT.search(line)) is not None and matches(alert, found[1]):
            return f"Moab Alert:  {found[1]}"
    return ""


def rm_fault(lines: Iterable[str]) -> str:
    """Say which resource manager, but Moab's internal one, is not active."""
    for line in lines:
        found = _STATE.search(line)
        if found is not None and "internal" not in found[1] and found[2] != "Active":
            return f'External resource manager "{found[1]}" is in state "{found[2]}"'
    return ""


def torque_fault(lines: Iterable[str]) -> str:
    """Say so if TORQUE does not schedule."""
    for line in lines:
        found = _SCHEDULING.search(line)
        if found is not None and found[1] != "True":
            return f'Scheduling not active (set to "{found[1]}") in TORQUE configuration'
    return ""


def judge_sched(lines: Sequence[str], version: str, alert: str) -> NhcOutcome:
    """Compare Moab's version with a match string, and fail for alerts that match another."""
    return _judge(_SCHED, sched_fault(lines, version, alert))


def judge_rm(lines: Sequence[str]) -> NhcOutcome:
    """Fail for a resource manager, but Moab's internal one, that is not active."""
    return _judge(_RM, rm_fault(lines))


def judge_torque(lines: Sequence[str]) -> NhcOutcome:
    """Fail if TORQUE does not schedule."""
    return _judge(_TORQUE, torque_fault(lines))


def _judge(name: str, fault: str) -> NhcOutcome:
    return failed(name, fault) if fault else PASSED


def _words(given: Options, command: Sequence[str], *, strict: bool) -> list[str]:
    patterns = given.all("m")
    if strict:
        # In NHC the quotes round a match string become a part of it, and blanks in it end it.
        options = " ".join(f'-m "{pattern}"' for pattern in patterns).split()
    else:
        options = [word for pattern in patterns for word in ("-m", pattern)]
    return ["-t", given.last("t") or "5", *options, *command]


async def _sched(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    given = getopts(_SCHED, ":a:m:t:v:", words)
    if isinstance(given, NhcOutcome):
        return given
    command = [*run.variable("MDIAG_CMD", "mdiag").split(), "-S", "-v"]
    outcome, done = await run_output(_SCHED, _words(given, command, strict=run.strict), run)
    return judge_sched(done.lines, given.last("v"), given.last("a")) if outcome is PASSED else outcome


async def _rm(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    given = getopts(_RM, ":m:t:", words)
    if isinstance(given, NhcOutcome):
        return given
    command = [*run.variable("MDIAG_CMD", "mdiag").split(), "-R", "-v"]
    outcome, done = await run_output(_RM, _words(given, command, strict=run.strict), run)
    # NHC's own expression for a state cannot be read by the shell, so it finds none.
    return judge_rm(done.lines) if outcome is PASSED and not run.strict else outcome


async def _torque(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    given = getopts(_TORQUE, ":m:t:", words)
    if isinstance(given, NhcOutcome):
        return given
    command = ["qmgr", "-c", "print server"]
    outcome, done = await run_output(_TORQUE, _words(given, command, strict=run.strict), run)
    return judge_torque(done.lines) if outcome is PASSED else outcome


CHECKS: Final = (NativeCheck(_SCHED, _sched), NativeCheck(_RM, _rm), NativeCheck(_TORQUE, _torque))
