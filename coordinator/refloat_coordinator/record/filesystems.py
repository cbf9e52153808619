# SPDX-License-Identifier: Apache-2.0
"""Which filesystem a file lies on: one of this machine, or one that several machines share."""

from pathlib import Path
from typing import Final

import psutil

LOCAL: Final = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)


def is_local(path: str) -> bool:
    """Whether ``path`` lies on a filesystem that no other machine has; what is not known to be local is shared."""
    return type_of(path) in LOCAL


def type_of(path: str) -> str:
    """The type of the filesystem that ``path`` lies on; empty where that cannot be told."""
    parts = Path(path).resolve().parts
    found, depth = "", 0
    for mount in psutil.disk_partitions(all=True):
        at = Path(mount.mountpoint).parts
        if len(at) >= depth and parts[: len(at)] == at:  # of several mounts at one place the last one counts
            found, depth = mount.fstype, len(at)
    return found
