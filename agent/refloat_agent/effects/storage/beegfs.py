# SPDX-License-Identifier: Apache-2.0
"""A BeeGFS client: its service, which mounts all that beegfs-mounts.conf names, and the tables of its module.

beegfs-net (7) and ``beegfs health net`` (8) print the tables below /proc/fs/beegfs; they are read without them here.
"""

import asyncio
from typing import Final

from refloat_agent.effects.storage import table
from refloat_agent.effects.storage.driver import TableDriver, order
from refloat_agent.effects.storage.table import Entry, Table
from refloat_agent.storage import Storage
from refloat_checks import beegfs, sysfs
from refloat_checks.beegfs import Client
from refloat_checks.proc import Roots
from refloat_contract.errors import Refused, Transient

_FSTYPE: Final = "beegfs"
_UNIT: Final = "beegfs-client.service"


class BeegfsStorage(TableDriver):
    """A mount of BeeGFS. Its service mounts, unmounts and unloads the module."""

    def __init__(self, storage: Storage, roots: Roots) -> None:
        super().__init__(storage)
        self.roots = roots

    @property
    def unit(self) -> str:
        """The client's service; one of several is ``beegfs-client@NAME.service``."""
        return self.storage.unit or _UNIT

    async def mount(self, deadline_s: float) -> None:
        """Start the service; again where it counts as running, but only while nothing that it mounted is there."""
        mounted = (await asyncio.to_thread(table.read, self.roots)).of_type(_FSTYPE)
        await order(self.storage, ["systemctl", "start" if mounted else "restart", "--", self.unit], deadline_s)

    async def unmount(self, deadline_s: float) -> None:
        """Stop the service."""
        await order(self.storage, ["systemctl", "stop", "--", self.unit], deadline_s)

    async def unload(self, mounts: Table, deadline_s: float) -> None:
        """Stop the service again: stopping is what unloads its module.

        Raises:
            Refused: a BeeGFS is mounted.
        """
        if mounted := mounts.of_type(_FSTYPE):
            raise Refused(f"{self.storage.name}: BeeGFS goes on: {mounted[0].mount.point} is mounted")
        await self.unmount(deadline_s)

    async def remains(self, mounts: Table) -> str:
        """The module, when it is to be unloaded and no BeeGFS is mounted any more."""
        if not self.storage.unloads or mounts.of_type(_FSTYPE):
            return ""
        modules = await asyncio.to_thread(sysfs.value, self.roots.proc / "modules")
        if modules is None:
            raise Transient("/proc/modules cannot be read")
        return "the module beegfs is loaded" if any(line.startswith("beegfs ") for line in modules.splitlines()) else ""

    async def complaint(self, entry: Entry) -> str:  # noqa: ARG002 - no table says which client is whose mount
        """A client that knows no metadata or no storage server."""
        clients = await self._clients()
        for client in clients:
            for kind in ("meta", "storage"):
                if not any(server.kind == kind for server in client.servers):
                    return f"{client.name} knows no {kind} server"
        return ""

    async def transports(self, entry: Entry) -> frozenset[str]:  # noqa: ARG002
        """The kinds of all connections that are made at the moment."""
        servers = (server for client in await self._clients() for server in client.servers)
        return frozenset(kind for server in servers for kind in server.transports)

    async def _clients(self) -> tuple[Client, ...]:
        clients = await asyncio.to_thread(beegfs.read, self.roots)
        if not clients:
            raise Transient("/proc/fs/beegfs shows no client")
        return clients
