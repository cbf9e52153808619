# SPDX-License-Identifier: Apache-2.0
"""Where the lab keeps its things: the one map of its folder."""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reflab.command import say
from reflab.errors import Unavailable

RELEASES = ("bookworm", "trixie", "forky")
DEFAULT_HOME = "/var/tmp/refloat-lab"
DEFAULT_NAME = "lab"
NAME = r"[a-z][a-z0-9]{0,15}"
CONTROLLER = "ctl"
LAB_FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one lab: a cache shared by all releases, and one run folder per name and release."""

    home: Path
    release: str
    name: str = DEFAULT_NAME

    @classmethod
    def of(cls, release: str | None = None, home: Path | None = None) -> "Places":
        """Read `LAB_RELEASE` and `LAB_DIR` for what is not given, and `LAB_NAME`; raise `Unavailable` on nonsense."""
        chosen = release or os.environ.get("LAB_RELEASE") or RELEASES[0]
        if chosen not in RELEASES:
            raise Unavailable(f"LAB_RELEASE={chosen}: the lab knows {', '.join(RELEASES)}")
        name = os.environ.get("LAB_NAME") or DEFAULT_NAME
        if not re.fullmatch(NAME, name):
            raise Unavailable(f"LAB_NAME={name}: up to 16 small letters and digits")
        folder = home or Path(os.environ.get("LAB_DIR") or DEFAULT_HOME)
        return cls(folder.resolve(), chosen, name)

    @property
    def key(self) -> str:
        """Name this lab in kernel-wide names, so that labs in two folders never meet."""
        return f"{self.name}-{self.release}-{digest(str(self.home))[:6]}"

    @property
    def cache(self) -> Path:
        """Images, layers and downloads: what `down` leaves."""
        return self.home / "cache"

    @property
    def run(self) -> Path:
        """Everything of the lab that is up: what `down` removes."""
        return self.home / "run" / f"{self.name}-{self.release}"

    @property
    def slurm(self) -> Path:
        """The /etc/slurm of all containers."""
        return self.run / "slurm"

    @property
    def furniture(self) -> Path:
        """The layer of stand-ins, copied from the checkout so that editing it cannot disturb a mounted overlay."""
        return self.run / "furniture"

    @property
    def files(self) -> Path:
        """A tree copied onto every root before each boot."""
        return self.run / "files"

    @property
    def plan(self) -> Path:
        """What the lab was brought up with, as JSON."""
        return self.run / "plan.json"

    @property
    def remains(self) -> Path:
        """The logs of the last `up` that failed."""
        return self.home / "failed" / f"{self.name}-{self.release}"

    def lock(self, name: str) -> Path:
        """Name a lock file; it stays when the thing that it guards goes."""
        return self.home / "cache" / "locks" / name

    def node(self, name: str) -> Path:
        """The folder of one container: knobs, logs, /lab."""
        return self.run / "nodes" / name


def digest(*parts: str) -> str:
    """Hash what goes into a cached thing; 12 hex digits name it."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; say so when somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run holds {path}; waiting ...")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
