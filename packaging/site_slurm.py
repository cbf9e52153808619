# SPDX-License-Identifier: Apache-2.0
"""PySlurm and the Slurm of this site: a PySlurm is for one release of Slurm, and serves with that one alone."""

import os
import re
import sysconfig
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

from workshop import Unbuildable, as_root

Release: TypeAlias = tuple[int, int]

SOURCES: Final = frozenset({".c", ".h", ".pxd", ".pxi", ".pyx"})
"""What PySlurm's wheel holds beside what runs: six times as much."""

_VERSION_FILE: Final = "pyslurm/version.py"
_VERSION: Final = re.compile(r"""(?m)^__version__ = ["']((\d+)\.(\d+)[^"']*)["']""")
_HEADER: Final = re.compile(r"(?m)^#define\s+SLURM_VERSION_NUMBER\s+(0x[0-9a-fA-F]+)")


def as_file(source: Path, folder: Path) -> Path:
    """Return a PySlurm that fits the headers that are here, as one file: a source tree is packed into ``folder``."""
    version, release = _version_of(source)
    _check(version, release, is_compiled=source.suffix == ".whl")
    if not source.is_dir():
        return source
    archive = folder / f"pyslurm-{version}.tar.gz"
    with tarfile.open(archive, "w:gz") as made:
        made.add(source, f"pyslurm-{version}", filter=_clean)
    return archive


def environment() -> Mapping[str, str]:
    """Tell PySlurm's build what nobody has said: where Debian has Slurm's library, and how many cores there are."""
    said = {"PYSLURM_BUILD_JOBS": str(os.cpu_count() or 1)}
    if multiarch := sysconfig.get_config_var("MULTIARCH"):
        said["SLURM_LIB_DIR"] = f"/usr/lib/{multiarch}"
    return {name: value for name, value in said.items() if name not in os.environ}


def _check(version: str, release: Release, *, is_compiled: bool) -> None:
    folder = Path(os.environ.get("SLURM_INCLUDE_DIR", "/usr/include")) / "slurm"
    here = _release_of_headers(folder)
    if here is None and not is_compiled:
        raise Unbuildable(
            f"there are no headers of Slurm in {folder}, and PySlurm {version} is compiled with those of Slurm"
            f" {_as_slurm_writes(release)} (slurm-devel, libslurm-dev; or SLURM_INCLUDE_DIR)"
        )
    if here is not None and here != release:
        raise Unbuildable(
            f"PySlurm {version} is for Slurm {_as_slurm_writes(release)}, and the headers in {folder} are of Slurm"
            f" {_as_slurm_writes(here)}: take a PySlurm {here[0]}.{here[1]} (its branch {here[0]}.{here[1]}.x)"
        )


def _version_of(source: Path) -> tuple[str, Release]:
    try:
        found = _VERSION.search(_version_file(source))
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise Unbuildable(f"{source} cannot be read as PySlurm's wheel, archive or sources: {error}") from error
    if found is None:
        raise Unbuildable(f"{source} is no PySlurm: its {_VERSION_FILE} is missing, or names no version")
    return found[1], (int(found[2]), int(found[3]))


def _version_file(source: Path) -> str:
    """Return the text of the file, which in an archive may be a folder down; empty if it is not there."""
    if source.is_dir():
        place = source / _VERSION_FILE
        return place.read_text() if place.is_file() else ""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            return next((wheel.read(name).decode() for name in wheel.namelist() if _is_version_file(name)), "")
    with tarfile.open(source) as archive:
        member = next((each for each in archive if _is_version_file(each.name)), None)
        data = archive.extractfile(member) if member else None
        return data.read().decode() if data else ""


def _is_version_file(name: str) -> bool:
    return re.fullmatch(rf"([^/]+/)?{re.escape(_VERSION_FILE)}", name.removeprefix("./")) is not None


def _release_of_headers(folder: Path) -> Release | None:
    header = folder / "slurm_version.h"
    found = _HEADER.search(header.read_text(errors="replace")) if header.is_file() else None
    if found is None:
        return None
    number = int(found[1], 16)
    return number >> 16 & 0xFF, number >> 8 & 0xFF


def _as_slurm_writes(release: Release) -> str:
    return f"{release[0]}.{release[1]:02}"


def _clean(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(info.name).name in {".git", "build", "dist"} else as_root(info)
