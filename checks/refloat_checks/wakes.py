# SPDX-License-Identifier: Apache-2.0
"""The words in which a check says what wakes it: events after which its level may be another one.

A wake-up proves nothing. The check looks at the level, as it does on its interval; an event that comes too often, or
for nothing, costs a look and no more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from refloat_checks.proc import Process

JOBS: Final = "/system.slice/slurmstepd.scope/job_*"
"""The control groups of Slurm's jobs (cgroup v2), for CgroupEmpty."""


@dataclass(frozen=True, slots=True)
class MountTable:
    """Something was mounted, unmounted or remounted in our mount namespace."""

    def __str__(self) -> str:
        return "the mount table"


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A network link whose name fits this glob came, went, or changed its state or addresses."""

    name: str

    def __str__(self) -> str:
        return f"link {self.name}"


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file came, went, was written, or changed its mode or owner; on a local filesystem only."""

    path: str

    def __str__(self) -> str:
        return f"file {self.path}"


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """A process that fits has ended, or one is there again. ``what`` names it; two of one name are the same."""

    what: str
    fits: Callable[[Process], bool] = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"process {self.what}"


@dataclass(frozen=True, slots=True)
class UnitChange:
    """A systemd unit whose name fits a match string changed its state."""

    pattern: str

    def __str__(self) -> str:
        return f"unit {self.pattern}"


class LogReader(Protocol):
    """Reads a log of the kernel, and knows which of its lines change anything. Reading raises OSError."""

    on_change: Callable[[], None] | None
    """Called whenever what was read changed something, whoever read it."""

    @property
    def records(self) -> int:
        """How many records were read."""
        ...

    @property
    def lost(self) -> int:
        """How many records were overwritten before they were read."""
        ...

    def open(self) -> int:
        """Open the log unless it is open; the descriptor is readable when there are new records."""
        ...

    def read_new(self, now_s: float) -> bool:
        """Read the next records; true if more may be there."""
        ...

    def close(self) -> None:
        """Close the log."""
        ...


@dataclass(frozen=True, slots=True)
class KernelLog:
    """The kernel logged a line that changes what a reader of this log has found."""

    path: str
    reader: LogReader = field(repr=False)

    def __str__(self) -> str:
        return f"the kernel log {self.path}"


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """A device of this subsystem (`pci`, `block`, `infiniband`) came, went or changed, as the kernel tells udev."""

    subsystem: str

    def __str__(self) -> str:
        return f"{self.subsystem} devices"


@dataclass(frozen=True, slots=True)
class Pressure:
    """Tasks were kept waiting for a resource (`memory`, `io`) for a good part of the last seconds."""

    resource: str

    def __str__(self) -> str:
        return f"pressure on {self.resource}"


@dataclass(frozen=True, slots=True)
class CgroupEmpty:
    """The last process of a control group ended, or its first one began; or a group came or went.

    The path is the one below /sys/fs/cgroup. Where its last part is a glob, groups that fit it come and go.
    """

    path: str

    def __str__(self) -> str:
        return f"control group {self.path}"


@dataclass(frozen=True, slots=True)
class ClockSet:
    """The wall clock was set: it jumped."""

    def __str__(self) -> str:
        return "the clock being set"


Wake = (
    MountTable
    | LinkChange
    | FileChange
    | ProcessExit
    | UnitChange
    | KernelLog
    | DeviceChange
    | Pressure
    | CgroupEmpty
    | ClockSet
)
