# SPDX-License-Identifier: Apache-2.0
"""The project in the lab: its packages, built inside a release for that release, and the layer that has them."""

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reflab import chroot, command, image, trees
from reflab.errors import Failed
from reflab.places import LAB_FOLDER, Places, digest, locked

# Raise it when a step below changes: it is part of the cache keys.
RECIPE = 5

CHECKOUT = LAB_FOLDER.parent.parent
PACKAGING = CHECKOUT / "packaging"
PREFIX = "/usr/lib/refloat"
BUILD_PACKAGES = ("python3-dev", "python3-venv", "gcc", "libc6-dev", "pkgconf", "libsystemd-dev", "dpkg-dev", "rpm")
# What pip and its TLS library go by.
PASSED_ON = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# What is made from the sources of one moment, of which some are kept, for going back and forth between branches.
KEPT = 8


class Form(StrEnum):
    """A kind of package, by the name of its program in packaging/."""

    DEB = "deb"
    RPM = "rpm"


# Quick to make and to unpack.
OPTIONS = {Form.DEB: ("--compress", "zstd"), Form.RPM: ("--quick",)}


@dataclass(frozen=True, slots=True)
class App:
    """What to install: Debian packages, those of this checkout if none are named, and a folder of configuration."""

    packages: Path | None = None
    configuration: Path | None = PACKAGING / "examples"


def install(places: Places, image_root: Path, app: App) -> list[Path]:
    """Return the layers (topmost first) that put `app` on top of an image, built where they are not cached."""
    debs = sorted((app.packages or build(places, image_root, Form.DEB)).glob("*.deb"))
    with locked(places.lock(f"layers-{places.release}")):
        key = digest(str(RECIPE), image_root.name, _digest_of_files(debs), _digest_of_files(_files(app.configuration)))
        layer = places.cache / "layers" / f"app-{key}"
        if not layer.exists():
            with command.step(f"install refloat's packages ({places.release})"):
                _make_layer(layer, [image_root], [dpkg_install(debs)], [*debs], app)
            _keep_newest(layer.parent, "app-*")
        return [layer]


def dpkg_install(debs: Sequence[Path]) -> list[str]:
    """Return the command that installs packages, as a site's would."""
    return ["dpkg", "--install", "--force-unsafe-io", *(str(deb) for deb in debs)]


def build(places: Places, image_root: Path, form: Form, version: str | None = None) -> Path:
    """Return the folder with the packages of this checkout, built inside the release that they are for.

    `version` takes the place of the checkout's: the same code as an older or a newer release, with other defaults.
    """
    key = digest(str(RECIPE), image_root.name, form, version or "", _digest_of_sources())
    folder = places.cache / "packages" / f"{form}-{key}"
    with locked(places.lock(f"packages-{places.release}")):
        if not folder.exists():
            tools = builder(places, image_root)
            with command.step(f"build the {form} packages{f' {version}' if version else ''} ({places.release})"):
                _build(folder, [tools, image_root], form, version)
            _keep_newest(folder.parent, f"{form}-*")
    return folder


def builder(places: Places, image_root: Path) -> Path:
    """Return the layer with what builds packages: a compiler, headers, rpm."""
    layer = places.cache / "layers" / f"builder-{digest(str(RECIPE), image_root.name, *BUILD_PACKAGES)}"
    if not layer.exists():
        with command.step(f"install what builds packages ({places.release}; once)"):
            words = (["update"], ["install", "--no-install-recommends", *BUILD_PACKAGES], ["clean"])
            _make_layer(layer, [image_root], [[*image.APT, *job] for job in words], [], env=image.apt_environment())
    return layer


def _build(folder: Path, lower: Sequence[Path], form: Form, version: str | None) -> None:
    part, log = folder.with_name(f"{folder.name}.part"), folder.with_name(f"{folder.name}.log")
    shutil.rmtree(part, ignore_errors=True)
    log.unlink(missing_ok=True)
    part.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as scratch:
        source, upper, work = Path(scratch, "source"), Path(scratch, "upper"), folder.parent / "work"
        upper.mkdir()
        work.mkdir(exist_ok=True)
        command.run(
            [sys.executable, str(PACKAGING / "sources.py"), str(source), *(["--version", version] if version else [])]
        )
        if version:
            _change_defaults(source / "packaging" / "defaults", version)
        argv = ["python3", str(source / "packaging" / f"make_{form}.py"), "--python", "/usr/bin/python3"]
        argv += ["--work", str(work), "--out", str(part), *OPTIONS[form]]
        binds = [str(place) for place in (source, work, part)] + _local_sources()
        chroot.run_in(chroot.Job(str(upper), argv, [str(path) for path in lower], binds, pip_environment()), log)
    part.rename(folder)


