# SPDX-License-Identifier: Apache-2.0
"""How full a filesystem is, of space or of inodes, and whether that is too full."""

from __future__ import annotations

from refloat_checks.bounds import Bound
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from refloat_checks.probed import Usage


@record
class Filling:
    """Space in kB, or inodes: how much in all, how much of it used, and free for ordinary users.

    Percentages are of what ordinary users can see, as df has them.
    """

    total: int
    used: int
    free: int

    @property
    def visible(self) -> int:
        """What is used and free, without what is reserved for the administrator."""
        return self.used + self.free

    @property
    def used_percent(self) -> int:
        """The share that is used, rounded up as df rounds."""
        return -(-100 * self.used // self.visible) if self.visible else 0

    def is_short(self, least: Bound) -> bool:
        """Tell whether less is free than must be."""
        if least.is_percent:
            return 100 * self.free < least.value * self.visible
        return self.free < least.value

    def is_full(self, limit: Bound) -> bool:
        """Tell whether as much is used as may not be."""
        return (self.used_percent if limit.is_percent else self.used) >= limit.value


def space(usage: Usage) -> Filling:
    """Give a filesystem's space in kB."""
    return Filling(usage.size_kb, usage.used_kb, usage.free_kb)


def inodes(usage: Usage) -> Filling:
    """Give a filesystem's inodes."""
    return Filling(usage.inodes, usage.inodes - usage.inodes_free, usage.inodes_free)
