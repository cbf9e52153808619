# SPDX-License-Identifier: Apache-2.0
"""The disposable process that looks for who holds a mount: it may hang, and hangs alone.

Run as a script with `-I -S` and nothing but the standard library. It prints one JSON object and ends.

Nothing that it reads touches the filesystem in question. A link in /proc/PID (cwd, root, exe, fd/N) is read, never
followed: the kernel names it from its memory, while stat or open would ask the server. For open files the kernel tells
the mount itself, in /proc/PID/fdinfo/N (`mnt_id`), and /proc/PID/mountinfo tells which filesystem that is: so a file is
found whatever its path is called in the namespace or chroot of its process. /proc/PID/cmdline and /proc/PID/maps wait
for the memory lock of the process, which one that hangs in a page fault may hold: they are read last, or not at all.
"""

# Importing pathlib would take longer than all the rest of the start.
# ruff: noqa: PTH115, PTH123, PTH208

import json
import os
import re
import sys
import time

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

_JOB = re.compile(r"slurm.*/job_(\d+)")
_MOUNTERS = ("umount", "mount", "mmumount", "mmmount")
_FIELDS = 6  # of a line of mountinfo or maps, the last one being all the rest
_OCTAL = re.compile(r"\\([0-3][0-7]{2})")


class Mounts:
    """One namespace's mount table: the ids that are the filesystem in question, and the points of all mounts."""

    def __init__(self, text: str, device: str) -> None:
        self.ids: set[str] = set()
        self.points: list[tuple[str, bool]] = []
        self.told: dict[str, bool] = {}
        for line in text.split("\n"):
            fields = line.split(" ", 5)
            if len(fields) == _FIELDS:
                is_it = fields[2] == device
                point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
                self.points.append((point.rstrip("/"), is_it))
                if is_it:
                    self.ids.add(fields[0])

    def holds(self, path: str) -> bool:
        """Tell, by its name alone, whether a path lies in the filesystem."""
        if path not in self.told:
            self.told[path] = self.top_of(path)
        return self.told[path]

    def top_of(self, path: str) -> bool:
        """Find the mount on top of a path: whether it is the filesystem."""
        best, found = -1, False
        for point, is_it in self.points:
            if len(point) >= best and (path == point or path.startswith(point + "/")):
                best, found = len(point), is_it
        return found


class Search:
    """One look through /proc, within its time."""

    def __init__(self, proc: str, device: str, budget_s: float) -> None:
        self.proc = proc
        self.device = device
        self.end_s = time.monotonic() + budget_s
        self.complete = True
        self.tables: dict[str, Mounts] = {"": Mounts(read(f"{proc}/self/mountinfo"), device)}

    def pids(self) -> "Iterator[str]":
        """Give the processes, our own one left out, until the time is over."""
        for name in os.listdir(self.proc):
            if name.isdigit() and int(name) != os.getpid():
                if self.is_over():
                    return
                yield name

    def is_over(self) -> bool:
        """Tell whether the time is over, and remember that something was not looked at."""
        if time.monotonic() > self.end_s:
            self.complete = False
        return not self.complete

    def table(self, pid: str) -> Mounts:
        """Give the mount table that a process sees; read once for each namespace."""
        namespace = link(f"{self.proc}/{pid}/ns/mnt")
        if namespace not in self.tables:
            self.tables[namespace] = Mounts(read(f"{self.proc}/{pid}/mountinfo"), self.device)
        return self.tables[namespace]

    def link_of(self, pid: str) -> str:
        """Name the first thing by which a process holds the filesystem; empty if it has none."""
        mounts = self.table(pid)
        for name in ("cwd", "root", "exe"):
            if mounts.holds(link(f"{self.proc}/{pid}/{name}").removesuffix(" (deleted)")):
                return name
        return self.file_of(pid, mounts)

    def file_of(self, pid: str, mounts: Mounts) -> str:
        """Name the first open file of a process that lies in the filesystem."""
        for number in entries(f"{self.proc}/{pid}/fd"):
            target = link(f"{self.proc}/{pid}/fd/{number}")
            if not target.startswith("/"):
                continue  # a socket, a pipe, or nothing with a path
            found = field(read(f"{self.proc}/{pid}/fdinfo/{number}"), "mnt_id")
            if found in mounts.ids or (not found and mounts.holds(target.removesuffix(" (deleted)"))):
                return f"file {target}"
            if self.is_over():
                break
        return ""

    def mapping_of(self, pid: str) -> str:
        """Name the first file of the filesystem that a process has mapped. The device number is written in hex there.

        Reading this may wait for the process.
        """
        major, _, minor = self.device.partition(":")
        if not (major.isdigit() and minor.isdigit()):
            return ""
        wanted = f"{int(major):02x}:{int(minor):02x}"
        for line in read(f"{self.proc}/{pid}/maps").split("\n"):
            fields = line.split(None, 5)
            if len(fields) == _FIELDS and fields[3] == wanted:
                return f"mapping {fields[5]}"
        return ""


