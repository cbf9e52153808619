# SPDX-License-Identifier: Apache-2.0
"""What waves do to Slurm: mark a node, give a drain back. Both look first, and leave alone what is not theirs."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from refloat_contract import reasons
from refloat_contract.errors import RefloatError
from refloat_contract.reasons import Dialect, Hold, Progress, Trigger
from refloat_coordinator.lease import Deposed
from refloat_coordinator.waves import GiveBack, Mark
from refloat_slurm import states
from refloat_slurm.gateway import Change, NodeView, SlurmGateway

log = structlog.get_logger(__name__)

DONE_ALREADY: Final = "done already"
WRITTEN: Final = "written"
NOT_OURS: Final = "not ours"
UNREACHABLE: Final = "unreachable"


async def _surely() -> None:
    """There is no other."""


class Hands:
    """Writes to Slurm for the waves. The next read of the feed tells what came of it.

    ``on_written`` is told of each node that was written, so that its agent need not wait for that read.
    ``still_leads`` is asked right before each write, and raises where another coordinator leads.
    """

    def __init__(
        self,
        gateway: SlurmGateway,
        dialect: Dialect,
        on_written: Callable[[str], None] = lambda _node: None,
        still_leads: Callable[[], Awaitable[None]] = _surely,
    ) -> None:
        self._gateway = gateway
        self._dialect = dialect
        self._on_written = on_written
        self._still_leads = still_leads

    async def perform(self, order: Mark | GiveBack) -> str:
        """Do it, if a fresh look at the node still allows; answers with what was done.

        Raises:
            Deposed: another coordinator leads.
        """
        try:
            view = await self._gateway.node(order.node)
            outcome = self._verdict(order, view)
            if outcome == WRITTEN:
                await self._still_leads()
                await self._write(order)
                self._on_written(order.node)
        except Deposed:
            raise
        except RefloatError as error:
            # A write that timed out may be applied later: the feed shows it, and nothing is written before.
            log.warning("node_not_written", wave=order.wave, node=order.node, why=str(error))
            return UNREACHABLE
        shown = "+".join(sorted(view.flags))
        log.info(_name(order), wave=order.wave, node=order.node, outcome=outcome, state=shown, reason=view.reason)
        return outcome

    def _verdict(self, order: Mark | GiveBack, view: NodeView) -> str:
        if isinstance(order, Mark):
            return self._may_mark(order, view)
        ours = states.is_drain_set(view) and "DOWN" not in view.flags and reasons.is_same(view.reason, order.reason)
        return WRITTEN if ours else NOT_OURS

    def _may_mark(self, order: Mark, view: NodeView) -> str:
        if not states.is_drain_set(view):
            return WRITTEN if states.is_in_service(view) else NOT_OURS
        match reasons.parse(view.reason, self._dialect):
            case Trigger(wave=order.wave) | Progress(wave=order.wave):
                return DONE_ALREADY
            case Hold(cycle=cycle) if order.replaces and (not cycle or cycle in order.replaces):
                return WRITTEN
            case _:
                return NOT_OURS

    async def _write(self, order: Mark | GiveBack) -> None:
        if isinstance(order, Mark):
            await self._gateway.update(order.node, Change.DRAIN, order.reason)
        else:
            await self._gateway.update(order.node, Change.RESUME)


def _name(order: Mark | GiveBack) -> str:
    return "node_marked" if isinstance(order, Mark) else "drain_given_back"
