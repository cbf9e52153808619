# SPDX-License-Identifier: Apache-2.0
"""Other coordinators on the same broker, whose ledger is not ours: heard before we act, and while we lead.

They are heard on the link that leads, and on no other: brokers may take a second connection of one user for the first.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import structlog

from refloat_contract.errors import BadMessage
from refloat_contract.messages import CoordinatorStatus, decode
from refloat_coordinator.lease import Deposed, outranks

log = structlog.get_logger(__name__)

_BROKER_DEADLINE_S: Final = 2.0
_RETAINED_S: Final = 0.1
"""What a broker kept comes right behind its answer to the subscription."""
_BEATS: Final = 3
"""After so many heartbeats that did not come a coordinator is gone."""
_LEASES: Final = 4
"""Who has yielded to another ledger's coordinator looks again after so many leases."""


class Elsewhere:
    """What is heard of coordinators other than the ``instance`` that we are, over all of this process's life."""

    def __init__(self, instance: str, *, lease_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.ledger = ""
        """The name of ours."""
        self.highest = 0
        """The latest epoch of any other."""
        self._instance = instance
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._leader = ""
        self._until = float("-inf")
        self._doubted_until = float("-inf")
        self._last: CoordinatorStatus | None = None
        self._is_first = True
        self._connected = asyncio.Event()
        self._epoch: int | None = None
        self._outranked: asyncio.Queue[str] = asyncio.Queue()

    def linked(self, up: bool) -> None:  # noqa: FBT001 - the link's signature
        """The link to the broker is up, with its subscriptions, or down."""
        if up:
            self._connected.set()
        else:
            self._connected.clear()
            self._is_first = True

    def leader(self) -> str:
        """Who leads with another ledger, in words; empty where it is time to look again."""
        return self._leader if self._monotonic() < self._until else ""

    async def clear(self, epoch: int) -> None:
        """Return when the broker does not answer, or nobody with another ledger is heard there.

        Raises:
            Deposed: one is; or one that is gone had a later epoch than ours, so that agents would not hear us.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BROKER_DEADLINE_S):
                await self._connected.wait()
                await asyncio.sleep(_RETAINED_S)
        while not self.leader() and self._monotonic() < self._doubted_until:  # noqa: ASYNC110 - the end is a time, too
            await asyncio.sleep(_RETAINED_S)
        if self.leader():
            raise Deposed(self.leader())
        if self.highest >= epoch:
            raise Deposed(f"another ledger had epoch {self.highest}, ours was {epoch}: going on behind that")

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

    def hear(self, payload: bytes) -> None:
        """Take in what a coordinator says of itself, or the broker of one that is gone."""
        try:
            status = decode(CoordinatorStatus, payload)
        except BadMessage as error:
            log.warning("message_ignored", why=str(error))
            return
        # The first word of a connection may be years old, and is news only if it is another than the last one.
        is_old = self._is_first and (self._last is None or self._last == status)
        self._is_first, self._last = False, status
        if status.instance in {"", self._instance}:
            return
        self.highest = max(self.highest, status.epoch)
        is_ours = status.ledger == self.ledger
        who = _words(status, is_ours=is_ours)
        patience_s = max(self._lease_s, _BEATS * status.period_s)
        if not is_ours and status.online and not is_old:
            self._leader, self._until = who, self._monotonic() + max(_LEASES * self._lease_s, patience_s)
        elif not is_ours:
            self._doubted_until = self._monotonic() + patience_s
        # A last will is not the word of one who leads.
        if (
            self._epoch is not None
            and status.online
            and outranks(status.epoch, status.instance, self._epoch, self._instance)
        ):
            log.error("outranked", by=who, hint="give both the same state_dir, or stop one")
            self._outranked.put_nowait(who)


def _words(status: CoordinatorStatus, *, is_ours: bool) -> str:
    which = "this ledger, or a copy of it" if is_ours else "another ledger"
    return f"a coordinator on {status.host or 'another host'} with {which} leads in epoch {status.epoch}"
