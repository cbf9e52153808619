# SPDX-License-Identifier: Apache-2.0
"""Read single values of /proc and /sys, which may not be there, or whose driver may not tell them."""

import errno
import re
from pathlib import Path
from typing import Final

from refloat_checks.proc import read_text

# What the kernel answers for a value that is not there, that this driver does not know, or whose device is asleep.
_UNTOLD: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.EOPNOTSUPP, errno.ENODATA, errno.ENODEV, errno.ENXIO, errno.EIO}
)
_DIGITS: Final = re.compile(r"(\d+)")


def value(path: Path) -> str | None:
    """Read a value without the blanks around it; None if the kernel does not tell it.

    Raises OSError for what else keeps it from being read.
    """
    try:
        return read_text(path).strip()
    except OSError as error:
        if error.errno in _UNTOLD:
            return None
        raise


def number(path: Path) -> int | None:
    """Read a whole number; None if the kernel does not tell it. Raises ValueError for what is no number."""
    text = value(path)
    return int(text) if text else None


def by_number(paths: "list[Path]") -> list[Path]:
    """Sort paths as people count: node2 before node10."""
    return sorted(paths, key=lambda path: [int(p) if p.isdigit() else p for p in _DIGITS.split(str(path))])


def places(parent: Path, pattern: str) -> list[Path]:
    """Find what is there of a glob pattern, as people count; nothing if the parent is not there."""
    return by_number(list(parent.glob(pattern)))