def find(proc: str, device: str, how: str, most: int, budget_s: float) -> "dict[str, object]":
    """Look for those who hold a filesystem, by their `links` or by their `maps`."""
    search = Search(proc, device, budget_s)
    found: list[object] = []
    more = 0
    for pid in search.pids():
        held_by = search.link_of(pid) if how == "links" else search.mapping_of(pid)
        if not held_by:
            continue
        if len(found) < most:
            found.append(describe(proc, pid, held_by))
        else:
            more += 1
    return {"holders": found, "more": more, "complete": search.complete}


def describe(proc: str, pid: str, held_by: str) -> "dict[str, object]":
    """Say who a process is; its command is its short name, for the long one waits for the process."""
    cgroup = read(f"{proc}/{pid}/cgroup")
    job = _JOB.search(cgroup)
    return {
        "pid": int(pid),
        "uid": int((field(read(f"{proc}/{pid}/status"), "Uid").split() or ["-1"])[0]),
        "command": read(f"{proc}/{pid}/comm").strip(),
        "cgroup": cgroup.rstrip("\n").rpartition("\n")[2].rpartition(":")[2],
        "job": job[1] if job else "",
        "held_by": held_by,
    }


def find_stuck(proc: str, point: str, budget_s: float) -> "dict[str, object]":
    """Look for a process that is mounting or unmounting this point and sleeps uninterruptibly (state D)."""
    search = Search(proc, "", budget_s)
    for pid in search.pids():
        name, _, rest = read(f"{proc}/{pid}/stat").partition("(")[2].rpartition(")")
        if not rest.startswith(" D") or not name.startswith(_MOUNTERS):
            continue
        if point in read(f"{proc}/{pid}/cmdline").split("\0"):
            return {"pid": int(pid), "command": name, "sleeps_in": sleeps_in(proc, pid)}
    return {}


def sleeps_in(proc: str, pid: str) -> str:
    """Name the kernel's function in which a process sleeps, as far as the kernel tells it to us."""
    place = read(f"{proc}/{pid}/wchan").strip("\0\n")
    if place not in {"", "0"}:
        return place
    # "[<0>] rpc_wait_bit_killable+0x24/0xa0 [sunrpc]", for root alone (proc(5)).
    top = read(f"{proc}/{pid}/stack").partition("\n")[0].rpartition("] ")[2] or ""
    return top.partition("+")[0]


def find_others(proc: str, sys_: str, point: str) -> "list[str]":
    """Look for what keeps a mount busy and is no process: mounts below it, loop devices, swap files."""
    below = point.rstrip("/") + "/"
    found = [f"mount {each}" for each, _ in Mounts(read(f"{proc}/self/mountinfo"), "").points if each.startswith(below)]
    for name in entries(f"{sys_}/block"):
        backing = read(f"{sys_}/block/{name}/loop/backing_file").strip() if name.startswith("loop") else ""
        if backing.startswith(below):
            found.append(f"{name} ({backing})")
    swaps = (line.split(" ", 1)[0] for line in read(f"{proc}/swaps").split("\n")[1:])
    return found + [f"swap {each}" for each in swaps if each.startswith(below)]


def field(text: str, name: str) -> str:
    """Give a field of a file of `NAME:`, a tab and the value; empty if it has none."""
    for line in text.split("\n"):
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    return ""


def read(path: str) -> str:
    """Read a file of /proc; empty if the process has ended since, or will not be looked at."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as lines:
            return lines.read()
    except OSError:
        return ""


def link(path: str) -> str:
    """Read a link of /proc; empty likewise."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def entries(path: str) -> "list[str]":
    """List a folder of /proc; nothing likewise."""
    try:
        return os.listdir(path)
    except OSError:
        return []


def main(look: str, proc: str, sys_: str, *words: str) -> None:
    """Answer one question: `links` or `maps` DEVICE MOST BUDGET_S; `stuck` POINT BUDGET_S; `others` POINT."""
    if look == "stuck":
        said: object = find_stuck(proc, words[0], float(words[1]))
    elif look == "others":
        said = find_others(proc, sys_, words[0])
    else:
        said = find(proc, words[0], look, int(words[1]), float(words[2]))
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
