# SPDX-License-Identifier: Apache-2.0
"""What probes of filesystems say: of a path, of the filesystem that holds it, or that there was no answer."""

from __future__ import annotations

import errno

from refloat_contract.errors import Transient
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

# With these the kernel itself says that the filesystem is broken or gone; with others that we may not look.
BROKEN: Final = frozenset(
    {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.ESHUTDOWN, errno.EUCLEAN, errno.ENOENT}
)


def is_broken(error: OSError) -> bool:
    """Tell whether a probe's error says that the filesystem is broken."""
    return error.errno in BROKEN


class Unanswered(Transient):
    """A filesystem did not answer within its deadline, or one that was asked before still has not.

    ``for_s``: since when nothing of it was answered, in seconds; 0 when it was not even asked.
    """

    def __init__(self, text: str, for_s: float = 0.0) -> None:
        super().__init__(text)
        self.for_s = for_s


@record
class Usage:
    """What statvfs says of a filesystem; free is what an ordinary user may still write."""

    size_kb: int
    free_kb: int
    used_kb: int
    inodes: int
    inodes_free: int


@record
class FileStat:
    """What stat says of a file."""

    type: str
    mode: int
    uid: int
    gid: int
    size: int
    age_s: float


@record
class Attributes:
    """What one stat says: type and mode, owners, device numbers, times in seconds since the epoch."""

    type: str
    mode: int
    blocks: int
    device: int
    special: int
    uid: int
    gid: int
    size: int
    atime: float
    mtime: float
    ctime: float


@record
class Examination:
    """A path: itself, what it leads to (the same unless it is a link), and which of `rwx` we may do there.

    `None`: there is nothing; `errno` says what the kernel said of it.
    """

    itself: Attributes | None
    target: Attributes | None
    access: str
    errno: int
