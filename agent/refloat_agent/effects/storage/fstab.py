# SPDX-License-Identifier: Apache-2.0
"""Storage that has an entry in /etc/fstab: mount(8) and umount(8), named by its mount point and nothing else."""

from refloat_agent.effects.storage.driver import TableDriver, order


class FstabStorage(TableDriver):
    """One entry of /etc/fstab."""

    async def mount(self, deadline_s: float) -> None:
        """Mount the entry."""
        await order(self.storage, ["mount", self.storage.path], deadline_s)

    async def unmount(self, deadline_s: float) -> None:
        """Unmount what is on top there."""
        await order(self.storage, ["umount", self.storage.path], deadline_s)
