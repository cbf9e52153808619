# SPDX-License-Identifier: Apache-2.0
"""Storage that is a mount unit of systemd, with or without an automount unit before it."""

import string
from collections.abc import Mapping
from typing import Final

from refloat_agent.effects.storage.driver import Budget, TableDriver, ask, order
from refloat_contract.errors import Transient

_PLAIN: Final = frozenset(string.ascii_letters + string.digits + ":_.")
_PROPERTIES: Final = "--property=Id,LoadState,ActiveState"


def escape(path: str) -> str:
    """Name a path as systemd-escape(1) does with ``--path``."""
    text = "/".join(part for part in path.split("/") if part)
    if not text:
        return "-"
    return "".join(_escaped(byte, first=at == 0) for at, byte in enumerate(text.encode(errors="surrogateescape")))


def _escaped(byte: int, *, first: bool) -> str:
    letter = chr(byte)
    if letter == "/":
        return "-"
    return letter if letter in _PLAIN and not (first and letter == ".") else f"\\x{byte:02x}"


def parse_show(text: str) -> Mapping[str, Mapping[str, str]]:
    """Parse what ``systemctl show --property=Id,...`` prints of several units: blocks of KEY=VALUE, a blank between."""
    blocks = (dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n"))
    return {block["Id"]: block for block in blocks if "Id" in block}


class SystemdStorage(TableDriver):
    """A mount unit.

    The mount unit is stopped before the automount unit: an automount unit that stops detaches whatever is mounted
    there, busy or not (MNT_DETACH in systemd's automount.c), while a mount unit that is busy refuses.
    """

    @property
    def unit(self) -> str:
        """The mount unit."""
        return self.storage.unit or f"{escape(self.storage.path)}.mount"

    @property
    def automount(self) -> str:
        """The automount unit that would belong to it."""
        return f"{self.unit.removesuffix('.mount')}.automount"

    async def mount(self, deadline_s: float) -> None:
        """Start the automount unit if there is one, and the mount unit, so that it is mounted and not only promised."""
        budget = Budget(deadline_s)
        units = await self._show()
        if units[self.automount]["LoadState"] == "loaded":
            await self._systemctl("start", self.automount, budget)
        await self._systemctl("start", self.unit, budget)

    async def unmount(self, deadline_s: float) -> None:
        """Stop the mount unit; once it is down, the automount unit, which would mount it again."""
        budget = Budget(deadline_s)
        units = await self._show()
        if units[self.unit]["ActiveState"] != "inactive":
            await self._systemctl("stop", self.unit, budget)
            units = await self._show()
        if units[self.unit]["ActiveState"] == "inactive" and units[self.automount]["ActiveState"] == "active":
            await self._systemctl("stop", self.automount, budget)

    async def _systemctl(self, verb: str, unit: str, budget: Budget) -> None:
        await order(self.storage, ["systemctl", verb, "--", unit], budget.left_s)

    async def _show(self) -> Mapping[str, Mapping[str, str]]:
        wanted = {self.unit, self.automount}
        done = await ask(["systemctl", "show", _PROPERTIES, "--", *sorted(wanted)])
        units = parse_show(done.stdout)
        if done.returncode != 0 or not wanted <= units.keys():
            raise Transient(f"systemctl show {self.unit}: {done.complaint}")
        return units