def _change_defaults(folder: Path, version: str) -> None:
    for path in folder.glob("*.toml"):
        path.write_text(f"# As {version} has it.\n{path.read_text()}")


def _make_layer(
    layer: Path,
    lower: Sequence[Path],
    jobs: Sequence[list[str]],
    inputs: Sequence[Path],
    app: App | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run `jobs` on an overlay and keep what they wrote; rename when done, so that a layer there is whole."""
    part, log = layer.with_name(f"{layer.name}.part"), layer.with_name(f"{layer.name}.log")
    shutil.rmtree(part, ignore_errors=True)
    log.unlink(missing_ok=True)
    part.mkdir(parents=True)
    if app:
        _leave_the_start_to_the_lab(part)
    binds = [*(str(path) for path in inputs), *image.ca_files()]
    for argv in jobs:
        chroot.run_in(chroot.Job(str(part), argv, [str(path) for path in lower], binds, dict(env or {})), log)
    if app and app.configuration and app.configuration.is_dir():
        trees.copy(app.configuration, part / "etc/refloat")
    part.rename(layer)


def _leave_the_start_to_the_lab(root: Path) -> None:
    """Have the packages enable nothing, as a site's image may: what starts at boot is a knob of each node."""
    preset = root / "etc/systemd/system-preset/00-lab.preset"
    preset.parent.mkdir(parents=True)
    preset.write_text("disable refloat-*\n")


def _keep_newest(folder: Path, pattern: str) -> None:
    """Forget all but the newest of what was made from sources of some moment, unless it is of today."""
    made = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in [path for path in made if path.is_dir()][KEPT:]:
        if path.stat().st_mtime < time.time() - 86400:
            shutil.rmtree(path)
            path.with_name(f"{path.name}.log").unlink(missing_ok=True)


def pip_environment() -> dict[str, str]:
    """Return this host's whole pip configuration as variables: files first, then the environment's own."""
    found: dict[str, str] = {}
    for path in _pip_config_files():
        parser = configparser.RawConfigParser()
        parser.read(path)
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {f"PIP_{key.upper().replace('-', '_')}": value for key, value in parser.items(section)}
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") or name in PASSED_ON or name.lower().endswith("_proxy")
    }
    return found | passed | {"PIP_CONFIG_FILE": os.devnull, "PIP_ROOT_USER_ACTION": "ignore"}


def _pip_config_files() -> list[Path]:
    home, chosen = Path.home(), os.environ.get("PIP_CONFIG_FILE")
    system = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf")]
    user = [home / ".pip/pip.conf", home / ".config/pip/pip.conf", Path(sys.prefix, "pip.conf")]
    return [*system, *user, *([Path(chosen)] if chosen else [])]


def _local_sources() -> list[str]:
    """List the folders and files of this host that pip's settings name, to be seen in the tree while installing."""
    found = []
    for value in pip_environment().values():
        for word in value.split():
            path = Path(unquote(urlsplit(word).path)) if word.startswith("file://") else Path(word)
            # The pages of an index link to its files by relative paths, so its parent comes along.
            path = path.parent if path.name == "simple" else path
            if path.is_absolute() and path != Path("/") and path.exists() and not path.is_char_device():
                found.append(str(path))
    return list(dict.fromkeys(found))


def _digest_of_sources() -> str:
    """Hash what packages are made from: every file that git tracks or would, but for the tests."""
    argv = ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failed(f"cannot list the sources of {CHECKOUT}: {error}") from error
    paths = [CHECKOUT / name for name in names if name and not name.startswith(("tests/", "."))]
    return _digest_of_files([path for path in paths if path.is_file()], CHECKOUT)


def _files(folder: Path | None) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder and folder.is_dir() else []


def _digest_of_files(files: Sequence[Path] | Iterator[Path], relative_to: Path | None = None) -> str:
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(str(path.relative_to(relative_to) if relative_to else path.name).encode() + b"\0")
        with suppress(FileNotFoundError):
            whole.update(path.read_bytes() + b"\0")
    return whole.hexdigest()[:16]
