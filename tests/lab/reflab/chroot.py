# SPDX-License-Identifier: Apache-2.0
"""Runs a command in a root tree, in mount and pid namespaces that die with it."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from reflab.command import run_logged
from reflab.places import LAB_FOLDER

# Everything below dies with us, mounts included: a killed build leaves only files.
DIE_WITH_US = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private"),
)
RESOLV_CONF = "/etc/resolv.conf"


@dataclass(frozen=True, slots=True)
class Job:
    """One command in a tree: `lower` layers (topmost first), and `upper`, which takes what it writes.

    With no `lower`, `upper` is the tree itself. `binds` are host paths to be seen at the same place.
    """

    upper: str
    argv: Sequence[str]
    lower: Sequence[str] = ()
    binds: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def run_in(job: Job, log: Path) -> None:
    """Run `job` as root, output to `log`; raise `Failed` with its end."""
    self_argv = [sys.executable, str(LAB_FOLDER / "lab.py"), "_chroot", json.dumps(asdict(job))]
    run_logged([*DIE_WITH_US, *self_argv], log)


def overlay_options(lower: Sequence[str], upper: Path, work: Path) -> str:
    """Return the mount options of an overlay; ':' and ',' in names would be read as separators."""
    layers = ":".join(_escaped(layer) for layer in lower)
    return f"lowerdir={layers},upperdir={_escaped(str(upper))},workdir={_escaped(str(work))}"


def main(spec: str) -> int:
    """Be the inner half of `run_in`: mount, run, and leave no trace in the tree but the command's own."""
    job = Job(**json.loads(spec))
    if not job.lower:
        return _run_mounted(job, Path(job.upper))
    # On the upper's own filesystem: an overlay's work folder must be there.
    with tempfile.TemporaryDirectory(dir=Path(job.upper).parent) as scratch:
        root, work = Path(scratch, "root"), Path(scratch, "work")
        root.mkdir()
        work.mkdir()
        options = overlay_options(job.lower, Path(job.upper), work)
        _mount("-t", "overlay", "-o", options, "overlay", str(root))
        try:
            return _run_mounted(job, root)
        finally:
            subprocess.run(["umount", str(root)], check=True)


def _run_mounted(job: Job, root: Path) -> int:
    made = [place for source in _binds(job) if (place := _bind(Path(source), root))]
    _mount("-t", "proc", "proc", str(root / "proc"))
    env = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **job.env}
    try:
        return subprocess.run(["chroot", str(root), *job.argv], env=env, check=False).returncode
    finally:
        for source in reversed(_binds(job)):
            subprocess.run(["umount", "--lazy", str(_inside(root, Path(source)))], check=False)
        subprocess.run(["umount", "--lazy", str(root / "proc")], check=False)
        for place in reversed(made):
            _unmake(place, root)


def _binds(job: Job) -> list[str]:
    wanted = ["/dev", RESOLV_CONF, *job.binds]
    return [source for source in dict.fromkeys(wanted) if Path(source).exists()]


def _bind(source: Path, root: Path) -> Path | None:
    """Bind `source` at its own place below `root`; return the mount point if it had to be made."""
    target = _inside(root, source)
    made = None if target.exists() else target
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount("--rbind" if source == Path("/dev") else "--bind", str(source.resolve()), str(target))
    return made


def _inside(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _unmake(place: Path, root: Path) -> None:
    with suppress(OSError):
        if place.is_dir():
            place.rmdir()
        else:
            place.unlink()
        for parent in place.parents:
            if parent == root:
                break
            parent.rmdir()


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
