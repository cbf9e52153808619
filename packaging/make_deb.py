#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the Debian packages of these sources, with dpkg-deb alone, for the Debian that this is run on.

    make_deb.py --python /usr/bin/python3 --out DIR [--compress xz|zstd] [--work DIR] [--vendor DIR] [--pyslurm PATH]

Needs the packages python3-venv, python3-dev, gcc, pkgconf, libsystemd-dev and dpkg-dev.
"""

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from string import Template
from typing import Final

import site_slurm
import stage
from stage import Entry, Package
from workshop import TOP, Unbuildable, run

PARTS: Final = TOP / "packaging" / "deb"
SCRIPTS: Final = ("preinst", "postinst", "prerm", "postrm")
REVISION: Final = "1"
MAINTAINER: Final = os.environ.get("PACKAGER", "refloat packages <root@localhost>")
RELATIONS: Final = {
    "refloat-common": {"Depends": "python${python}, ${libraries}", "Suggests": "refloat-agent"},
    "refloat-agent": {"Depends": "refloat-common (= ${version})", "Recommends": "slurmd"},
    "refloat-coordinator": {
        "Depends": "refloat-common (= ${version}), ${libraries}",
        "Recommends": "slurm-client",
        "Suggests": "mosquitto",
    },
    "refloat-nhc": {
        "Depends": "refloat-common (= ${version})",
        "Provides": "lbnl-nhc",
        "Conflicts": "lbnl-nhc",
        "Replaces": "lbnl-nhc",
    },
    "refloat-slurm-pyslurm": {"Depends": "refloat-common (= ${version}), ${libraries}"},
}


@dataclass(frozen=True, slots=True)
class Build:
    """What is the same for all packages of a run."""

    root: Path
    scratch: Path
    version: str
    python: str
    architecture: str
    compress: str
    made_at: int


def build(options: argparse.Namespace) -> list[Path]:
    """Build all packages into the folder that the options name."""
    shop = stage.shop_of(options)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        root = scratch / "root"
        pyslurm = options.pyslurm and site_slurm.as_file(options.pyslurm, scratch)
        staged = stage.stage(shop, root, "deb", pyslurm)
        made_at = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
        version = f"{debian_version(stage.version())}-{REVISION}"
        job = Build(
            root, scratch, version, shop.version, _said("dpkg", "--print-architecture"), options.compress, made_at
        )
        return [_pack(job, package, options.out) for package in staged]


def debian_version(version: str) -> str:
    """Write a version so that dpkg orders it as Python does: a pre-release comes before its release."""
    return re.sub(r"(?<=\d)\.?(a|b|rc|dev)(?=\d)", r"~\1", version)


def _pack(job: Build, package: Package, out: Path) -> Path:
    tree = job.scratch / package.name
    _move(job.root, tree, package.entries)
    _add_documents(job, package, tree)
    control = tree / "DEBIAN"
    control.mkdir()
    settings = [entry.path for entry in package.entries if entry.is_config]
    if settings:
        (control / "conffiles").write_text("".join(f"{path}\n" for path in settings))
    (control / "control").write_text(_control(job, package, tree))
    (control / "md5sums").write_text(_sums(tree))
    for name in SCRIPTS:
        source = PARTS / f"{package.name}.{name}"
        if source.exists():
            (control / name).write_bytes(source.read_bytes())
            (control / name).chmod(0o755)
    made = out / f"{package.name}_{job.version}_{job.architecture}.deb"
    env = {"SOURCE_DATE_EPOCH": str(job.made_at)}
    run(["dpkg-deb", "--root-owner-group", f"-Z{job.compress}", "--build", str(tree), str(made)], env)
    return made


def _move(root: Path, tree: Path, entries: Sequence[Entry]) -> None:
    tree.mkdir()
    for entry in entries:
        target = tree / entry.path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.is_folder:
            target.mkdir(exist_ok=True)
            target.chmod(int(entry.mode, 8))
        else:
            (root / entry.path.lstrip("/")).rename(target)


def _add_documents(job: Build, package: Package, tree: Path) -> None:
    """Add what Debian's policy asks of every package: copyright, changelog, and the reasons for what lintian says."""
    folder = tree / "usr/share/doc" / package.name
    folder.mkdir(parents=True, exist_ok=True)
    own = PARTS / f"{package.name}.copyright"
    shutil.copyfile(own if own.exists() else PARTS / "copyright", folder / "copyright")
    (folder / "changelog.Debian.gz").write_bytes(gzip.compress(_changelog(job).encode(), mtime=0))
    overrides = PARTS / f"{package.name}.lintian-overrides"
    if overrides.exists():
        place = tree / "usr/share/lintian/overrides" / package.name
        place.parent.mkdir(parents=True)
        shutil.copyfile(overrides, place)


