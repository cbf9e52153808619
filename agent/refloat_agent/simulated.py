# SPDX-License-Identifier: Apache-2.0
"""A simulated machine beneath a real agent: a small /proc tree, mounts, power, and job steps from a simulated Slurm.

The agent's own adapters and checks read the tree as they read a real one; only what would mount, reboot or run a
command is played here.
"""

import asyncio
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from refloat_agent.daemon import Machine
from refloat_agent.effects.mounts import judge
from refloat_agent.effects.processes import ProcProcesses
from refloat_agent.observation import ServiceFacts, StepProcess, StorageFacts
from refloat_agent.recipes import Argv, Way
from refloat_agent.storage import Storage
from refloat_checks import proc
from refloat_contract.errors import Refused
from refloat_slurm.simulated import SimulatedSlurmctld

FIRMWARE_S: Final = 20.0
"""What CLOCK_BOOTTIME of a simulated machine shows when its agent starts."""
_ROOT_LINE: Final = "21 1 0:20 / / rw,relatime - overlay overlay rw\n"


@dataclass
class SimulatedMachine:
    """One machine, and what may go wrong with it. Times are real seconds."""

    name: str
    tree: Path
    slurmctld: SimulatedSlurmctld
    storage: tuple[Storage, ...]
    daemons: tuple[str, ...] = ()
    """Processes that run after a boot."""
    image: str = ""
    mount_s: float = 0.2
    dies_at_boot: frozenset[str] = frozenset()
    """Daemons that do not come up after a reboot."""
    boot: str = field(default_factory=lambda: str(uuid.uuid4()))
    booted_s: float = field(default_factory=time.monotonic)
    rebooting: asyncio.Event = field(default_factory=asyncio.Event)
    _mounted: set[str] = field(default_factory=set)

    @property
    def roots(self) -> proc.Roots:
        """Where the agent reads this machine's facts."""
        return proc.Roots(proc=self.tree / "proc", sys=self.tree / "sys", root=self.tree)

    def start(self, *, first: bool) -> None:
        """Boot: a new boot id, an empty root, storage unmounted (mounted, on the first boot), the daemons up."""
        if not first:
            self.boot = str(uuid.uuid4())
        self.booted_s = time.monotonic()
        self.rebooting = asyncio.Event()
        shutil.rmtree(self.tree, ignore_errors=True)
        (self.tree / "proc/self").mkdir(parents=True)
        self._mounted = {one.name for one in self.storage} if first else set()
        self._show_mounts()
        up = [name for name in self.daemons if first or name not in self.dies_at_boot]
        for number, name in enumerate(["slurmd", *up]):
            self._show_process(100 + number, name)
        self.slurmctld.register(self.name, time.time())

    def machine(self) -> Machine:
        """The adapters for an agent on this machine."""
        return Machine(
            clock=_SimulatedClock(self),
            mounts=_SimulatedMounts(self),
            services=_NoServices(),
            power=_SimulatedPower(self),
            processes=_SimulatedProcesses(self, ProcProcesses(self.roots.proc)),
            commands=_NoCommands(),
            roots=self.roots,
        )

    def mount(self, name: str) -> None:
        """Mount one storage."""
        self._mounted.add(name)
        self._show_mounts()

    def unmount(self, name: str) -> None:
        """Unmount one storage.

        Raises:
            Refused: a job uses it.
        """
        if self.slurmctld.jobs_on(self.name):
            raise Refused(f"umount: {name}: target is busy")
        self._mounted.discard(name)
        self._show_mounts()

    def _show_mounts(self) -> None:
        lines = [_ROOT_LINE]
        for number, one in enumerate(self.storage, start=30):
            if one.name in self._mounted:
                source, fstype = one.source or one.name, one.fstype or "lustre"
                lines.append(f"{number} 21 0:{number} / {one.path} rw,relatime - {fstype} {source} rw\n")
        (self.tree / "proc/self/mountinfo").write_text("".join(lines))

    def _show_process(self, pid: int, name: str) -> None:
        folder = self.tree / "proc" / str(pid)
        folder.mkdir()
        start_ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * 100)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cmdline").write_text(f"/usr/sbin/{name}\0")
        (folder / "status").write_text(f"Name:\t{name}\nUid:\t0\t0\t0\t0\n")
        zeros = " ".join(["0"] * 17)
        (folder / "stat").write_text(f"{pid} ({name}) S 1 {zeros} {start_ticks} 0 0\n")


@dataclass(frozen=True, slots=True)
class _SimulatedClock:
    owner: SimulatedMachine

    def boottime_s(self) -> float:
        return FIRMWARE_S + time.monotonic() - self.owner.booted_s

    def wall_ns(self) -> int:
        return time.time_ns()


@dataclass(frozen=True, slots=True)
class _SimulatedMounts:
    owner: SimulatedMachine

    async def state(self) -> tuple[StorageFacts, ...]:
        table = proc.read_mounts(self.owner.roots)
        return tuple(judge(one, table) for one in self.owner.storage)

    async def mount(self) -> None:
        for one in self.owner.storage:
            await asyncio.sleep(self.owner.mount_s)
            self.owner.mount(one.name)

    async def unmount(
        self,
        cycle: str,  # noqa: ARG002 - nothing is left behind here, and nothing waited for
        *,
        reboots: bool,  # noqa: ARG002
        still: Callable[[], bool],  # noqa: ARG002
    ) -> None:
        for one in reversed(self.owner.storage):
            await asyncio.sleep(self.owner.mount_s)
            self.owner.unmount(one.name)


@dataclass(frozen=True, slots=True)
class _SimulatedPower:
    owner: SimulatedMachine

    def boot_id(self) -> str:
        return self.owner.boot

    def image(self) -> str:
        return self.owner.image

    async def reboot(self, way: Way) -> None:  # noqa: ARG002 - a simulated machine goes down by any
        self.owner.rebooting.set()


@dataclass(frozen=True, slots=True)
class _SimulatedProcesses:
    owner: SimulatedMachine
    real: ProcProcesses

    async def steps(self) -> tuple[StepProcess, ...]:
        jobs = self.owner.slurmctld.jobs_on(self.owner.name)
        return tuple(StepProcess(1000 + int(job.id), f"slurmstepd: [{job.id}.batch]") for job in jobs)

    def started_at(self, name: str) -> list[float]:
        return self.real.started_at(name)


class _NoServices:
    async def state(self) -> tuple[ServiceFacts, ...]:
        return ()

    async def stop(self, *, keep_going: bool) -> None:
        """Nothing to stop."""

    async def start(self) -> None:
        """Nothing to start."""


class _NoCommands:
    async def run(self, argvs: Sequence[Argv], deadline_s: float, *, keep_going: bool) -> None:  # noqa: ARG002
        raise Refused(f"a simulated machine runs no commands: {' '.join(argvs[0])}")
