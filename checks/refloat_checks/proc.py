# SPDX-License-Identifier: Apache-2.0
"""Read what the kernel tells of mounts, processes and links: parsers, and blocking readers that take their roots."""

from __future__ import annotations

import os
from functools import lru_cache

from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path
    from typing import Any, Final

_READ_BYTES: Final = 1 << 16
_READ_ONLY: Final = os.O_RDONLY | os.O_CLOEXEC
_KTHREADD: Final = 2
_ESCAPE_DIGITS: Final = 3


class Place(str):
    """A path that can be joined and opened, and nothing else: importing pathlib takes longer than a health check."""

    __slots__ = ()

    def __truediv__(self, name: str) -> Place:
        """Join as pathlib does."""
        return Place(f"{self.rstrip('/')}/{name}")


class Roots:
    """Where the facts are read: the running system by default, a fixture or an offline tree else.

    The pool of helpers, which alone touches files outside proc and sys, is made with the same `root`.
    """

    def __init__(self, proc: Path | None = None, sys: Path | None = None, root: Path | None = None) -> None:
        from pathlib import Path  # noqa: PLC0415 - see Place

        self.proc, self.sys, self.root = proc or Path("/proc"), sys or Path("/sys"), root or Path("/")

    @property
    def is_running_system(self) -> bool:
        """True if these are the kernel's own tables, so that it may be asked in other ways too."""
        return os.fspath(self.proc) == "/proc"


class RunningSystem(Roots):
    """The roots of the running system, for readers that only join and open them."""

    def __init__(self) -> None:
        place: Any = Place
        self.proc, self.sys, self.root = place("/proc"), place("/sys"), place("/")


@record
class Mount:
    """One line of the mount table. Options are those of the mount and of its filesystem; read-only if either is."""

    point: str
    source: str
    fstype: str
    options: frozenset[str]


@record
class Process:
    """One process. `argv` is empty for kernel threads and zombies; `cmdline` is it with blanks between."""

    pid: int
    ppid: int
    uid: int
    state: str
    comm: str
    argv: tuple[str, ...]

    @property
    def argv0(self) -> str:
        """Its title's first word as ps would show it; kernel threads in brackets."""
        return self.argv[0] if self.argv else f"[{self.comm}]"

    @property
    def cmdline(self) -> str:
        """Its whole title as ps would show it."""
        return " ".join(self.argv) if self.argv else f"[{self.comm}]"

    @property
    def is_alive(self) -> bool:
        """False for a zombie, which runs no more."""
        return self.state not in {"Z", "X", "x"}


@record
class Link:
    """A network device. `None`: its driver does not say (many do not while the link is down)."""

    name: str
    operstate: str
    carrier: bool | None
    speed_mbps: int | None


def unescape(text: str) -> str:
    r"""Undo the kernel's octal escapes (`\040` is a blank) in a mount table's field."""
    if "\\" not in text:
        return text
    first, *rest = os.fsencode(text).split(b"\\")
    return os.fsdecode(first + b"".join(map(_unescaped, rest)))


def _unescaped(part: bytes) -> bytes:
    digits = part[:3]
    if len(digits) == _ESCAPE_DIGITS and digits[:1] in b"0123" and digits.isdigit() and not set(digits) & set(b"89"):
        return bytes([int(digits, 8)]) + part[3:]
    return b"\\" + part


