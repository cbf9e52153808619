# SPDX-License-Identifier: Apache-2.0
"""The bus of an agent without a broker: what keeps up a connection is not even loaded."""

from collections.abc import Sequence

from refloat_agent.observation import PermitFacts
from refloat_contract.messages import Event, NodeReport
from refloat_contract.words import Purpose


class NoBus:
    """The Reporter of an agent without a broker: events stay in its log, and there is nobody to ask."""

    connected = False

    async def run(self) -> None:
        """Keep no connection up."""

    def permit(self) -> PermitFacts:
        """There is no coordinator."""
        return PermitFacts(coordinator=False)

    async def ask(self, permit: str, purpose: Purpose, recipe: str, wave: str, cause: str = "") -> None:
        """Nobody to ask: the policy without a coordinator decides."""

    async def release(self, permit: str) -> None:
        """Nothing was granted."""

    async def ask_idle(self, check: str) -> str | None:  # noqa: ARG002 - the signature of Bus
        """Nobody counts."""
        return None

    async def end_idle(self, check: str) -> None:
        """Nothing was granted."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """The loop has logged them; there is nobody else to tell."""

    def report(self, report: NodeReport) -> None:
        """`refloat status` asks the control socket."""

    async def flush(self) -> None:
        """Nothing waits."""
