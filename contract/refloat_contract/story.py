# SPDX-License-Identifier: Apache-2.0
"""What both daemons say to `refloat why`: since when a node waits, what comes next, and what its cycle did. Pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from refloat_contract.messages import Event, NodeReport
from refloat_contract.words import EventKind, Phase

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_OF_CHECKS: Final = frozenset({EventKind.CHECK_FAILED, EventKind.CHECK_PASSED})
HISTORY: Final = 40
"""So many lines of a cycle's history are told, the newest."""


def short(seconds: float) -> str:
    """A duration in at most six characters: ``7s``, ``1m05s``, ``2h03m``, ``3d04h``."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02d}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02d}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02d}h"


def stamp(at: float) -> str:
    """A moment, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def jobs(found: Iterable[tuple[str, str, int]], now: float) -> str:
    """The job that ends last, of ``(id, user, ends at)``, with whose it is and when it ends at the latest.

    Where one has no limit that Slurm tells of, it is that one.
    """
    all_ = sorted(found, key=lambda job: job[2] or float("inf"))
    if not all_:
        return ""
    name, user, ends_at = all_[-1]
    more = f" and {len(all_) - 1} more" if len(all_) > 1 else ""
    return f"job {name} of {user} {until(ends_at, now)}{more}"


def until(ends_at: int, now: float) -> str:
    """When a job ends by its time limit, on this machine's clock: with the day, where that is not today."""
    if not ends_at:
        return "without a known end"
    end, today = (datetime.fromtimestamp(at).astimezone() for at in (ends_at, now))
    return "until ~" + end.strftime("%H:%M" if end.date() == today.date() else "%b %d %H:%M")


def wait(report: NodeReport, now: float) -> list[str]:
    """Since when the node waits, what its cycle is, and what comes next."""
    if report.phase is Phase.IN_SERVICE:
        return []
    lines = [f"in {report.phase} since {stamp(report.since)} ({short(now - report.since)})"] if report.since else []
    cycle = report.cycle
    if cycle is not None:
        begun = f", begun {stamp(cycle.started_at)} ({short(now - cycle.started_at)})" if cycle.started_at else ""
        wanted = "".join(f", {key} {value}" for key, value in (("image", cycle.image), ("wave", cycle.wave)) if value)
        lines.append(f"cycle {cycle.id}, recipe {cycle.recipe}{wanted}{begun}")
        if cycle.left:
            lines.append(f"next: {', '.join(cycle.left)}")
    return lines


def history(report: NodeReport | None, events: Sequence[Event]) -> list[str]:
    """What this cycle did, or the last one, oldest first, with how long each phase took."""
    if report is None:
        return []
    cycle = report.cycle.id if report.cycle else report.last_cycle.id if report.last_cycle else ""
    told = [event for event in events if cycle and event.cycle == cycle and event.kind not in _OF_CHECKS]
    return [line(event) for event in told[-HISTORY:]]


def line(event: Event) -> str:
    """One event."""
    took = ""
    if event.duration_s and event.kind is not EventKind.PHASE_ENTERED:
        took = f" ({short(event.duration_s)})"
    return f"{stamp(event.at_ns / 1e9)} {event.kind}: {event.message}{took}"
