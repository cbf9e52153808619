# SPDX-License-Identifier: Apache-2.0
"""The disposable helper that touches filesystems, so that a hung one hangs this process and no other.

Run as a script with `-I -S` and nothing but the standard library, so that it starts in a few milliseconds. One JSON
request per line on standard input, one JSON answer per line on standard output, in order; it ends when its input ends.
Of requests that are put together it marks in descriptor 3 which one it has come to.
"""

# Importing pathlib would take longer than all the rest of the start.
# ruff: noqa: PTH108, PTH114, PTH115, PTH116, PTH118, PTH119, PTH120, PTH123

import grp
import os
import pwd
import stat
import sys
import time

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFBLK: "block",
    stat.S_IFCHR: "char",
}
_PROGRESS = 3
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


def look_examine(root: str, path: str) -> dict[str, object]:
    """Tell all that stat and access say of ``path`` itself and of what it leads to."""
    said: dict[str, object] = {"itself": None, "target": None, "access": "", "errno": 0}
    try:
        link = os.path.join(within(root, os.path.dirname(path)), os.path.basename(path))
        said["itself"] = _attributes(os.lstat(link))
        target = within(root, path)
        said["target"] = _attributes(os.stat(target))
        rights = (("r", os.R_OK), ("w", os.W_OK), ("x", os.X_OK))
        said["access"] = "".join(right for right, mode in rights if os.access(target, mode, effective_ids=True))
    except OSError as error:
        said["errno"] = error.errno or 0
    return said


def _attributes(found: os.stat_result) -> dict[str, object]:
    return {
        "type": _TYPES.get(stat.S_IFMT(found.st_mode), "unknown"),
        "mode": stat.S_IMODE(found.st_mode),
        "blocks": found.st_blocks,
        "device": found.st_dev,
        "special": found.st_rdev,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "size": found.st_size,
        "atime": found.st_atime,
        "mtime": found.st_mtime,
        "ctime": found.st_ctime,
    }


def look_read(root: str, path: str, cap: int, whole: bool = False) -> str:  # noqa: FBT001, FBT002 - from JSON
    """Read the first ``cap`` bytes; latin-1 in the answer, so that every byte survives JSON."""
    place = os.open(within(root, path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        data = os.read(place, cap)
        while whole and len(data) < cap and (more := os.read(place, cap - len(data))):
            data += more
        return data.decode("latin-1")
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


def look_user_name(root: str, uid: int) -> str:
    """Find a user's name, as `look_uid` finds the number; the number itself if there is none."""
    name = _name_in(within(root, "/etc/passwd"), uid)
    if name or root != "/":
        return name or str(uid)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def look_group_name(root: str, gid: int) -> str:
    """Find a group's name in the same way."""
    name = _name_in(within(root, "/etc/group"), gid)
    if name or root != "/":
        return name or str(gid)
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _name_in(table: str, number: int) -> str:
    try:
        with open(table, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                fields = line.split(":")
                if fields[2:] and fields[2] == str(number):
                    return fields[0]
    except FileNotFoundError:
        return ""
    return ""


LOOKS: "dict[str, Callable[..., object]]" = {
    "statvfs": look_statvfs,
    "stat": look_stat,
    "examine": look_examine,
    "user_name": look_user_name,
    "group_name": look_group_name,
    "read": look_read,
    "list": look_list,
    "write": look_write,
    "uid": look_uid,
}


def answer(line: str) -> str:
    """Answer one request line: one request, or many that are put together."""
    import json  # noqa: PLC0415 - the nhc command uses these looks without it

    request = json.loads(line)
    if "together" in request:
        return json.dumps(_said_together(request["together"], request["begin_by"]))
    return json.dumps(_said(request))


def _said(request: "dict[str, Any]") -> "dict[str, object]":
    try:
        return {"value": LOOKS[request["look"]](*request["arguments"])}
    except OSError as error:
        return {"errno": error.errno or 0, "error": error.strerror or str(error)}


def _said_together(requests: "list[dict[str, Any]]", begin_by: float) -> "list[dict[str, object]]":
    """Answer in order, but begin none past that time (the monotonic clock): those are asked elsewhere by then.

    Each is marked before the clock is read. So what is not marked when the time is up will never be begun.
    """
    said = []
    for number, request in enumerate(requests):
        os.pwrite(_PROGRESS, number.to_bytes(4, "little"), 0)
        if number and time.monotonic() > begin_by:
            break
        said.append(_said(request))
    return said


def main() -> None:
    """Answer requests until there are no more."""
    os.chdir("/")
    for line in sys.stdin:
        sys.stdout.write(answer(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
