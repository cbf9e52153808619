# SPDX-License-Identifier: Apache-2.0
"""Other coordinators on the same broker, with a ledger of their own or a copy: heard before we lead and while we do."""

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
    """What is heard on the broker of coordinators other than the ``instance`` that we are."""

    def __init__(
        self,
        settings: MqttSettings,
        topics: Topics,
        *,
        client_id: str,
        instance: str,
        lease_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ""
        """The name of ours."""
        self.highest = 0
        """The latest epoch of any other."""
        self._topic = topics.coordinator()
        self._instance = instance
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
        """Who leads, in words; empty where nobody has been heard for a lease."""
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
        if status.instance in {"", self._instance}:
            return
        self.highest = max(self.highest, status.epoch)
        is_ours = status.ledger == self.ledger
        self._listen(status, counts=not (retained and is_ours), ends=is_ours)
        if self._epoch is not None and outranks(status.epoch, status.instance, self._epoch, self._instance):
            log.error("outranked", by=_words(status, is_ours=is_ours), hint="give both the same state_dir, or stop one")
            self._outranked.put_nowait(_words(status, is_ours=is_ours))

    def _listen(self, status: CoordinatorStatus, *, counts: bool, ends: bool) -> None:
        """Note who leads. A retained word may be years old: of our own ledger the lease knows better.

        So is a last will: of another ledger's coordinator it only says that the broker has lost it.
        """
        if status.online and counts:
            self._leader = _words(status, is_ours=ends)
            self._until = self._monotonic() + max(self._lease_s, _BEATS * status.period_s)
        elif not status.online and ends:
            self._until = float("-inf")

    async def _connected(self) -> None:
        self._subscribed.set()


def _words(status: CoordinatorStatus, *, is_ours: bool) -> str:
    which = "this ledger, or a copy of it" if is_ours else "another ledger"
    return f"a coordinator on {status.host or 'another host'} with {which} leads in epoch {status.epoch}"
