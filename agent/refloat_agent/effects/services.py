# SPDX-License-Identifier: Apache-2.0
"""The configured services, through systemctl."""

from dataclasses import dataclass
from typing import Final

from refloat_agent.observation import ServiceFacts
from refloat_contract.errors import RefloatError, Refused, Transient
from refloat_service import commands

_ACTIVE: Final = frozenset({"active", "activating", "reloading", "deactivating"})
_INACTIVE: Final = frozenset({"inactive", "failed", "unknown"})


@dataclass(frozen=True, slots=True)
class SystemdServices:
    """Units of systemd; without any configured, systemctl is never run."""

    units: tuple[str, ...]
    deadline_s: float

    async def state(self) -> tuple[ServiceFacts, ...]:
        """Which units are active.

        Raises:
            Transient: systemctl did not answer as it should.
        """
        if not self.units:
            return ()
        done = await commands.run(["systemctl", "is-active", "--", *self.units], deadline_s=self.deadline_s)
        words = done.stdout.split()
        if len(words) != len(self.units) or not _ACTIVE.union(_INACTIVE).issuperset(words):
            raise Transient(f"systemctl is-active: {done.complaint}")
        return tuple(ServiceFacts(unit, word in _ACTIVE) for unit, word in zip(self.units, words, strict=True))

    async def stop(self, *, keep_going: bool) -> None:
        """Stop the units, one after the other, in the order of the configuration.

        Raises:
            Refused: a unit does not stop; with ``keep_going`` the others are stopped before this is told.
            Transient: systemctl did not answer in time.
        """
        failures: list[RefloatError] = []
        for unit in self.units:
            try:
                await self._systemctl("stop", unit)
            except RefloatError as error:
                if not keep_going:
                    raise
                failures.append(error)
        if failures:
            raise Refused("; ".join(map(str, failures)))

    async def start(self) -> None:
        """Start them in reverse order."""
        for unit in reversed(self.units):
            await self._systemctl("start", unit)

    async def _systemctl(self, verb: str, unit: str) -> None:
        done = await commands.run(["systemctl", verb, "--", unit], deadline_s=self.deadline_s)
        if done.returncode != 0:
            raise Refused(f"systemctl {verb} {unit}: {done.complaint}")
