# SPDX-License-Identifier: Apache-2.0
"""The disposable helper that touches filesystems, so that a hung one hangs this process and no other.

Run as a script with `-I -S` and nothing but the standard library, so that it starts in a few milliseconds. One JSON
request per line on standard input, one JSON answer per line on standard output, in order; it ends when its input ends.
"""

# Importing pathlib would take longer than all the rest of the start.
# ruff: noqa: PTH108, PTH114, PTH115, PTH116, PTH118, PTH119, PTH120, PTH123

import json
import os
import pwd
import stat
import sys
import time

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFBLK: "block",
    stat.S_IFCHR: "char",
}
_MAX_LINKS = 40  # as the kernel counts them


def within(root: str, path: str) -> str:
    """Give the real place of ``path`` in an offline tree at ``root``, whose absolute links stay inside it."""
    if root == "/":
        return path
    done: list[str] = []
    todo = [part for part in reversed(path.split("/")) if part not in {"", "."}]
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
            continue
        here = os.path.join(root, *done, part)
        if not os.path.islink(here):
            done.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(40, "Too many levels of symbolic links")
        target = os.readlink(here)
        if target.startswith("/"):
            done = []
        todo += [part for part in reversed(target.split("/")) if part not in {"", "."}]
    return os.path.join(root, *done)


def look_statvfs(root: str, path: str) -> dict[str, int]:
    """Measure the filesystem that holds ``path``."""
    found = os.statvfs(within(root, path))
    return {
        "size_kb": found.f_blocks * found.f_frsize // 1024,
        "free_kb": found.f_bavail * found.f_frsize // 1024,
        "used_kb": (found.f_blocks - found.f_bfree) * found.f_frsize // 1024,
        "inodes": found.f_files,
        "inodes_free": found.f_favail,
    }


def look_stat(root: str, path: str, follow: bool) -> dict[str, object]:  # noqa: FBT001 - from JSON
    """Describe the file at ``path``, or the link that it is."""
    place = within(root, path) if follow else os.path.join(within(root, os.path.dirname(path)), os.path.basename(path))
    target = os.stat(place) if follow else os.lstat(place)
    return {
        "type": _TYPES.get(stat.S_IFMT(target.st_mode), "unknown"),
        "mode": stat.S_IMODE(target.st_mode),
        "uid": target.st_uid,
        "gid": target.st_gid,
        "size": target.st_size,
        "age_s": max(0.0, time.time() - target.st_mtime),
    }


def look_read(root: str, path: str, cap: int) -> str:
    """Read the first ``cap`` bytes; latin-1 in the answer, so that every byte survives JSON."""
    place = os.open(within(root, path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(place, cap).decode("latin-1")
    finally:
        os.close(place)


def look_list(root: str, path: str) -> bool:
    """Read the first entry of a directory: whether there is one."""
    with os.scandir(within(root, path)) as entries:
        return next(entries, None) is not None


def look_write(root: str, path: str) -> bool:
    """Write, sync, read back and remove a file of our own in the directory ``path``."""
    name = os.path.join(within(root, path), f".refloat-probe-{os.urandom(8).hex()}")
    data = os.urandom(512)
    place = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(place, data)
        os.fsync(place)
        if os.pread(place, len(data), 0) != data:
            raise OSError(5, "what was written reads back differently")
    finally:
        os.close(place)
        os.unlink(name)
    return True


def look_uid(root: str, user: str) -> int:
    """Find a user's number: in the tree's own passwd first, then (for the running system only) where NSS looks."""
    with open(within(root, "/etc/passwd"), encoding="utf-8", errors="replace") as lines:
        for line in lines:
            fields = line.split(":")
            if fields[0] == user and fields[2:] and fields[2].isdigit():
                return int(fields[2])
    if root != "/":
        raise OSError(2, f"no user {user}")
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise OSError(2, f"no user {user}") from None


LOOKS: "dict[str, Callable[..., object]]" = {
    "statvfs": look_statvfs,
    "stat": look_stat,
    "read": look_read,
    "list": look_list,
    "write": look_write,
    "uid": look_uid,
}


def answer(line: str) -> str:
    """Answer one request line."""
    request = json.loads(line)
    try:
        said = {"value": LOOKS[request["look"]](*request["arguments"])}
    except OSError as error:
        said = {"errno": error.errno or 0, "error": error.strerror or str(error)}
    return json.dumps(said)


def main() -> None:
    """Answer requests until there are no more."""
    os.chdir("/")
    for line in sys.stdin:
        sys.stdout.write(answer(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
