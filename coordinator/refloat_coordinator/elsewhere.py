# SPDX-License-Identifier: Apache-2.0
"""Coordinators with another ledger on the same broker: heard before we lead and while we do; two must never lead."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import structlog

from refloat_contract.messages import CoordinatorStatus, decode
from refloat_contract.topics import Topics
from refloat_coordinator.lease import Deposed, outranks
from refloat_service.mqtt import Link, MqttSettings

log = structlog.get_logger(__name__)

_BROKER_DEADLINE_S: Final = 2.0
_RETAINED_S: Final = 0.1
"""What a broker kept comes right behind its answer to the subscription."""
_BEATS: Final = 3
"""After so many heartbeats that did not come a coordinator is gone."""


class Elsewhere:
    """What is heard on the broker of coordinators whose ledger is not ours."""

    def __init__(
        self,
        settings: MqttSettings,
        topics: Topics,
        *,
        client_id: str,
        lease_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ""
        """Whose word is our own."""
        self.highest = 0
        """The latest epoch of any other."""
        self._topic = topics.coordinator()
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._leader = ""
        self._until = float("-inf")
        self._epoch: int | None = None
        self._outranked: asyncio.Queue[str] = asyncio.Queue()
        self._subscribed = asyncio.Event()
        self._link = Link(
            settings,
            client_id=client_id,
            subscriptions=[self._topic],
            on_message=lambda topic, payload, retained: self.hear(topic, payload, retained=retained),
            on_connect=self._connected,
        )

    async def run(self) -> None:
        """Listen until cancelled."""
        await self._link.run()

    async def settled(self) -> None:
        """Return when the broker has told what it keeps, or does not answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BROKER_DEADLINE_S):
                await self._subscribed.wait()
                await asyncio.sleep(_RETAINED_S)

    def leader(self) -> str:
        """Who leads with another ledger, in words; empty where nobody has been heard for a lease."""
        return self._leader if self._monotonic() < self._until else ""

    async def outranked(self, epoch: int) -> None:
        """While we lead in ``epoch``: wait for one who outranks that.

        Raises:
            Deposed: there is one.
        """
        self._epoch, self._outranked = epoch, asyncio.Queue()
        try:
            raise Deposed(await self._outranked.get())
        finally:
            self._epoch = None

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take in what a coordinator says of itself, or the broker of one that is gone.

        Raises:
            BadMessage: it cannot be read.
        """
        if topic != self._topic:
            return  # some brokers hand out all that they keep
        status = decode(CoordinatorStatus, payload)
        if status.ledger in {"", self.ledger}:
            return
        self.highest = max(self.highest, status.epoch)
        who = f"a coordinator on {status.host or 'another host'} with another ledger, epoch {status.epoch}"
        if status.online:
            # A retained word may be years old: if it lives, another follows.
            self._leader, self._until = who, self._monotonic() + max(self._lease_s, _BEATS * status.period_s)
        if self._epoch is not None and outranks(status.epoch, status.ledger, self._epoch, self.ledger):
            log.error("another_ledger", who=who, retained=retained, hint="give both the same state_dir, or stop one")
            self._outranked.put_nowait(who)

    async def _connected(self) -> None:
        self._subscribed.set()
