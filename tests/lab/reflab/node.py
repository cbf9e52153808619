# SPDX-License-Identifier: Apache-2.0
"""One container seen from the host: its knobs, its power, its inside."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reflab.cgroup import Cgroup
from reflab.command import Completed, run
from reflab.errors import Failed, TimedOut
from reflab.network import Network
from reflab.places import CONTROLLER, LAB_FOLDER, Places

INSIDE_ENV = ("HOME=/root", "TERM=dumb", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
# The boot time that slurmctld shows is up to 1.6 s before the boot, and it takes a reboot for one only if
# that is later than the node's last word, in whole seconds: with 2 s one in six goes unnoticed.
DEFAULT_BOOT_DELAY_S = 3.0


class Power(StrEnum):
    """What a line of the power log tells."""

    BOOT = "boot"
    REBOOT = "reboot"
    POWEROFF = "poweroff"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class PowerEvent:
    """One boot or one end of a boot, by the host's clock."""

    at: float
    what: Power


@dataclass(frozen=True, slots=True)
class Node:
    """A container of the lab; the files it names are what the supervisor goes by."""

    places: Places
    name: str

    @property
    def folder(self) -> Path:
        """Knobs, logs and the container's /lab."""
        return self.places.node(self.name)

    @property
    def share(self) -> Path:
        """The container's /lab: survives reboots, private to it."""
        return self.folder / "share"

    @property
    def cgroup(self) -> Cgroup:
        """What holds all its processes, supervisor included."""
        return Cgroup.of(self.places.key, self.name)

    @property
    def network(self) -> Network:
        """The network of its lab."""
        return Network(self.places.key)

    @property
    def is_stateful(self) -> bool:
        """The controller keeps its disk over reboots, a node does not, unless the knob `keep_disk` is there."""
        return self.name == CONTROLLER or (self.folder / "keep_disk").exists()

    def set_up(self, layers: Sequence[Path], units: Sequence[str]) -> None:
        """Make a fresh folder; `layers` (topmost first) are the root, `units` start at every boot."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in ("share", "journal", "files"):
            (self.folder / folder).mkdir(parents=True)
        self.share.chmod(0o1777)
        self.set_layers(layers)
        self.write("units", "\n".join(units))
        self.write("image", self.places.release)
        self.write("bootdelay", f"{DEFAULT_BOOT_DELAY_S:g}")

    def start(self) -> None:
        """Start the supervisor, detached; it boots the container."""
        self.cgroup.create()
        script = str(LAB_FOLDER / "lab.py")
        argv = ["setsid", "--fork", "unshare", "--mount", sys.executable, script, "_node"]
        with (self.folder / "supervisor.log").open("ab") as log:
            subprocess.run(
                [*argv, str(self.places.home), self.places.release, self.places.name, self.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )

    def write(self, knob: str, text: str) -> None:
        """Set a knob; read by the supervisor before every boot."""
        (self.folder / knob).write_text(text + "\n")

    def read(self, knob: str, default: str = "") -> str:
        """Read a knob or a report of the supervisor."""
        try:
            return (self.folder / knob).read_text().strip()
        except FileNotFoundError:
            return default

    def set_layers(self, layers: Sequence[Path]) -> None:
        """Choose the root of the next boot, topmost layer first."""
        self.write("layers", "\n".join(str(layer) for layer in layers))

    def layers(self) -> list[str]:
        """Return the layers of the next boot, topmost first."""
        return self.read("layers").splitlines()

    def set_image(self, name: str) -> None:
        """Name the image that the next boot claims to be (IMAGE_VERSION in os-release)."""
        self.write("image", name)

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Have the file `path` there now, if the node runs, and after every boot."""
        roots = [self.folder / "files", *([self.inside("/")] if self.is_running() else [])]
        for root in roots:
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            place.chmod(mode)

    def enable(self, *units: str) -> None:
        """Have `units` started at the next boots, too."""
        self.write("units", "\n".join(dict.fromkeys([*self.read("units").splitlines(), *units])))

    def disable(self, *units: str) -> None:
        """Have `units` not started at the next boots."""
        self.write("units", "\n".join(unit for unit in self.read("units").splitlines() if unit not in units))

    def hold(self) -> None:
        """Keep it dark from its next reboot on, as a firmware that hangs."""
        (self.folder / "hold").touch()

    def is_running(self) -> bool:
        """Say whether a container runs, booted or not."""
        return self.cgroup.init() is not None

    def power_off(self) -> None:
        """Cut the power and wait until it is dark; it stays so until `power_on`."""
        self.hold()
        until = time.monotonic() + 10.0
        while self.cgroup.cut_power() or self.read("state") not in {"held", "off"}:
            if time.monotonic() > until:
                message = f"{self.name}: does not go dark; see {self.folder}/supervisor.log"
                raise TimedOut(message)
            time.sleep(0.05)

    def power_on(self) -> None:
        """Let it boot; returns at once."""
        (self.folder / "hold").unlink(missing_ok=True)

    def power_events(self) -> list[PowerEvent]:
        """Return every boot and every end of one since `up`."""
        lines = self.read("power.log").splitlines()
        return [PowerEvent(at, Power(what)) for at, what in map(json.loads, lines)]

    def enter(self) -> list[str]:
        """Return the argv prefix that runs something in all namespaces of the container."""
        flags = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--time", "--root", "--wd"]
        return ["nsenter", "--target", str(self._init()), *flags, "--", "env", "-i", *INSIDE_ENV]

    def enter_network(self) -> list[str]:
        """Return the argv prefix that runs a process of the host in the container's network only."""
        return ["nsenter", f"--net={self.network.path(self.name)}", "--"]

    def execute(
        self, argv: Sequence[str], *, timeout_s: float = 60.0, check: bool = True, stdin: str = "", user: str = "root"
    ) -> Completed:
        """Run `argv` inside as `user`."""
        become = [] if user == "root" else ["runuser", "-u", user, "--"]
        return run([*self.enter(), *become, *argv], timeout_s=timeout_s, check=check, stdin=stdin)

    def inside(self, path: str) -> Path:
        """Return where this host sees the file `path` of the running container, its mounts included."""
        return Path(f"/proc/{self._init()}/root", path.lstrip("/"))

    def boot_id(self) -> str:
        """Return the boot id that the container sees: nspawn mounts a new one over the kernel's at each boot."""
        # Read from outside: a process that came by nsenter is nobody's child in there, so one that is
        # alive when the container shuts down costs systemd ten seconds of waiting, and this is polled.
        try:
            return self.inside("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError as error:
            raise Failed(f"{self.name} has no boot id: {error}") from error

    def is_booted(self) -> bool:
        """Say whether systemd in there has finished its start, be it with failed units."""
        argv = ["systemctl", "is-system-running"]
        return self.execute(argv, check=False).stdout.strip() in {"running", "degraded"}

    def journal(self, *words: str) -> str:
        """Return its journal of all boots, also when it is off; `words` go to journalctl (`-u X`, `-b`)."""
        argv = ["journalctl", "--directory", str(self.folder / "journal"), "--no-pager", "--output", "short-precise"]
        return run([*argv, *words], check=False).stdout

    def tail(self, name: str, lines: int = 20) -> str:
        """Return the end of one of its logs (console.log, supervisor.log, share/slurmd.log)."""
        return "\n".join(self.read(name).splitlines()[-lines:])

    def _init(self) -> int:
        init = self.cgroup.init()
        if init is None:
            raise Failed(f"{self.name} is not running")
        return init

    def stop(self) -> None:
        """Have the supervisor end instead of booting again, and cut the power."""
        (self.folder / "stop").touch()
        self.cgroup.cut_power()

    def is_supervised(self) -> bool:
        """Say whether its supervisor lives, be the node dark or not."""
        return self.cgroup.is_supervised()


def device_binds() -> list[str]:
    """Return the devices of the host that containers get, if there."""
    return [f"--bind={path}" for path in ("/dev/fuse",) if Path(path).exists()]
