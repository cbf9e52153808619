# SPDX-License-Identifier: Apache-2.0
"""The mount table with the kernel's own numbers: which mount is which, and which filesystem it shows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from refloat_checks import proc

AUTOFS: Final = "autofs"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of /proc/self/mountinfo (proc(5)): a mount's id is its own until it is unmounted, and then reused."""

    id: str
    device: str
    """major:minor of the filesystem; all mounts of it have the same."""
    mount: proc.Mount


@dataclass(frozen=True, slots=True)
class Table:
    """All mounts of our namespace, in mount order: later ones cover earlier ones."""

    entries: tuple[Entry, ...]

    @property
    def mounts(self) -> tuple[proc.Mount, ...]:
        """The same without numbers."""
        return tuple(entry.mount for entry in self.entries)

    def at(self, point: str) -> Entry | None:
        """What is mounted at exactly this point; the one on top."""
        return next((entry for entry in reversed(self.entries) if entry.mount.point == point), None)

    def of_type(self, fstype: str) -> tuple[Entry, ...]:
        """The mounts of one type."""
        return tuple(entry for entry in self.entries if entry.mount.fstype == fstype)


def parse(text: str) -> Table:
    """Parse /proc/PID/mountinfo.

    Raises ValueError for a line that is not of that form.
    """
    return Table(tuple(_entries(text.split("\n"))))


def _entries(lines: Iterable[str]) -> Iterable[Entry]:
    for line in filter(None, lines):
        (mount,) = proc.parse_mountinfo(line)
        number, _parent, device, _rest = line.split(" ", 3)
        yield Entry(number, device, mount)


def read(roots: proc.Roots) -> Table:
    """Read the table of our own namespace."""
    return parse(proc.read_text(roots.proc / "self" / "mountinfo"))
