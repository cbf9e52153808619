# SPDX-License-Identifier: Apache-2.0
"""Does what an outcome asks for: the configuration's own commands, kills, renices, directories for mounts."""

from __future__ import annotations

import os
import signal

from refloat_checks.nhc.native import (
    Action,
    AwaitExit,
    Command,
    Kill,
    MakeDirectory,
    NhcOutcome,
    Renice,
    Shell,
)
from refloat_contract.errors import Refused, Transient
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from refloat_checks.nhc.engine import Engine

LAUNCHER: Final = ("/usr/bin/env", "--")
_KILLED: Final = 137
_GONE_S: Final = 1.0
_STARTED_FIELD: Final = 19  # of /proc/PID/stat (proc(5) counts from 1), behind the command's closing bracket


@record
class Performer:
    """Performs actions, each within `deadline_s`, with NHC's environment."""

    engine: Engine
    deadline_s: float = 30.0
    env: Mapping[str, str] | None = None

    async def settled(self, outcome: NhcOutcome) -> NhcOutcome:
        """Do what an outcome asks for, and give the outcome as it stands then."""
        if outcome.settle is None:
            for action in outcome.actions:
                await self._status(action, wait=False)
            return outcome
        return outcome.settle([await self._status(action, wait=True) for action in outcome.actions])

    async def _status(self, action: Action, *, wait: bool) -> int:
        match action:
            case Shell(text):
                return await self._run(("bash", "-c", text), wait=wait)
            case Command(argv):
                return await self._run(argv, wait=wait)
            case MakeDirectory(path, mode):
                return await self._run(("mkdir", "-p", "-m", f"{mode:o}", "--", path), wait=True)
            case Kill(pid, ticks):
                return kill(pid, ticks)
            case Renice(pid, by, ticks):
                return renice(pid, by, ticks)
            case AwaitExit(pid, ticks):
                return await gone(pid, ticks, self.engine)

    async def _run(self, argv: tuple[str, ...], *, wait: bool) -> int:
        # setsid(1) with --fork ends at once, so what it starts is nobody's child here.
        launched = argv if wait else ("setsid", "--fork", "sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh", *argv)
        try:
            done = await self.engine.command((*LAUNCHER, *launched), deadline_s=self.deadline_s, env=self.env)
        except Transient:
            return _KILLED
        except Refused:
            return 127
        return done.returncode if done.returncode >= 0 else 128 - done.returncode


def kill(pid: int, ticks: int | None) -> int:
    """Kill this very process: not another one that has its number by now."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return 1
    try:
        if not _is_same(pid, ticks):
            return 1
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return 1
    finally:
        os.close(handle)
    return 0


def renice(pid: int, by: str, ticks: int | None) -> int:
    """Add to a process's niceness."""
    try:
        if not _is_same(pid, ticks):
            return 1
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid) + int(by))
    except (OSError, ValueError):
        return 1
    return 0


async def gone(pid: int, ticks: int | None, engine: Engine) -> int:
    """Wait a moment for a process to end: 0 when it has."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return 0
    try:
        if not _is_same(pid, ticks):
            return 0
        return 0 if await engine.ends(handle, _GONE_S) else 1
    finally:
        os.close(handle)


def _is_same(pid: int, ticks: int | None) -> bool:
    if ticks is None:
        return True
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib is slow
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return False
    return int(fields[_STARTED_FIELD]) == ticks
