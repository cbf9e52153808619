# SPDX-License-Identifier: Apache-2.0
"""A node whose storage tools are stand-ins: the real names and words, with their state in a folder."""

import json
import sys
from pathlib import Path
from typing import Any

from refloat_agent.effects.mounts import NodeMounts, Pace
from refloat_agent.effects.storage.holders import HolderSearch
from refloat_agent.storage import Storage
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots

TOOLS = (
    "mount", "umount", "systemctl", "lctl", "lustre_rmmod",
    "mmgetstate", "mmstartup", "mmmount", "mmumount", "mmshutdown",
)  # fmt: skip
STAND_IN = Path(__file__).with_name("storage_tool.py")


def proven() -> bool:
    """The node is proven empty at every look."""
    return True


class Node:
    """The stand-ins' state, and the agent's adapter over it."""

    def __init__(self, place: Path, pool: ProbePool) -> None:
        self.place = place
        self.pool = pool
        self.bin = place / "bin"
        self.proc = place / "proc"
        self.roots = Roots(self.proc, place / "sys", place / "root")
        for folder in ("bin", "knobs", "proc/self", "sys", "root"):
            (place / folder).mkdir(parents=True)
        for tool in TOOLS:
            self.install(tool)
        self.mountinfo = self.proc / "self/mountinfo"
        self.mountinfo.write_text("21 1 0:20 / / rw,relatime - overlay overlay rw\n")
        (self.proc / "modules").write_text("")
        self.put("units", {})
        self.put("fstab", {})
        self.put("gpfs", {"state": "down", "arbitrating": 0, "filesystems": {}})

    def install(self, tool: str) -> None:
        text = f"#!{sys.executable} -ISE\n" + STAND_IN.read_text()
        (self.bin / tool).write_text(text)
        (self.bin / tool).chmod(0o755)

    def lose(self, tool: str) -> None:
        """The tool is not installed; nor is any of the machine's own of that name."""
        (self.bin / tool).unlink()

    def put(self, name: str, value: Any) -> None:
        (self.place / f"{name}.json").write_text(json.dumps(value))

    def get(self, name: str) -> Any:
        return json.loads((self.place / f"{name}.json").read_text())

    def knob(self, name: str, text: str = "") -> Path:
        place = self.place / "knobs" / name
        place.write_text(text)
        return place

    def directory(self, path: str) -> None:
        """What a probe finds on a path."""
        (self.roots.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)

    @property
    def calls(self) -> list[str]:
        """What was run, but for questions."""
        log = self.place / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if not line.startswith(("mmgetstate", "lctl", "systemctl show"))]

    def points(self) -> list[str]:
        return [line.split()[4] for line in self.mountinfo.read_text().splitlines()][1:]

    def process(
        self, pid: int, command: str, *, cwd: str = "/", cgroup: str = "0::/init.scope", state: str = "S"
    ) -> Path:
        """A process in /proc; it sees the same mounts."""
        folder = self.proc / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "fdinfo").mkdir()
        (folder / "cwd").symlink_to(cwd)
        (folder / "comm").write_text(f"{command}\n")
        (folder / "stat").write_text(f"{pid} ({command}) {state} 1 1 1\n")
        (folder / "status").write_text(f"Name:\t{command}\nUid:\t1000\t1000\t1000\t1000\n")
        (folder / "cgroup").write_text(f"{cgroup}\n")
        return folder

    def mounts(self, *storage: dict[str, Any]) -> NodeMounts:
        tables = [{"mount_deadline_s": 5, "unmount_deadline_s": 0.2, **each} for each in storage]
        for each in tables:
            self.directory(each["path"])
            if each.get("driver") == "gpfs":
                each["program_dir"] = str(self.bin)
        settings = tuple(Storage.model_validate(each) for each in tables)
        return NodeMounts(settings, self.roots, self.pool, HolderSearch(self.roots), Pace(again_s=0.02, watch_s=0.05))
