# SPDX-License-Identifier: Apache-2.0
"""One cgroup per container: what is in it is the lab's, and only that is ever killed."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reflab import host
from reflab.errors import TimedOut, Unavailable

ROOT_NAME = "refloat-lab"


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The cgroup of one container and its supervisor."""

    path: Path

    @classmethod
    def of(cls, lab_key: str, node: str) -> "Cgroup":
        """Name the cgroup of `node`; it need not exist."""
        return cls(lab_cgroup(lab_key) / node)

    def create(self) -> None:
        """Make the cgroup if it is not there."""
        self.path.mkdir(parents=True, exist_ok=True)

    def adopt(self, pid: int) -> None:
        """Move a process in; what it starts follows."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def pids(self) -> Iterator[int]:
        """List the processes in it, in this host's numbers."""
        for folder in _folders(self.path):
            with suppress(OSError):
                yield from map(int, (folder / "cgroup.procs").read_text().split())

    def init(self) -> int | None:
        """Return the host's pid of the container's pid 1, or None while none runs."""
        return next((pid for pid in self.pids() if _is_init(pid)), None)

    def cut_power(self) -> bool:
        """Kill the container's pid 1, and with it everything in there; say whether one ran.

        Killing nspawn instead would orphan the container, which then goes on answering.
        """
        pid = self.init()
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def is_populated(self) -> bool:
        """Say whether any process lives in it."""
        try:
            return "populated 1" in (self.path / "cgroup.events").read_text()
        except FileNotFoundError:
            return False

    def is_supervised(self) -> bool:
        """Say whether the supervisor lives: nspawn moves itself and the container into cgroups below this one."""
        try:
            return bool((self.path / "cgroup.procs").read_text().split())
        except OSError:
            return False

    def remove(self, deadline_s: float = 10.0) -> None:
        """Kill what is left in it and remove it; raise `TimedOut` if a process will not die."""
        until = time.monotonic() + deadline_s
        while self.is_populated():
            (self.path / "cgroup.kill").write_text("1")
            if time.monotonic() > until:
                left = ", ".join(str(pid) for pid in self.pids())
                message = f"{self.path}: processes {left} do not die"
                raise TimedOut(message)
            time.sleep(0.05)
        prune(self.path)


def lab_cgroup(lab_key: str) -> Path:
    """Name the cgroup above all containers of one lab."""
    mount = host.cgroup2()
    if mount is None:
        message = "no writable cgroup2 mount on this host"
        raise Unavailable(message)
    return mount / ROOT_NAME / lab_key


def prune(path: Path) -> None:
    """Remove the empty cgroups at and below `path`; the busy ones stay."""
    for folder in reversed(_folders(path)):
        with suppress(OSError):
            folder.rmdir()


def _folders(path: Path) -> list[Path]:
    """List `path` and all below it, parents first; what vanishes meanwhile is left out."""
    # os.walk, as rglob raises when a container's cgroup goes away under it.
    return [Path(folder) for folder, _folders, _files in os.walk(path)]


def _is_init(pid: int) -> bool:
    """Say whether `pid` is number 1 of a pid namespace just below ours."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(numbers) == _depth() + 1 and numbers[-1] == "1"


def _depth() -> int:
    status = Path("/proc/self/status").read_text()
    return next(len(line.split()) - 1 for line in status.splitlines() if line.startswith("NSpid:"))
