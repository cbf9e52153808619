# SPDX-License-Identifier: Apache-2.0
"""What is known of the boot gate: whether it holds slurmd back just now, and whether it is past its deadline."""

from dataclasses import dataclass
from typing import Final

from refloat_agent.boot_gate import Answer
from refloat_agent.observation import GateFacts
from refloat_agent.ports import Clock

SILENT_S: Final = 10.0
"""A gate asks every second; one that has not for so long was stopped."""


@dataclass(slots=True)
class Gatekeeper:
    """Keeps what the gate was told last."""

    clock: Clock
    last: Answer | None = None
    _at_s: float = 0.0

    def told(self, answer: Answer) -> None:
        """Keep it."""
        self.last, self._at_s = answer, self.clock.boottime_s()

    def facts(self) -> GateFacts:
        """What a decision may depend on."""
        if self.last is None or self.clock.boottime_s() - self._at_s >= SILENT_S:
            return GateFacts()
        return GateFacts(holds=not self.last.opens, overdue=self.last.overdue)
