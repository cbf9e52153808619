# SPDX-License-Identifier: Apache-2.0
"""The project in the lab: a layer with its dependencies, and a thin one with its wheel, units and configuration."""

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reflab import chroot, command, trees
from reflab.errors import Failed
from reflab.places import LAB_FOLDER, Places, digest, locked

RECIPE = 3

CHECKOUT = LAB_FOLDER.parent.parent
VENV = "/opt/refloat"
# The commands, where units and sites expect them.
LINKS = {
    "usr/bin/refloat": "refloat",
    "usr/sbin/refloat-agent": "refloat-agent",
    "usr/sbin/refloat-coordinator": "refloat-coordinator",
    "usr/sbin/nhc": "nhc",
}
UNIT_SUFFIXES = frozenset({".service", ".socket", ".target", ".timer", ".path", ".slice"})
# What pip and its TLS library go by.
PASSED_ON = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Sources that end up in the wheel, for telling whether it has to be built again.
SOURCE_SUFFIXES = frozenset({".py", ".toml", ".typed", ".json", ".md", ".sql", ".lua", ".c"})


@dataclass(frozen=True, slots=True)
class App:
    """What to install: a wheel, the lock of its dependencies if any, and folders of units and configuration."""

    wheel: Path
    requirements: Path | None = None
    units: Path | None = CHECKOUT / "systemd"
    configuration: Path | None = CHECKOUT / "packaging" / "examples"


def of_checkout(places: Places) -> App:
    """Return the app of this checkout, its wheel freshly built unless no source changed."""
    lock = CHECKOUT / "requirements.lock"
    return App(build_wheel(places), lock if lock.exists() else None)


def build_wheel(places: Places, checkout: Path = CHECKOUT) -> Path:
    """Build the wheel of `checkout`; raise `Failed` if that goes wrong."""
    folder = places.cache / "wheels" / _digest_of_files(_sources(checkout), checkout)
    with locked(places.lock("wheel")):
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with command.step("build the project's wheel"), tempfile.TemporaryDirectory(dir=folder.parent) as part:
                pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", part, str(checkout)]
                command.run(pip, timeout_s=600)
                shutil.copytree(part, folder)
    return next(folder.glob("*.whl"))


def install(places: Places, image: Path, app: App) -> list[Path]:
    """Return the layers (topmost first) that put `app` on top of `image`, built where they are not cached."""
    with locked(places.lock(f"layers-{places.release}")):
        deps = _dependencies(places, image, app)
        return [_project(places, image, deps, app), deps]


def _dependencies(places: Places, image: Path, app: App) -> Path:
    """The venv with everything but the wheel: changes only with the lock or the wheel's own requirements."""
    wanted = app.requirements.read_text() if app.requirements else "\n".join(_requires(app.wheel))
    layer = places.cache / "layers" / f"deps-{digest(str(RECIPE), image.name, wanted)}"
    if not layer.exists():
        what = ["--requirement", str(app.requirements)] if app.requirements else [str(app.wheel)]
        # Debian's python3-systemd is the one build of systemd-python that fits the image.
        venv = ["python3", "-m", "venv", "--system-site-packages", VENV]
        with command.step(f"install the project's dependencies ({places.release})"):
            _make_layer(layer, [image], [venv, _pip(*what)], [app.wheel, app.requirements])
    return layer


def _project(places: Places, image: Path, deps: Path, app: App) -> Path:
    parts = [app.wheel, *_files(app.units), *_files(app.configuration)]
    layer = places.cache / "layers" / f"app-{digest(str(RECIPE), deps.name, _digest_of_files(parts))}"
    if not layer.exists():
        with command.step(f"install {app.wheel.name} ({places.release})"):
            argv = _pip("--no-deps", "--force-reinstall", "--no-index", str(app.wheel))
            _make_layer(layer, [deps, image], [argv], [app.wheel], app)
    return layer


def _make_layer(
    layer: Path, lower: Sequence[Path], jobs: Sequence[list[str]], inputs: Sequence[Path | None], app: App | None = None
) -> None:
    """Run `jobs` on an overlay and keep what they wrote; rename when done, so that a layer there is whole."""
    part, log = layer.with_name(f"{layer.name}.part"), layer.with_name(f"{layer.name}.log")
    shutil.rmtree(part, ignore_errors=True)
    log.unlink(missing_ok=True)
    part.mkdir(parents=True)
    binds = [str(path) for path in inputs if path] + _local_sources()
    for argv in jobs:
        chroot.run_in(chroot.Job(str(part), argv, [str(path) for path in lower], binds, pip_environment()), log)
    if app:
        _place(part, app)
    part.rename(layer)


def _pip(*words: str) -> list[str]:
    return [f"{VENV}/bin/python", "-m", "pip", "install", "--no-cache-dir", *words]


def _place(root: Path, app: App) -> None:
    """Put commands, units, users, temporary files and configuration where a package would."""
    for link, script in LINKS.items():
        if (root / VENV.lstrip("/") / "bin" / script).exists():
            _link(root / link, f"{VENV}/bin/{script}")
    for source in _files(app.units):
        target = root / _destination(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    if app.configuration and app.configuration.is_dir():
        trees.copy(app.configuration, root / "etc/refloat")


def _destination(source: Path) -> Path:
    """Say where a file of systemd/ belongs: by its suffix, its name, or the folder that it is in."""
    if source.parent.suffix == ".d" and source.parent.stem.endswith(tuple(UNIT_SUFFIXES)):
        return Path("usr/lib/systemd/system", source.parent.name, source.name)
    if source.suffix in UNIT_SUFFIXES:
        return Path("usr/lib/systemd/system", source.name)
    for kind in ("sysusers", "tmpfiles"):
        if kind in str(source.relative_to(source.parent.parent)):
            name = source.name if source.name not in {f"{kind}.conf", kind} else "refloat.conf"
            return Path(f"usr/lib/{kind}.d", name)
    return Path("usr/share/doc/refloat", source.name)


def _link(place: Path, target: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


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


def _requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    return sorted(metadata.get_all("Requires-Dist") or [])


def _sources(checkout: Path) -> Iterator[Path]:
    """List the files of `checkout` that git tracks or would, and that can end up in the wheel."""
    argv = ["git", "-C", str(checkout), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failed(f"cannot list the sources of {checkout}: {error}") from error
    for name in names:
        path = checkout / name
        if path.suffix in SOURCE_SUFFIXES and not name.startswith(("tests/", "docs/")) and path.is_file():
            yield path


def _files(folder: Path | None) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder and folder.is_dir() else []


def _digest_of_files(files: Sequence[Path] | Iterator[Path], relative_to: Path | None = None) -> str:
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(str(path.relative_to(relative_to) if relative_to else path.name).encode() + b"\0")
        with suppress(FileNotFoundError):
            whole.update(path.read_bytes() + b"\0")
    return whole.hexdigest()[:16]
