# SPDX-License-Identifier: Apache-2.0
"""The configured storage: what the mount table shows of it, and the commands that mount and unmount it.

The filesystems are never touched from here, only named to commands that may hang without hanging us.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from refloat_agent.config import Storage
from refloat_agent.effects.processes import ProcProcesses
from refloat_agent.observation import StorageFacts
from refloat_checks import mounts, proc
from refloat_contract.errors import Refused, Transient
from refloat_contract.words import Status
from refloat_service import commands

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CommandMounts:
    """Storage that commands mount and unmount: mount(8) and umount(8), or a parallel filesystem's own tools."""

    storage: tuple[Storage, ...]
    roots: proc.Roots
    processes: ProcProcesses

    async def state(self) -> tuple[StorageFacts, ...]:
        """What is mounted, by the mount table.

        Raises:
            Transient: the mount table cannot be read.
        """
        try:
            table = await asyncio.to_thread(proc.read_mounts, self.roots)
        except (OSError, ValueError) as error:
            raise Transient(f"the mount table cannot be read: {error}") from error
        return tuple(judge(one, table) for one in self.storage)

    async def mount(self) -> None:
        """Mount what is not mounted rightly, in the order of the configuration."""
        for one, facts in zip(self.storage, await self.state(), strict=True):
            if not facts.right:
                await self._run(one, one.mount_commands)

    async def unmount(self, cycle: str, *, reboots: bool) -> None:  # noqa: ARG002 - it waits for nothing
        """Unmount what is mounted, in reverse order."""
        for one, facts in reversed(list(zip(self.storage, await self.state(), strict=True))):
            if facts.mounted:
                await self._run(one, one.unmount_commands)

    async def _run(self, one: Storage, argvs: Sequence[Sequence[str]]) -> None:
        for argv in argvs:
            log.info("storage_command", storage=one.name, argv=list(argv))
            done = await commands.run(argv, deadline_s=one.deadline_s)
            if done.returncode != 0:
                held = await asyncio.to_thread(self.processes.holders, one.path)
                by = f"; held by {'; '.join(held[:5])}" if held else ""
                raise Refused(f"{one.name}: {' '.join(argv)}: {done.complaint}{by}")


def judge(one: Storage, table: tuple[proc.Mount, ...]) -> StorageFacts:
    """What a mount table says of one storage."""
    finding = mounts.judge(table, one.limits, one.name)
    return StorageFacts(
        name=one.name,
        mounted=proc.mount_at(table, one.path) is not None,
        right=finding.status is Status.OK,
        why=finding.message,
    )
