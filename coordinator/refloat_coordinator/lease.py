# SPDX-License-Identifier: Apache-2.0
"""The lease: which coordinator leads, as the ledger has it, and when another one may take over; pure.

A holder moves ``beat`` on. Whoever stands by watches it by a monotonic clock of its own: a lease that has not changed
for as long as it lasts has lapsed. No two hosts' clocks are ever compared.
"""

from dataclasses import dataclass

from refloat_contract.errors import Refused


class Deposed(Refused):
    """Another coordinator leads: this one must not act any more."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A coordinator that leads or would like to: one life of one process.

    ``locked``: it holds the lock file of the state directory, which only the kernel of ``boot_id`` answers for.
    """

    id: str
    host: str = ""
    boot_id: str = ""
    locked: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease as it was read; ``holder`` is None when it was given back, or never taken.

    ``ledger`` is the file's own name, which it got when it was made: empty before that.
    """

    epoch: int = 0
    holder: Holder | None = None
    beat: int = 0
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """A lease, and since when (monotonic) it has been seen unchanged. ``moved``: it changed while it was watched."""

    lease: Lease
    since: float
    moved: bool = False


def watched(watch: Watch | None, seen: Lease, now: float) -> Watch:
    """The watch after another look."""
    if watch is None:
        return Watch(seen, now)
    return watch if watch.lease == seen else Watch(seen, now, moved=True)


def left_s(watch: Watch, taker: Holder, now: float, lease_s: float) -> float:
    """How long the taker must still wait; 0 when it may take the lease now."""
    holder = watch.lease.holder
    if holder is None or has_ended(holder, taker):
        return 0.0
    return max(0.0, watch.since + lease_s - now)


def has_ended(holder: Holder, taker: Holder) -> bool:
    """Whether the holder's process has ended for certain: the kernel that gave it the lock gave it to the taker."""
    return holder.locked and taker.locked and holder.boot_id == taker.boot_id


def outranks(epoch: int, instance: str, over_epoch: int, over_instance: str) -> bool:
    """Which of two that both lead goes on: the later epoch, and of equal ones the one that both find the same way."""
    return (epoch, instance) > (over_epoch, over_instance)