def _changelog(job: Build) -> str:
    return (
        f"refloat ({job.version}) unstable; urgency=medium\n\n  * Built from the sources of this version; what is new"
        f" is in CHANGELOG.md.\n\n -- {MAINTAINER}  {formatdate(job.made_at)}\n"
    )


def _control(job: Build, package: Package, tree: Path) -> str:
    relations = RELATIONS[package.name]
    needs_libraries = any("${libraries}" in value for value in relations.values())
    values = {
        "version": job.version,
        "python": job.python,
        "libraries": _shared_libraries(job, tree) if needs_libraries else "",
    }
    fields = {
        "Package": package.name,
        "Source": "refloat",
        "Version": job.version,
        "Architecture": job.architecture,
        "Maintainer": MAINTAINER,
        "Installed-Size": str(sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file()) // 1024),
        **{name: Template(value).substitute(values).strip(", ") for name, value in relations.items()},
        "Section": "admin",
        "Priority": "optional",
        "Description": package.table["summary"],
    }
    text = "".join(f"{name}: {value}\n" for name, value in fields.items())
    return text + "".join(f" {line}\n" for line in package.table["description"].strip().splitlines())


def _shared_libraries(job: Build, tree: Path) -> str:
    """Ask dpkg-shlibdeps which packages the compiled modules need, in which versions."""
    modules = [str(path) for path in tree.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    if not modules:
        return ""
    folder = job.scratch / "source"
    (folder / "debian").mkdir(parents=True, exist_ok=True)
    (folder / "debian/control").write_text("Source: refloat\n\nPackage: refloat\nArchitecture: any\n")
    # What a wheel brings along is found beside the module that needs it.
    own = [f"-l{path}" for path in tree.rglob("*.libs")]
    # And Slurm's library where PySlurm was built with it.
    own += [f"-l{os.environ['SLURM_LIB_DIR']}"] if "SLURM_LIB_DIR" in os.environ else []
    said = _said("dpkg-shlibdeps", "--ignore-missing-info", "-O", *own, *modules, cwd=folder)
    return said.removeprefix("shlibs:Depends=")


def _sums(tree: Path) -> str:
    files = [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]
    listed = [path for path in files if "DEBIAN" not in path.relative_to(tree).parts]
    return "".join(
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(tree)}\n"
        for path in listed
    )


def _said(*argv: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Unbuildable(f"{argv[0]} is not installed: {str(__doc__).strip().splitlines()[-1]}") from error
    if done.returncode:
        raise Unbuildable(f"{argv[0]}: exit status {done.returncode}\n{done.stderr[-4000:]}")
    return done.stdout.strip()


def main(argv: Sequence[str]) -> int:
    """Build; 0, or 1 with the reason."""
    options_of = stage.parser(__doc__)
    options_of.add_argument("--out", type=Path, required=True, help="where the packages go")
    options_of.add_argument("--compress", default="xz", choices=("xz", "zstd", "none"))
    return stage.packed("make_deb.py", build, options_of.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
