# SPDX-License-Identifier: Apache-2.0
"""Storage that a site's own commands mount and unmount."""

from refloat_agent.effects.storage.driver import Budget, TableDriver, order


class CommandStorage(TableDriver):
    """The configured lists of words, one after the other; the first that fails ends it."""

    async def mount(self, deadline_s: float) -> None:
        """Run the commands that mount it."""
        budget = Budget(deadline_s)
        for argv in self.storage.mount:
            await order(self.storage, argv, budget.left_s)

    async def unmount(self, deadline_s: float) -> None:
        """Run the commands that unmount it."""
        budget = Budget(deadline_s)
        for argv in self.storage.unmount:
            await order(self.storage, argv, budget.left_s)
