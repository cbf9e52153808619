# SPDX-License-Identifier: Apache-2.0
"""Orders: what the coordinator tells the agent of one node, in the epoch in which it leads."""

from collections.abc import Callable

import structlog

from refloat_contract.messages import Order, Request, encode
from refloat_contract.topics import Kind, Topics
from refloat_contract.words import OrderKind
from refloat_service.mqtt import Publication

log = structlog.get_logger(__name__)


class Orders:
    """Numbers orders, so that none has the id of another, and posts them."""

    def __init__(self, post: Callable[[Publication], None], topics: Topics, epoch: int) -> None:
        self._post = post
        self._topics = topics
        self._epoch = epoch
        self._count = 0

    def poke(self, node: str) -> None:
        """Tell a node's agent to look at Slurm now: it was just marked, and the feed is up to a period behind."""
        self._send(Order(id=self._next(), node=node, kind=OrderKind.POKE, epoch=self._epoch))

    def answer(self, request: Request, denied: str | None, retry_after_s: float = 0.0) -> None:
        """Grant what was asked for, or say why not."""
        order = Order(
            id=self._next(),
            node=request.node,
            kind=OrderKind.GRANT if denied is None else OrderKind.DENY,
            epoch=self._epoch,
            request=request.id,
            cycle=request.cycle,
            why=denied or "",
            retry_after_s=retry_after_s,
        )
        log.info("permit_answered", node=request.node, cycle=request.cycle, granted=denied is None, why=order.why)
        self._send(order)

    def _next(self) -> str:
        self._count += 1
        return f"{self._epoch}-{self._count}"

    def _send(self, order: Order) -> None:
        self._post(Publication(self._topics.node(order.node, Kind.ORDER), encode(order)))