@lru_cache(maxsize=1)  # each pass reads it, and it seldom is another
def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Parse `/proc/PID/mountinfo` (proc(5)), in mount order: later mounts cover earlier ones.

    Raises ValueError for a line that is not of that form.
    """
    return tuple(_parse_mountinfo_line(line) for line in text.split("\n") if line)


def _parse_mountinfo_line(line: str) -> Mount:
    before, dash, after = line.partition(" - ")
    match before.split(" "), after.split(" "):
        case [_id, _parent, _device, _root, point, of_mount, *_], [fstype, source, of_filesystem, *_] if dash:
            options = frozenset((*of_mount.split(","), *of_filesystem.split(",")))
            return Mount(unescape(point), unescape(source), unescape(fstype), _with_one_of_ro_and_rw(options))
    raise ValueError(f"not a line of mountinfo: {line!r}")


def _with_one_of_ro_and_rw(options: frozenset[str]) -> frozenset[str]:
    return options - {"rw"} if "ro" in options else options


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """Parse `/proc/mounts` or an fstab-like table, in mount order."""
    mounts = []
    for line in filter(None, text.split("\n")):
        match [unescape(field) for field in line.split()]:
            case [source, point, fstype, options, *_]:
                mounts.append(Mount(point, source, fstype, _with_one_of_ro_and_rw(frozenset(options.split(",")))))
            case _:
                raise ValueError(f"not a line of a mount table: {line!r}")
    return tuple(mounts)


def mount_at(mounts: tuple[Mount, ...], point: str) -> Mount | None:
    """Find what is mounted at exactly this point: the last one, which covers the others."""
    return next((mount for mount in reversed(mounts) if mount.point == point), None)


def mount_over(mounts: tuple[Mount, ...], path: str) -> Mount | None:
    """Find the mount that a path lies in, by its name alone: no filesystem is touched, so links are not followed."""
    best = None
    for mount in mounts:
        below = mount.point.rstrip("/") + "/"
        if (path == mount.point or path.startswith(below)) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def point_over(points: Container[str], path: str) -> str:
    """Find the mount point that a path lies below, by its name alone, as `mount_over` does."""
    while path not in points and path.strip("/"):
        path = path.rpartition("/")[0]
    return path or "/"


def parse_stat(text: str) -> tuple[str, str, int]:
    """Parse `/proc/PID/stat`: comm, state, parent. A comm may hold blanks and brackets."""
    start, end = text.index("("), text.rindex(")")
    fields = text[end + 2 :].split(" ", 2)
    return text[start + 1 : end], fields[0], int(fields[1])


def parse_cmdline(data: bytes) -> tuple[str, ...]:
    """Parse `/proc/PID/cmdline`; a title that a process wrote over it may lack the NULs and be padded with them."""
    text = data.decode(errors="surrogateescape").rstrip("\0")
    return tuple(text.split("\0")) if text else ()


def read_mounts(roots: Roots) -> tuple[Mount, ...]:
    """Read the mount table of our own namespace."""
    try:
        return parse_mountinfo(read_text(roots.proc / "self" / "mountinfo"))
    except FileNotFoundError:
        return parse_mounts(read_text(roots.proc / "mounts"))


def read_processes(roots: Roots) -> tuple[Process, ...]:
    """Read the process table once; processes that end meanwhile are left out."""
    table = os.open(roots.proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = []
        for name in os.listdir(table):  # noqa: PTH208 - of an open directory
            if name.isdigit():
                # The process ended between the listing and the reading.
                try:
                    process = _read_process(table, name)
                except (FileNotFoundError, ProcessLookupError):
                    continue
                found.append(process)
        return tuple(found)
    finally:
        os.close(table)


def _read_process(table: int, name: str) -> Process:
    comm, state, parent = parse_stat(_read_at(table, f"{name}/stat").decode(errors="surrogateescape"))
    pid = int(name)
    if _KTHREADD in {pid, parent}:
        return Process(pid, parent, 0, state, comm, ())
    argv = parse_cmdline(_read_at(table, f"{name}/cmdline"))
    return Process(pid, parent, _read_uid(table, name), state, comm, argv)


def _read_uid(table: int, name: str) -> int:
    # The owner of /proc/PID is the effective user, but root for a process that may not dump core (proc(5)).
    owner = os.stat(name, dir_fd=table).st_uid
    if owner != 0:
        return owner
    status = _read_at(table, f"{name}/status")
    line = status[status.index(b"\nUid:") + 5 :].split(None, 2)
    return int(line[1])


def _read_at(directory: int, name: str) -> bytes:
    return _read_whole(os.open(name, _READ_ONLY, dir_fd=directory))


def _read_whole(place: int) -> bytes:
    try:
        parts = []
        while block := os.read(place, _READ_BYTES):
            parts.append(block)
        return b"".join(parts)
    finally:
        os.close(place)


def read_text(path: Path) -> str:
    """Read a file of /proc or /sys as text; bytes that are not UTF-8 survive as surrogates."""
    return _read_whole(os.open(path, _READ_ONLY)).decode(errors="surrogateescape")


def read_link(roots: Roots, name: str) -> Link | None:
    """Read a network device; None if there is none of that name."""
    place = roots.sys / "class" / "net" / name
    try:
        operstate = read_text(place / "operstate").strip()
    except FileNotFoundError:
        return None
    carrier, speed = _read_number(place / "carrier"), _read_number(place / "speed")
    return Link(name, operstate, None if carrier is None else carrier == 1, speed if speed and speed > 0 else None)


def _read_number(path: Path) -> int | None:
    # EINVAL is the kernel's answer for a link that is down or a driver that does not know.
    try:
        return int(read_text(path))
    except OSError:
        return None
