# SPDX-License-Identifier: Apache-2.0
"""Which directories to watch for a path, decided without a step into a filesystem that may hang."""

import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from refloat_checks.proc import Mount, mount_over

# What is not named here (NFS, Lustre, GPFS, BeeGFS, FUSE, autofs, whatever comes next) may wait for a server.
_LOCAL: Final = """
bcachefs bpf btrfs cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs erofs exfat ext2 ext3 ext4 f2fs hugetlbfs
iso9660 jfs mqueue ntfs3 overlay proc pstore ramfs rootfs securityfs squashfs sysfs tmpfs tracefs udf vfat xfs zfs
"""
LOCAL: Final = frozenset(_LOCAL.split())
_MOST_LINKS: Final = 40


class NotLocal(Exception):
    """The path leads into a filesystem that may hang; the sentence says which."""


class Place(NamedTuple):
    """A directory, and the name in it that a path goes through."""

    directory: str
    name: str


def places(path: str, mounts: tuple[Mount, ...]) -> Iterator[Place]:
    """Walk a path as the kernel would, links included, as far as it exists, and name all that it goes through.

    Blocks as long as a local filesystem does. Raises NotLocal, before such a filesystem is touched.
    """
    left = list(PurePosixPath(path).parts[1:])[::-1]
    at, links = "/", 0
    _require_local(at, mounts)
    while left:
        part = left.pop()
        if part == "..":
            at = os.path.dirname(at)  # noqa: PTH120 - a string is what it is made of
            continue
        yield Place(at, part)
        below = os.path.join(at, part)  # noqa: PTH118 - the same
        _require_local(below, mounts)
        try:
            is_link = stat.S_ISLNK(os.lstat(below).st_mode)
            target = PurePosixPath(os.readlink(below)) if is_link else None  # noqa: PTH115 - the same
        except (FileNotFoundError, NotADirectoryError):
            return
        if target is None:
            at = below
            continue
        links += 1
        if links > _MOST_LINKS:
            return
        left += [part for part in target.parts if part != "/"][::-1]
        at = "/" if target.is_absolute() else at


def _require_local(path: str, mounts: tuple[Mount, ...]) -> None:
    mount = mount_over(mounts, path)
    if mount is None or mount.fstype not in LOCAL:
        kind = mount.fstype if mount is not None else "an unknown type"
        raise NotLocal(f"{path} is on a filesystem that may hang ({kind})")
