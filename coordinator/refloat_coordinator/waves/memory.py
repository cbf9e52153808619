# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a wave while it is under way; none of it is saved, and none of it must be."""

from dataclasses import dataclass, field
from typing import Final

from refloat_contract.messages import WaveReport
from refloat_coordinator.waves.blocker import BlockerAnswer
from refloat_coordinator.waves.decisions import EndJobs, Errand
from refloat_coordinator.waves.wave import Described
from refloat_coordinator.waves.world import Settled

_JOBS_ENDED_AGAIN_S: Final = 60.0
"""Jobs that were told to end are told again after so long."""


@dataclass(slots=True)
class Memory:
    """``report`` was told last, ``answer`` is the blocker's; ``settled`` and ``described`` only save time."""

    settled: Settled = field(default_factory=Settled)
    described: Described = field(default_factory=dict)
    report: WaveReport | None = None
    answer: BlockerAnswer | None = None
    _tried: dict[str, int] = field(default_factory=dict)
    _ended: dict[str, float] = field(default_factory=dict)

    def is_due(self, errand: Errand, reads: int, now: float) -> bool:
        """Whether to run an errand now: once for each read of Slurm's table, for the next shows what came of it."""
        if isinstance(errand, EndJobs):
            if now - self._ended.get(errand.node, 0.0) < _JOBS_ENDED_AGAIN_S:
                return False
            self._ended[errand.node] = now
            return True
        if self._tried.get(errand.node) == reads:
            return False
        self._tried[errand.node] = reads
        return True

    def forget_tries(self) -> None:
        """Run every errand at once that is due: an operator has changed the wave."""
        self._tried.clear()
        self._ended.clear()
