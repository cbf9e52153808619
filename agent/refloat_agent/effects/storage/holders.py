# SPDX-License-Identifier: Apache-2.0
"""Who holds a mount, and whether an unmount hangs in the kernel; asked of a process that may hang."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from refloat_agent.effects.storage.driver import OUTPUT_CAP_BYTES
from refloat_agent.effects.storage.table import Entry
from refloat_checks.proc import Roots
from refloat_contract.errors import Transient
from refloat_service import commands

WORKER: Final = (sys.executable, "-I", "-S", "-X", "utf8", str(Path(__file__).with_name("holders_worker.py")))
MOST: Final = 20
SHOWN: Final = 3
BUDGET_S: Final = 5.0
DEADLINE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a mount. ``job`` is the Slurm job that its cgroup names; ``held_by`` what holds it."""

    pid: int
    uid: int
    command: str
    cgroup: str
    job: str
    held_by: str

    def __str__(self) -> str:
        """As an administrator wants it in one line."""
        job = f" (job {self.job})" if self.job else ""
        return f"pid {self.pid} {self.command} uid {self.uid}{job}"


@dataclass(frozen=True, slots=True)
class Stuck:
    """An unmount that sleeps in the kernel and takes no signal."""

    pid: int
    command: str
    sleeps_in: str

    def __str__(self) -> str:
        """As an administrator wants it in one line."""
        place = f" in {self.sleeps_in}" if self.sleeps_in else ""
        return f"pid {self.pid} {self.command} sleeps uninterruptibly{place}"


@dataclass(frozen=True, slots=True)
class Holders:
    """All who hold a mount, as far as they were found in time; ``others`` are no processes."""

    processes: tuple[Holder, ...] = ()
    more: int = 0
    complete: bool = True
    others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anybody was found."""
        return bool(self.processes or self.others)

    def __str__(self) -> str:
        """The first of them, and how many more there are."""
        said = [*map(str, self.processes), *self.others]
        more = len(said) - SHOWN + self.more
        tail = [f"and {more} more"] if more > 0 else []
        return "; ".join([*said[:SHOWN], *tail])


@dataclass(frozen=True, slots=True)
class HolderSearch:
    """Looks through /proc in a process of its own. Every call raises Transient if that gave no answer in time."""

    roots: Roots
    argv: Sequence[str] = WORKER

    async def who(self, entry: Entry) -> Holders:
        """Find who holds a mount: by their links and open files first, by their mappings only if that finds nobody."""
        others = await self._ask("others", entry.mount.point)
        found: dict[str, Any] = {}
        for look in ("links", "maps"):
            found = await self._ask(look, entry.device, str(MOST), str(BUDGET_S))
            if found["holders"]:
                break
        processes = tuple(Holder(**each) for each in found["holders"])
        return Holders(processes, found["more"], found["complete"], tuple(others))

    async def stuck(self, point: str) -> Stuck | None:
        """Find an unmount of this point that hangs in the kernel."""
        found = await self._ask("stuck", point, str(BUDGET_S))
        return Stuck(**found) if found else None

    async def _ask(self, look: str, *words: str) -> Any:
        argv = [*self.argv, look, str(self.roots.proc), str(self.roots.sys), *words]
        done = await commands.run(argv, deadline_s=DEADLINE_S, cap_bytes=OUTPUT_CAP_BYTES)
        try:
            said = json.loads(done.stdout)
        except ValueError as error:
            raise Transient(f"who holds it could not be read: {done.complaint}") from error
        return said
