# SPDX-License-Identifier: Apache-2.0
"""The process table: job steps and slurmd. Reads /proc only, never a path of a process."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from refloat_agent.observation import StepProcess
from refloat_contract.errors import Transient

_SCAN_S: Final = 10.0
_SLURMSTEPD: Final = "slurmstepd"
_START_TIME: Final = 19  # field 22 of /proc/PID/stat, counted from the state after the name


@dataclass(frozen=True, slots=True)
class ProcProcesses:
    """Processes as /proc shows them."""

    proc: Path = Path("/proc")

    async def steps(self) -> tuple[StepProcess, ...]:
        """The slurmstepd processes that serve a job.

        ``slurmstepd infinity`` only keeps the cgroup scope alive and is there on an idle node (Slurm >= 22.05 with
        cgroup/v2), so it is no step.

        Raises:
            Transient: /proc cannot be listed.
        """
        try:
            # cmdline takes the process's own memory lock: behind a hung filesystem it may never come.
            async with asyncio.timeout(_SCAN_S):
                return await asyncio.to_thread(self._steps)
        except TimeoutError as error:
            raise Transient(f"{self.proc} was not read within {_SCAN_S:g} s") from error

    def _steps(self) -> tuple[StepProcess, ...]:
        found = []
        for pid in self._pids():
            if self._read(pid, "comm").strip() != _SLURMSTEPD:
                continue
            words = self._read(pid, "cmdline").split("\0")
            if words[1:2] != ["infinity"]:
                found.append(StepProcess(pid, " ".join(words).strip() or _SLURMSTEPD))
        return tuple(found)

    def started_at(self, name: str) -> list[float]:
        """When the processes of this name started, in seconds since 1970 by this machine's clock."""
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        starts = []
        for pid in self._pids():
            if self._read(pid, "comm").strip() != name:
                continue
            fields = self._read(pid, "stat").rpartition(")")[2].split()
            if len(fields) > _START_TIME:
                age_s = since_boot - int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")
                starts.append(time.time() - age_s)
        return starts

    def _pids(self) -> list[int]:
        try:
            return [int(entry.name) for entry in self.proc.iterdir() if entry.name.isdigit()]
        except OSError as error:
            raise Transient(f"{self.proc} cannot be listed: {error.strerror}") from error

    def _read(self, pid: int, name: str) -> str:
        try:
            return (self.proc / str(pid) / name).read_text(errors="replace")
        except OSError:
            return ""  # it has ended since we listed it
