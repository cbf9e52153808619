# SPDX-License-Identifier: Apache-2.0
"""The power button and the firmware of one container: boots it, boots it again when it asks for a reboot."""

import hashlib
import json
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reflab import cgroup, image, trees
from reflab.bootclock import run_from_zero
from reflab.chroot import overlay_options
from reflab.node import Node, Power, device_binds
from reflab.places import CONTROLLER

NSPAWN_REBOOT = 133
TICK_S = 0.05
DISK_SIZE = "1g"
# Where the container's cgroups are seen once this mount namespace is private.
CGROUP_MOUNT = Path("/sys/fs/cgroup")


@dataclass(slots=True)
class Supervisor:
    """Runs in a mount namespace of its own until the knob `stop` appears."""

    node: Node

    def run(self) -> None:
        """Boot, wait for the end, boot again, until told to stop."""
        self.node.cgroup.adopt(os.getpid())
        _make_mounts_private()
        self._mount_disk()
        while self._has_power():
            ended = self._boot()
            if ended is not Power.REBOOT:
                self.node.hold()
            self._post(ended)
        self._report("off")

    def _has_power(self) -> bool:
        """Wait while held; return False when it is time to end."""
        while not self._is_stopped():
            if not (self.node.folder / "hold").exists():
                return True
            self._report("held")
            time.sleep(TICK_S)
        return False

    def _post(self, ended: Power) -> None:
        """Take the time that firmware takes."""
        if ended is Power.REBOOT:
            self._report("post")
            until = time.monotonic() + float(self.node.read("bootdelay", "0"))
            while time.monotonic() < until and not self._is_stopped():
                time.sleep(TICK_S)

    def _boot(self) -> Power:
        if not self.node.is_stateful:
            self._unmount_disk()
            self._mount_disk()
        root = self._mount_root()
        try:
            _furnish(root, self.node)
            self._report("running")
            self._log(Power.BOOT)
            code = run_from_zero(self._nspawn(root), self.node.folder / "console.log")
        finally:
            subprocess.run(["umount", "--lazy", str(root)], check=True)
        # nspawn leaves its empty cgroups; the next one wants to make them itself.
        for child in self.node.cgroup.path.glob("*/"):
            cgroup.prune(child)
        ended = {NSPAWN_REBOOT: Power.REBOOT, 0: Power.POWEROFF}.get(code, Power.CUT)
        self._log(ended)
        return ended

    def _mount_disk(self) -> None:
        disk = self._folder("disk")
        _mount("-t", "tmpfs", "-o", f"size={DISK_SIZE},mode=755", "lab-disk", str(disk))
        (disk / "upper").mkdir()
        (disk / "work").mkdir()

    def _unmount_disk(self) -> None:
        subprocess.run(["umount", "--lazy", str(self._folder("disk"))], check=True)

    def _mount_root(self) -> Path:
        root, disk = self._folder("root"), self._folder("disk")
        options = overlay_options(self.node.layers(), disk / "upper", disk / "work")
        _mount("-t", "overlay", "-o", options, "lab-root", str(root))
        return root

    def _folder(self, name: str) -> Path:
        folder = self.node.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def _nspawn(self, root: Path) -> list[str]:
        folder, name = self.node.folder, self.node.name
        return [
            # Not by --network-namespace-path: with that /sys/class/net shows the host's links.
            *self.node.enter_network(),
            *("systemd-nspawn", "--quiet", "--boot", f"--directory={root}", "--register=no", "--keep-unit"),
            *(f"--machine={self.node.places.key}-{name}", f"--hostname={name}"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe", "--capability=all"),
            *(f"--bind={self.node.places.slurm}:/etc/slurm", f"--bind={self.node.share}:/lab"),
            f"--bind={folder / 'journal'}:/var/log/journal",
            *device_binds(),
        ]

    def _is_stopped(self) -> bool:
        return (self.node.folder / "stop").exists() or not self.node.folder.exists()

    def _report(self, state: str) -> None:
        if self.node.read("state") != state:
            self.node.write("state", state)

    def _log(self, what: Power) -> None:
        with (self.node.folder / "power.log").open("a") as log:
            log.write(json.dumps([round(time.time(), 3), what]) + "\n")


def _furnish(root: Path, node: Node) -> None:
    """Give a fresh root its names, its units and the files that the tests put there."""
    etc = root / "etc"
    _replace(etc / "hostname", f"{node.name}\n")
    _replace(etc / "hosts", node.places.run.joinpath("hosts").read_text())
    # A name server that does not answer costs slurmd ten seconds at its start.
    _replace(etc / "resolv.conf", "")
    # Fixed, so that the journals of all boots lie in one folder.
    _replace(etc / "machine-id", hashlib.sha256(node.name.encode()).hexdigest()[:32] + "\n")
    release = (root / "usr/lib/os-release").read_text().rstrip("\n")
    _replace(etc / "os-release", f"{release}\nIMAGE_ID=lab\nIMAGE_VERSION={node.read('image')}\n")
    (root / "var/lib/slurm/slurmd").mkdir(parents=True, exist_ok=True)
    if node.name == CONTROLLER:
        state = root / "var/lib/slurm/ctl"
        state.mkdir(exist_ok=True)
        os.chown(state, *image.identity(root, "slurm"))
    for files in (node.places.files, node.folder / "files"):
        trees.copy(files, root)
    for unit in node.read("units").splitlines():
        image.enable(root, unit)


def _replace(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)


def _make_mounts_private() -> None:
    """Show nspawn a host it can work on: pure cgroup2, and a /run/systemd that is on a tmpfs."""
    _mount("--make-rprivate", "/")
    if not (CGROUP_MOUNT / "cgroup.controllers").exists():
        with suppress(subprocess.CalledProcessError):
            subprocess.run(["umount", "--recursive", str(CGROUP_MOUNT)], check=True)
        _mount("-t", "cgroup2", "none", str(CGROUP_MOUNT))
    Path("/run/systemd").mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", "mode=755", "none", "/run/systemd")


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)
