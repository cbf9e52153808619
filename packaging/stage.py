#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lay out in ROOT what the packages hold, as layout.toml says, and write down which file belongs to which package.

    stage.py --python /usr/bin/python3.12 --form rpm --root ROOT --manifest FILE.json [--work DIR] [--vendor DIR]
             [--pyslurm PATH]

The same for RPM and deb but for what layout.toml names for one of them. PYTHON is the one that the packages will use.
"""

import argparse
import gzip
import json
import os
import shutil
import stat
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import site_slurm
from workshop import DEFAULT_WORK, PREFIX, TOP, Unbuildable, Workshop, forget_the_build

LAYOUT: Final = TOP / "packaging" / "layout.toml"
_SCRIPT: Final = """\
#!{prefix}/bin/python -I
import sys

from {module} import {function}

if __name__ == "__main__":
    sys.exit({function}())
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A path of a package, as it is on the target; ``mode`` is empty for a link."""

    path: str
    mode: str = ""
    is_folder: bool = False
    is_config: bool = False


@dataclass(slots=True)
class Package:
    """A package: its name, what layout.toml says of it, and what it came to hold."""

    name: str
    table: Mapping[str, Any]
    entries: list[Entry] = field(default_factory=list)


def version() -> str:
    """The version of the sources."""
    return str(tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"])


def packages(*, with_pyslurm: bool) -> list[Package]:
    """The packages of layout.toml, in its order."""
    tables = tomllib.loads(LAYOUT.read_text())
    return [Package(name, table) for name, table in tables.items() if with_pyslurm or not table.get("compiled")]


def stage(shop: Workshop, root: Path, form: str, pyslurm: Path | None = None) -> list[Package]:
    """Fill ``root``; the packages come back with their entries, each path in exactly one of them."""
    staged = packages(with_pyslurm=pyslurm is not None)
    environment = _inside(root, str(PREFIX))
    _install_ourselves(shop, environment)
    left = _below(root, environment)
    if pyslurm is not None:
        _install_library(shop, environment, pyslurm)
    compiled = _below(root, environment) - left
    for package in staged:
        theirs = compiled if package.table.get("compiled") else _of_libraries(package, left)
        left -= theirs
        package.entries += [_found(root, path) for path in sorted(theirs)]
    for package in staged:
        if package.table.get("environment"):
            package.entries += [_found(root, path) for path in sorted(left)]
        _place(package, root, form)
    _link_python(shop, environment)
    _refuse_traces(root)
    return staged


def _link_python(shop: Workshop, environment: Path) -> None:
    """Make the link to Python a relative one, as packages have it; up to now pip has followed it from the build."""
    link = environment / "bin" / "python"
    link.unlink()
    link.symlink_to(os.path.relpath(shop.python, PREFIX / "bin"))


def _install_ourselves(shop: Workshop, environment: Path) -> None:
    shutil.rmtree(environment, ignore_errors=True)
    shutil.copytree(shop.environment, environment, symlinks=True)
    libraries = shop.libraries(environment)
    before = set(libraries.iterdir())
    with tempfile.TemporaryDirectory() as folder:
        shop.install(environment, "--no-deps", str(shop.wheel(TOP, Path(folder))))
    forget_the_build(libraries)
    for script in (environment / "bin").glob("[!p]*"):
        script.unlink()
    shop.compile(environment, [path for path in libraries.iterdir() if path not in before and path.is_dir()])


def _install_library(shop: Workshop, environment: Path, archive: Path) -> None:
    libraries = shop.libraries(environment)
    before = set(libraries.iterdir())
    with tempfile.TemporaryDirectory() as wheels:
        shop.install(environment, "--no-deps", str(shop.wheel(archive, Path(wheels), site_slurm.environment())))
    forget_the_build(libraries)
    added = [path for path in libraries.iterdir() if path not in before and path.is_dir()]
    for folder in added:
        for path in [path for path in folder.rglob("*") if path.suffix in site_slurm.SOURCES]:
            path.unlink()
    shop.compile(environment, added)


def _of_libraries(package: Package, paths: set[str]) -> set[str]:
    """Pick what belongs to the libraries that layout.toml gives to a package."""
    names = tuple(f"/site-packages/{name}{end}" for name in package.table.get("libraries", ()) for end in "/-.")
    return {path for path in paths if any(name in f"{path}/" for name in names)}


def _place(package: Package, root: Path, form: str) -> None:
    """Put what layout.toml lists for a package where it belongs."""
    for name, entry_point in package.table.get("scripts", {}).items():
        _write_script(_inside(root, f"{PREFIX}/bin/{name}"), entry_point)
        package.entries.append(Entry(f"{PREFIX}/bin/{name}", "0755"))
    for path, target in package.table.get("links", {}).items():
        link = _inside(root, path)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
        package.entries.append(Entry(path))
    for path, mode in package.table.get("folders", {}).items():
        _inside(root, path).mkdir(parents=True, exist_ok=True)
        _inside(root, path).chmod(int(mode, 8))
        package.entries.append(Entry(path, mode, is_folder=True))
    for rule in package.table.get("files", []):
        if rule.get("for", form) == form:
            package.entries += _copied(rule, root)


def _write_script(place: Path, entry_point: str) -> None:
    """Write a command by hand: pip's own would load more, and name the build's Python."""
    module, _, function = entry_point.partition(":")
    place.write_text(_SCRIPT.format(prefix=PREFIX, module=module, function=function))
    place.chmod(0o755)


def _copied(rule: Mapping[str, Any], root: Path) -> Iterator[Entry]:
    sources = [path for path in sorted(TOP.glob(rule["from"])) if path.is_file()]
    if not sources and not rule.get("optional") and "*" not in rule["from"]:
        raise Unbuildable(f"layout.toml names {rule['from']}, and it is not there")
    for source in sources:
        path = f"{rule['to']}{source.name}" if rule["to"].endswith("/") else rule["to"]
        data, mode = source.read_bytes(), rule.get("mode", "0644")
        if rule.get("gzip"):
            path, data = f"{path}.gz", gzip.compress(data, mtime=0)
        target = _inside(root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(int(mode, 8))
        yield Entry(path, mode, is_config=bool(rule.get("config")))


def _below(root: Path, folder: Path) -> set[str]:
    return {f"/{path.relative_to(root)}" for path in (folder, *folder.rglob("*"))}


def _found(root: Path, path: str) -> Entry:
    """Describe what pip has put there, with the modes that it should have had."""
    place = _inside(root, path)
    if place.is_symlink():
        return Entry(path)
    runs = stat.S_IMODE(place.stat().st_mode) & 0o100 and place.suffix != ".py"
    mode = 0o755 if place.is_dir() or runs else 0o644
    place.chmod(mode)
    return Entry(path, f"{mode:04o}", is_folder=place.is_dir())


def _refuse_traces(root: Path) -> None:
    """Make sure that no file knows where it was built."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and str(root).encode() in path.read_bytes():
            raise Unbuildable(f"{path} names the folder of the build")


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def write_manifest(staged: Sequence[Package], place: Path) -> None:
    """Write which path belongs to which package, as JSON."""
    place.write_text(json.dumps({package.name: [asdict(entry) for entry in package.entries] for package in staged}))


