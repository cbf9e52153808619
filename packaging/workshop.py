# SPDX-License-Identifier: Apache-2.0
"""What packages are built with, kept between builds: hashed downloads, a builder, and the environment without our code.

All of it belongs to one Python (its version and this machine's kind) and to the lock files; another Python or lock gets
another folder. Only `vendor` uses the network. Every file is checked against its hash in the lock, when it is fetched
and again when it is installed; what has to be compiled is compiled by backends that are locked, too.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final

TOP: Final = Path(__file__).resolve().parent.parent
RUNTIME: Final = TOP / "packaging" / "runtime.lock"
BACKENDS: Final = TOP / "packaging" / "backends.lock"
DEFAULT_WORK: Final = TOP / "build" / "packages"
# Where the environment is on the machine that it is installed on.
PREFIX: Final = Path("/usr/lib/refloat")
# The compiler's -g, which is in Python's own flags, would put the folder of the build into what it makes.
_COMPILER: Final = {"CFLAGS": "-O2 -g0 -fstack-protector-strong", "LDFLAGS": "-Wl,-z,relro,-z,now,-s"}
_PATHS: Final = "import json, sys, sysconfig; print(json.dumps([sys.version_info[:2], sysconfig.get_platform()]))"


class Unbuildable(Exception):
    """What is missing on this machine, in one sentence."""


@dataclass(frozen=True)
class Workshop:
    """The tools for packages that are to run with ``python``, a path that is the same where they are installed."""

    python: Path
    work: Path
    given: Path | None = None
    """A folder with the downloads, where they came with the sources."""

    @cached_property
    def version(self) -> str:
        """The Python that the packages need, as 3.12."""
        return ".".join(str(number) for number in self._about[0])

    @cached_property
    def _about(self) -> tuple[tuple[int, int], str]:
        if not self.python.is_absolute():
            raise Unbuildable(f"{self.python}: name the Python by the path that it has on the target")
        try:
            said = subprocess.run([str(self.python), "-c", _PATHS], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unbuildable(f"{self.python} cannot be run: {error}") from error
        (major, minor), platform = json.loads(said)
        return (major, minor), platform

    @property
    def vendor(self) -> Path:
        """Everything that is not ours, as wheels and source archives: fetched once."""
        if self.given is not None:
            return self.given
        folder = self._place("vendor", RUNTIME, BACKENDS)
        if not folder.exists():
            part = _emptied(folder)
            locks = ["--require-hashes", "--dest", str(part)]
            self._pip("download", "--no-deps", *locks, "--requirement", str(BACKENDS))
            self._pip("download", "--no-deps", "--no-build-isolation", *locks, "--requirement", str(RUNTIME))
            part.rename(folder)
        return folder

    @property
    def builder(self) -> Path:
        """The Python of an environment that has pip and the backends."""
        folder = self._place("builder", BACKENDS)
        python = folder / "bin" / "python"
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            # Not renamed into place: its scripts name it.
            run([str(self.python), "-m", "venv", str(folder)])
            where = ["--no-index", "--find-links", str(self.given)] if self.given else []
            locked = ["--no-deps", "--require-hashes", "--requirement", str(BACKENDS)]
            run([str(python), *_PIP, "install", *where, *locked])
            (folder / "complete").touch()
        return python

    @property
    def environment(self) -> Path:
        """An environment of `PREFIX`'s form with all that is not ours, compiled; to be copied."""
        folder = self._place("environment", RUNTIME, BACKENDS, Path(__file__))
        if not folder.exists():
            part = _emptied(folder)
            run([str(self.python), "-m", "venv", "--without-pip", str(part)])
            with tempfile.TemporaryDirectory() as wheels:
                self._wheels(Path(wheels))
                self.install(part, "--no-deps", *(str(wheel) for wheel in Path(wheels).glob("*.whl")))
            self._strip_to_libraries(part)
            self.compile(part, [self.libraries(part)])
            part.rename(folder)
        return folder

    def libraries(self, environment: Path) -> Path:
        """Where an environment has its packages."""
        return environment / "lib" / f"python{self.version}" / "site-packages"

    def install(self, environment: Path, *words: str) -> None:
        """Install into an environment, without the network."""
        self._pip("--python", str(environment / "bin" / "python"), "install", "--no-index", *_INSTALL, *words)

    def _wheels(self, folder: Path) -> None:
        """Make wheels of all that is locked; what is downloaded as one is taken as it is."""
        where = ["--no-index", "--find-links", str(self.vendor), "--no-build-isolation", "--wheel-dir", str(folder)]
        self._pip("wheel", "--no-deps", "--require-hashes", *where, "--requirement", str(RUNTIME))

    def wheel(self, source: Path, folder: Path, env: Mapping[str, str] = MappingProxyType({})) -> Path:
        """Build the wheel of a source tree or archive into ``folder``, without the network."""
        how = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
        self._pip("wheel", *how, str(source), env=env)
        return next(folder.glob("*.whl"))

    def compile(self, environment: Path, folders: Sequence[Path]) -> None:
        """Compile for good: nothing is ever written below `PREFIX` by a Python that runs there."""
        moved = ["-s", str(environment), "-p", str(PREFIX)]
        how = ["--invalidation-mode", "unchecked-hash", "-q", "-f", "-j", "0"]
        run([str(self.python), "-m", "compileall", *how, *moved, *(str(folder) for folder in folders)])

    def _strip_to_libraries(self, environment: Path) -> None:
        """Leave the packages, and a Python that says where it is; scripts and settings name the place of the build."""
        for name in ("bin", "etc", "include", "lib64", "share"):
            place = environment / name
            if place.is_symlink():
                place.unlink()
            else:
                shutil.rmtree(place, ignore_errors=True)
        # Some releases of venv write one, and others none.
        (environment / ".gitignore").unlink(missing_ok=True)
        (environment / "bin").mkdir()
        (environment / "bin" / "python").symlink_to(self.python)
        said = {"home": self.python.parent, "include-system-site-packages": "false", "version": self.version}
        (environment / "pyvenv.cfg").write_text("".join(f"{key} = {value}\n" for key, value in said.items()))
        libraries = self.libraries(environment)
        forget_the_build(libraries)
        for pattern in _NOT_RUN:
            for place in libraries.glob(pattern):
                shutil.rmtree(place)

    def _pip(self, *words: str, env: Mapping[str, str] = MappingProxyType({})) -> None:
        run([str(self.builder), *_PIP, *words], env={**_COMPILER, **env})

    def _place(self, name: str, *inputs: Path) -> Path:
        whole = hashlib.sha256(f"{self.version} {self._about[1]} {self.python}".encode())
        for path in inputs:
            whole.update(path.read_bytes())
        return self.work / f"{name}-{self.version}-{whole.hexdigest()[:12]}"


_PIP: Final = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir")
# Folders of libraries that nothing imports: their tests, and notes for editors.
_NOT_RUN: Final = ("*/tests", "*/test", "*/.*")
_INSTALL: Final = ("--no-compile", "--no-warn-script-location")


def as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Say that a member of an archive is root's, whoever packs it."""
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


def forget_the_build(libraries: Path) -> None:
    """Remove what pip notes about where things came from and how to remove them: the package manager does that."""
    for name in ("RECORD", "REQUESTED", "INSTALLER", "direct_url.json"):
        for path in libraries.glob(f"*.dist-info/{name}"):
            path.unlink()


def run(argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a command that says nothing when it is well; `Unbuildable` with its last words when it is not."""
    done = subprocess.run(
        argv,
        env=os.environ | (env or {}),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unbuildable(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout[-4000:]}")


def _emptied(folder: Path) -> Path:
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part
