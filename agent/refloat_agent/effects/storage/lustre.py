# SPDX-License-Identifier: Apache-2.0
"""A Lustre client: mount.lustre(8), its imports as lctl(8) shows them, and its modules."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from refloat_agent.effects.storage import transport
from refloat_agent.effects.storage.driver import Budget, TableDriver, ask, order
from refloat_agent.effects.storage.table import Entry, Table
from refloat_agent.storage import Storage
from refloat_checks import sysfs
from refloat_checks.proc import Roots
from refloat_contract.errors import Refused, Transient

_FSTYPE: Final = "lustre"
_GLOB: Final = frozenset("*?[]@()|!")
_CONNECTED: Final = frozenset({"FULL", "IDLE"})
# "mdc.scratch-MDT0000-mdc-ffff9a3b.import=" and, indented below it, "import:" with its fields.
_HEADING: Final = re.compile(r"^(mdc|osc)\.(\S+)-(?:mdc|osc)-\S+\.import=", re.MULTILINE)
_FIELD: Final = re.compile(r"^ +(target|state|current_connection): *(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Import:
    """The client's side of one target. ``connection`` is the NID that is talked to, or empty."""

    target: str
    is_metadata: bool
    state: str
    connection: str


def parse_imports(text: str) -> tuple[Import, ...]:
    """Parse what ``lctl get_param mdc.*.import osc.*.import`` prints."""
    starts = list(_HEADING.finditer(text))
    ends = [*(start.start() for start in starts), len(text)][1:]
    found = []
    for start, end in zip(starts, ends, strict=True):
        said: Mapping[str, str] = dict(_FIELD.findall(text[start.end() : end]))
        connection = said.get("current_connection", "")
        target = said.get("target", start[2]).removesuffix("_UUID")
        found.append(Import(target, start[1] == "mdc", said.get("state", ""), connection if "@" in connection else ""))
    return tuple(found)


def fsname_of(source: str) -> str:
    """The filesystem's name in a source: the first word of its path, as in ``10.0.0.1@o2ib:/scratch/sub``."""
    return source.rpartition(":/")[2].partition("/")[0]


class LustreStorage(TableDriver):
    """A Lustre filesystem, or a directory of one.

    All metadata targets must be connected: without one of them the filesystem does not answer. A lost object storage
    target is the business of the check ``lustre``: it would keep every node of the cluster from coming back.
    """

    def __init__(self, storage: Storage, roots: Roots) -> None:
        super().__init__(storage)
        self.roots = roots

    async def mount(self, deadline_s: float) -> None:
        """Bring LNet up if it has a unit, and mount."""
        budget = Budget(deadline_s)
        if self.storage.unit:
            await order(self.storage, ["systemctl", "start", "--", self.storage.unit], budget.left_s)
        await order(self.storage, self._mount_argv(), budget.left_s)

    def _mount_argv(self) -> list[str]:
        if not self.storage.device:
            return ["mount", self.storage.path]
        options = ["-o", ",".join(self.storage.mount_options)] if self.storage.mount_options else []
        return ["mount", "-t", _FSTYPE, *options, self.storage.device, self.storage.path]

    async def unmount(self, deadline_s: float) -> None:
        """Unmount it; never with -f, which throws away what is not written yet."""
        await order(self.storage, ["umount", self.storage.path], deadline_s)

    async def unload(self, mounts: Table, deadline_s: float) -> None:
        """Unload the modules.

        Raises:
            Refused: a Lustre filesystem is mounted.
        """
        if mounted := mounts.of_type(_FSTYPE):
            raise Refused(f"{self.storage.name}: Lustre goes on: {mounted[0].mount.point} is mounted")
        if not self.storage.unloads:
            return
        unload = ["systemctl", "stop", "--", self.storage.unit] if self.storage.unit else ["lustre_rmmod"]
        await order(self.storage, unload, deadline_s)

    async def remains(self, mounts: Table) -> str:
        """A client that the kernel keeps without a mount of ours: detached, or mounted in another namespace."""
        mounted = {fsname_of(entry.mount.source) for entry in mounts.of_type(_FSTYPE)}
        clients, is_loaded = await asyncio.to_thread(self._read)
        ours = fsname_of(self.storage.device or self.storage.source or "")
        if left := sorted(name for name in clients - mounted if _GLOB.intersection(ours) or ours in {"", name}):
            return f"the kernel still has a Lustre client of {', '.join(left)}, mounted elsewhere or in use"
        if self.storage.unloads and is_loaded and not mounted:
            return "the module lustre is loaded"
        return ""

    def _read(self) -> tuple[frozenset[str], bool]:
        # /sys/fs/lustre/llite/FSNAME-ADDRESS, one for each client (under /proc before 2.12).
        places = [
            place
            for parent in (self.roots.sys, self.roots.proc)
            for place in sysfs.places(parent / "fs", "lustre/llite/*")
        ]
        clients = frozenset(place.name.rpartition("-")[0] for place in places if "-" in place.name)
        modules = sysfs.value(self.roots.proc / "modules") or ""
        return clients, any(line.startswith("lustre ") for line in modules.splitlines())

    async def complaint(self, entry: Entry) -> str:
        """A metadata target that is not connected."""
        imports = [each for each in await self._imports(entry) if each.is_metadata]
        if not imports:
            raise Transient(f"lctl shows no metadata target of {fsname_of(entry.mount.source)}")
        lost = [f"{each.target} {each.state}" for each in imports if each.state not in _CONNECTED]
        return f"not connected: {', '.join(lost)}" if lost else ""

    async def transports(self, entry: Entry) -> frozenset[str]:
        """The LNet types of the connections that are made, not of those that were asked for."""
        made = [each.connection for each in await self._imports(entry) if each.state == "FULL" and each.connection]
        return transport.of_nids(" ".join(made))

    async def _imports(self, entry: Entry) -> tuple[Import, ...]:
        name = fsname_of(entry.mount.source)
        done = await ask(["lctl", "get_param", f"mdc.{name}-*.import", f"osc.{name}-*.import"])
        if done.returncode != 0:
            raise Transient(f"lctl get_param: {done.complaint}")
        return parse_imports(done.stdout)
