# SPDX-License-Identifier: Apache-2.0
"""Copies trees of this host into containers, with the modes that a package would give."""

import shutil
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def copy(source: Path, target: Path) -> None:
    """Copy `source` onto `target`; nothing of it is writable by others than its owner.

    A checkout made with umask 002 is, and with such an /etc munged refuses to start.
    """
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    for place in (source, *source.rglob("*")):
        if not place.is_symlink():
            (target / place.relative_to(source)).chmod(stat.S_IMODE(place.stat().st_mode) & ~_OTHERS_WRITE)