def parser(text: str | None) -> argparse.ArgumentParser:
    """The options that all who stage have."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--python", type=Path, required=True, help="the Python that the packages will use, by its path")
    made.add_argument("--work", type=Path, default=DEFAULT_WORK, help="what is kept between builds (%(default)s)")
    made.add_argument("--vendor", type=Path, help="downloads that came with the sources, instead of the network")
    made.add_argument("--pyslurm", type=Path, help="PySlurm's sources or wheel, to make refloat-slurm-pyslurm of")
    return made


def shop_of(options: argparse.Namespace) -> Workshop:
    """The workshop that the options ask for; links are followed, so that the packages name one release of Python."""
    return Workshop(options.python.resolve(), options.work.resolve(), options.vendor and options.vendor.resolve())


def packed(program: str, build: Callable[[argparse.Namespace], Sequence[Path]], options: argparse.Namespace) -> int:
    """Build packages, and say which; 0, or 1 with the reason."""
    options.out = options.out.resolve()
    try:
        made = build(options)
    except Unbuildable as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1
    for path in made:
        sys.stdout.write(f"{path}: {path.stat().st_size / 1e6:.1f} MB\n")
    return 0


def main(argv: Sequence[str]) -> int:
    """Stage; 0, or 1 with the reason."""
    options_of = parser(__doc__)
    options_of.add_argument("--form", choices=("rpm", "deb"), required=True)
    options_of.add_argument("--root", type=Path, required=True)
    options_of.add_argument("--manifest", type=Path, required=True)
    options = options_of.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            pyslurm = options.pyslurm and site_slurm.as_file(options.pyslurm, Path(folder))
            staged = stage(shop_of(options), options.root.resolve(), options.form, pyslurm)
    except Unbuildable as error:
        sys.stderr.write(f"stage.py: {error}\n")
        return 1
    write_manifest(staged, options.manifest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
