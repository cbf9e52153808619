# SPDX-License-Identifier: Apache-2.0
"""Leadership: standing by until the lease is ours, keeping it, and knowing at any moment whether it still is."""

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from refloat_contract.errors import Misconfigured, Transient
from refloat_coordinator.elsewhere import Elsewhere
from refloat_coordinator.lease import Deposed, Holder, Lease, Watch, has_ended, left_s, watched
from refloat_coordinator.record.ledger import Ledger
from refloat_service.alone import alone

log = structlog.get_logger(__name__)

_RENEWALS: Final = 5
"""So often a lease is renewed while it lasts."""
_TRUSTED: Final = 0.6
"""For this part of a lease its holder may act without a look; whoever stands by waits for all of it."""


class Leadership:
    """One try of one process to lead with this ledger. ``say`` is told what is waited for."""

    def __init__(
        self,
        ledger: Ledger,
        elsewhere: Elsewhere,
        lock_path: Path,
        *,
        instance: str,
        lease_s: float,
        standby: bool,
        say: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.took_over = False
        """Whether a coordinator that held the lease may still be there, stopped or cut off."""
        self.ledger_id = ""
        """The name of the ledger that we lead with."""
        self._ledger = ledger
        self._elsewhere = elsewhere
        self._lock_path = lock_path
        self._lease_s = lease_s
        self._standby = standby
        self._say = say
        self._monotonic = monotonic
        self._renewed_at = float("-inf")
        self._lock = contextlib.ExitStack()
        self._is_locked = False
        self.instance = instance
        self._boot_id = ""

    async def acquire(self) -> int:
        """Wait for the lease and take it; answers with the new epoch.

        Raises:
            Misconfigured: another one leads, and the settings say not to stand by.
        """
        self._boot_id = await asyncio.to_thread(_boot_id)
        watch = Watch(await self._ledger.lease(), self._monotonic())
        self._elsewhere.ledger = watch.lease.ledger
        while True:
            taker = await asyncio.to_thread(self._taker)
            waits_for = _leader(watch.lease) if left_s(watch, taker, self._monotonic(), self._lease_s) else ""
            waits_for = waits_for or self._elsewhere.leader()
            if not waits_for:
                try:
                    return await self._take(taker, watch.lease)
                except Deposed:
                    waits_for = "another coordinator"
                except Transient as error:
                    waits_for = str(error)
            self._refuse(taker, watch, waits_for)
            self._say(f"standing by: {waits_for}")
            await asyncio.sleep(self._lease_s / _RENEWALS)
            watch = await self._look(watch)
            self._elsewhere.ledger = watch.lease.ledger

    async def _take(self, taker: Holder, seen: Lease) -> int:
        began_at = self._monotonic()
        epoch = await self._ledger.begin(taker, seen, self._elsewhere.highest)
        self._elsewhere.ledger = self.ledger_id = (await self._ledger.lease()).ledger
        self.took_over = seen.holder is not None and not has_ended(seen.holder, taker)
        self._renewed_at = began_at
        return epoch

    async def _look(self, watch: Watch) -> Watch:
        try:
            return watched(watch, await self._ledger.lease(), self._monotonic())
        except Transient as error:
            log.warning("lease_not_read", why=str(error))
            return watch

    def _refuse(self, taker: Holder, watch: Watch, waits_for: str) -> None:
        if not self._standby and (not taker.locked or watch.moved or self._elsewhere.leader()):
            raise Misconfigured(f"already running: {waits_for} (leadership.standby = true waits for its end)")

    async def keep(self) -> None:
        """Renew the lease until cancelled.

        Raises:
            Deposed: somebody else has taken it.
        """
        while True:
            began_at = self._monotonic()
            try:
                await self._ledger.renew()
            except Transient as error:
                # Nothing is saved meanwhile, so nothing is done either; nobody else can take it from this disk.
                log.warning("lease_not_renewed", why=str(error))
            else:
                self._renewed_at = began_at
            await asyncio.sleep(self._lease_s / _RENEWALS)

    def is_fresh(self) -> bool:
        """Whether nobody can have taken the lease yet, by the monotonic clock alone."""
        return self._monotonic() - self._renewed_at < _TRUSTED * self._lease_s

    async def confirm(self) -> None:
        """Return if we lead, by a fresh look at the ledger.

        Raises:
            Deposed: somebody else does.
            Transient: the ledger does not say.
        """
        await self._ledger.confirm()
        if not self.is_fresh():
            raise Transient("the lease has not been renewed in time")

    async def resign(self) -> None:
        """Give the lease and the lock back; whoever stands by goes on at once."""
        with contextlib.suppress(Transient, Deposed):
            await self._ledger.resign()
        self._renewed_at = float("-inf")
        self._is_locked = False
        await asyncio.to_thread(self._lock.close)

    def _taker(self) -> Holder:
        if not self._is_locked:
            with contextlib.suppress(Misconfigured):  # another process on this machine holds it
                self._lock.enter_context(alone(self._lock_path))
                self._is_locked = True
        return Holder(self.instance, socket.gethostname(), self._boot_id, self._is_locked)


def _leader(lease: Lease) -> str:
    host = lease.holder.host if lease.holder else ""
    return f"the coordinator on {host or 'another host'} leads in epoch {lease.epoch}"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return secrets.token_hex(8)  # a machine like no other: nothing is known of its other processes
