#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the RPMs of these sources, and the source RPM that rebuilds them without the network.

    make_rpm.py --python /usr/bin/python3.12 --out DIR [--work DIR] [--vendor DIR] [--pyslurm PATH]
                [--quick]

Needs rpmbuild, gcc, pkgconf, systemd's headers, and those of Python. On Debian: rpm, gcc, pkgconf, libsystemd-dev,
python3-dev, python3-venv; the RPMs are then for machines with the same Python and a C library no older.
"""

import argparse
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import site_slurm
import sources
import stage
from workshop import RUNTIME, TOP, Unbuildable, Workshop, as_root, run

PACKAGER: Final = os.environ.get("PACKAGER", "refloat packages <root@localhost>")
SPEC: Final = TOP / "packaging" / "rpm" / "refloat.spec"


def build(options: argparse.Namespace) -> list[Path]:
    """Build into the folder that the options name; its earlier RPMs of the same version are replaced."""
    if shutil.which("rpmbuild") is None:
        raise Unbuildable("rpmbuild is not installed (Debian: apt-get install rpm; EL: dnf install rpm-build)")
    shop = stage.shop_of(options)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        top = Path(folder)
        (top / "SOURCES").mkdir()
        pyslurm = options.pyslurm and site_slurm.as_file(options.pyslurm, top)
        spec = _collect(shop, top / "SOURCES")
        if pyslurm:
            shutil.copy(pyslurm, top / "SOURCES")
        settings = [*_settings(shop, top, quick=options.quick), *_pyslurm_settings(pyslurm)]
        run(["rpmbuild", "-bb" if options.quick else "-ba", *settings, str(spec)])
        made = [*(top / "RPMS").rglob("*.rpm"), *(top / "SRPMS").glob("*.rpm")]
        return [Path(shutil.move(path, options.out / path.name)) for path in sorted(made)]


def _collect(shop: Workshop, folder: Path) -> Path:
    """Put the sources that the spec names into a folder; return the spec, which then needs no settings of ours."""
    version = rpm_version(stage.version())
    with tarfile.open(folder / f"refloat-{version}.tar.gz", "w:gz") as archive:
        for name in sources.names():
            archive.add(TOP / name, f"refloat-{version}/{name}", filter=as_root)
    with tarfile.open(folder / f"refloat-{version}-vendor.tar", "w") as archive:
        archive.add(shop.vendor, "vendor")
    shutil.copyfile(RUNTIME, folder / RUNTIME.name)
    spec = folder / SPEC.name
    spec.write_text(
        _filled(SPEC.read_text(), {"VERSION": version, "PYTHON": shop.version, "CHANGELOG": _changelog(version)})
    )
    return spec


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _changelog(version: str) -> str:
    day = time.strftime("%a %b %d %Y", time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"])))
    return f"* {day} {PACKAGER} - {version}-1\n- Built from the sources of this version; what is new is in CHANGELOG.md"


def rpm_version(version: str) -> str:
    """Write a version so that rpm orders it as Python does."""
    return "".join(f"~{part}" if part in {"a", "b", "rc"} else part for part in _parts(version))


def _parts(version: str) -> list[str]:
    marked = version.replace(".dev", "~dev")
    for word in ("rc", "a", "b"):
        head, found, tail = marked.partition(word)
        if found and head and head[-1].isdigit():
            return [head, found, tail]
    return [marked]


def _settings(shop: Workshop, top: Path, *, quick: bool) -> list[str]:
    defined: dict[str, object] = {"_topdir": top, "packager": PACKAGER}
    if quick:
        defined |= {"refloat_work": shop.work, "_binary_payload": "w1.zstdio"}
    words = [word for name, value in defined.items() for word in ("--define", f"{name} {value}")]
    # Debian's packages are not in rpm's database: what is missing there shows when it is used.
    return [*words, *(["--nodeps"] if Path("/etc/debian_version").exists() else [])]


def _pyslurm_settings(pyslurm: Path | None) -> list[str]:
    if pyslurm is None:
        return []
    words = ["--with", "pyslurm", "--define", f"pyslurm_source {pyslurm.name}"]
    # Compiled already, or with headers that no package has brought.
    if pyslurm.suffix == ".whl" or "SLURM_INCLUDE_DIR" in os.environ:
        words += ["--define", "slurm_elsewhere 1"]
    return words


def main(argv: Sequence[str]) -> int:
    """Build; 0, or 1 with the reason."""
    options_of = stage.parser(__doc__)
    options_of.add_argument("--out", type=Path, required=True, help="where the packages go")
    options_of.add_argument(
        "--quick",
        action="store_true",
        help="no source RPM, little compression, and what an earlier build has left in WORK",
    )
    os.environ.setdefault("SOURCE_DATE_EPOCH", str(int((TOP / "pyproject.toml").stat().st_mtime)))
    return stage.packed("make_rpm.py", build, options_of.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
