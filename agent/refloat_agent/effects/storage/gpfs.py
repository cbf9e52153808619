# SPDX-License-Identifier: Apache-2.0
"""IBM Storage Scale (GPFS): a filesystem of it, and the daemon beneath all of them.

mmlsmount is not asked: it has the whole cluster counted. That this node mounts it is in its mount table, and that its
daemon works is in ``mmgetstate -Y``, which asks nobody else.
"""

import asyncio
from typing import Final

from refloat_agent.effects.storage.driver import Budget, TableDriver, ask, order
from refloat_agent.effects.storage.table import Entry, Table
from refloat_checks import gpfs
from refloat_contract.errors import Refused, Transient

_ACTIVE: Final = "active"
_DOWN: Final = "down"
_FSTYPE: Final = "gpfs"


class GpfsStorage(TableDriver):
    """One filesystem. Its daemon is started for the first of them, and stopped after the last."""

    pause_s = 2.0
    """Between two looks at a daemon that starts: it looks for its quorum for half a minute."""

    async def mount(self, deadline_s: float) -> None:
        """Start the daemon, wait until it is active (before that mmmount refuses), and mount."""
        budget = Budget(deadline_s)
        state = await self._state()
        if state == _DOWN:
            await self._order("mmstartup", budget=budget)
        while state != _ACTIVE:
            if budget.is_spent:
                raise Transient(f"{self.storage.name}: GPFS is still {state} after {deadline_s:g} s")
            await asyncio.sleep(self.pause_s)
            state = await self._state()
        await self._order("mmmount", self._device, budget=budget)

    async def unmount(self, deadline_s: float) -> None:
        """Unmount it on this node."""
        await self._order("mmumount", self._device, budget=Budget(deadline_s))

    async def unload(self, mounts: Table, deadline_s: float) -> None:
        """Stop the daemon, but never beneath a mounted filesystem.

        mmshutdown tries to unmount, and when its own time for that has passed, it stops the daemon all the same.

        Raises:
            Refused: a filesystem of it is mounted.
        """
        if mounted := mounts.of_type(_FSTYPE):
            raise Refused(f"{self.storage.name}: GPFS goes on: {mounted[0].mount.point} is mounted")
        await self._order("mmshutdown", budget=Budget(deadline_s))

    async def remains(self, mounts: Table) -> str:
        """The daemon, when it is to be stopped and no filesystem of it is mounted any more."""
        if not self.storage.unloads or mounts.of_type(_FSTYPE):
            return ""
        state = await self._state()
        return "" if state == _DOWN else f"GPFS is {state}, not {_DOWN}"

    async def complaint(self, entry: Entry) -> str:  # noqa: ARG002 - the daemon serves all of them
        """That the daemon is not active: then a mounted filesystem does not answer."""
        state = await self._state()
        return "" if state == _ACTIVE else f"GPFS is {state}, not {_ACTIVE}"

    @property
    def _device(self) -> str:
        return self.storage.device or self.storage.path

    async def _order(self, program: str, *words: str, budget: Budget) -> None:
        await order(self.storage, [f"{self.storage.program_dir}/{program}", *words], budget.left_s)

    async def _state(self) -> str:
        done = await ask([f"{self.storage.program_dir}/mmgetstate", "-Y"])
        if done.returncode != 0:
            raise Transient(f"mmgetstate: {done.complaint}")
        try:
            state = gpfs.parse(done.stdout).state
        except (ValueError, KeyError) as error:
            raise Transient(f"mmgetstate: {error}") from error
        if state == "unknown":
            raise Transient("mmgetstate: GPFS does not know its state")
        return state
