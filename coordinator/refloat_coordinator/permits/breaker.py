# SPDX-License-Identifier: Apache-2.0
"""The breaker: one check that begins to fail on many nodes at once is one incident, not many broken nodes; pure.

While an incident is open no node gets leave to be drained for that check, nor for its remedy. It stands in the way of
nothing else: not of coming back, not of a cycle that somebody asked for, not of a drain for another check.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from refloat_contract import story
from refloat_contract.errors import Refused
from refloat_contract.messages import Event, Request
from refloat_contract.words import EventKind, Purpose
from refloat_coordinator import hostlists
from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.permits.permit import Permits

RETRY_AFTER_S: Final = 60.0
CLEARED: Final = "cleared"
"""Who closed an incident that ended by itself."""
_BEFORE: Final = 0.0
_HOST: Final = "coordinator"
_SHOWN: Final = 300


class Incident(BaseModel):
    """A check that failed on too many nodes at once, as it is kept on disk.

    ``nodes`` of ``of`` nodes had begun to fail it when it was opened. ``closed_by`` is empty while it is open;
    ``spared`` are the nodes that failed when somebody closed it: they do not open it again.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    id: str
    check: str
    opened_at: float
    nodes: tuple[str, ...] = ()
    of: int = 0
    closed_at: float = 0.0
    closed_by: str = ""
    spared: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether drains for its check wait."""
        return not self.closed_by


@dataclass(frozen=True, slots=True)
class Trip:
    """When an incident opens and closes.

    It opens when a check begins to fail within ``window_s`` on more than ``percent`` of what could serve (0: never),
    and on ``nodes`` at least; it clears when for ``clear_s`` it has failed on fewer than half of that.
    """

    percent: int = 10
    nodes: int = 5
    window_s: float = 600.0
    clear_s: float = 300.0

    def count(self, serving: int) -> int:
        """From how many nodes on an incident opens."""
        return max(self.nodes, serving * self.percent // 100 + 1)


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is known of failing checks.

    ``failing`` has, for each check, the nodes on which it fails and when each began, by the coordinator's clock; 0 for
    those that do not count: they were out already, or somebody has closed an incident over them. ``clearing`` is since
    when an incident's check fails on few enough nodes.
    """

    trip: Trip = field(default_factory=Trip)
    failing: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    incidents: Mapping[str, Incident] = field(default_factory=dict)
    clearing: Mapping[str, float] = field(default_factory=dict)
    last: int = 0

    def of_check(self, check: str) -> Incident | None:
        """The open incident of a check."""
        return next((one for one in self.incidents.values() if one.check == check and one.is_open), None)

    @property
    def open(self) -> tuple[Incident, ...]:
        """The open incidents, oldest first."""
        return tuple(one for one in self.incidents.values() if one.is_open)


def taken_up(trip: Trip, incidents: Iterable[Incident]) -> Breaker:
    """The breaker after a start, from what is on disk, oldest first."""
    known = {one.id: one for one in incidents}
    return Breaker(trip, incidents=known, last=max((_number(name) for name in known), default=0))


def heard(
    breaker: Breaker,
    nodes: Iterable[Node],
    asked: Iterable[tuple[Request, Node]],
    out: Container[str],
    now: float,
) -> Breaker:
    """The breaker after these reports, and requests with who asked. A node of ``out`` is no news: it was out before."""
    if not breaker.trip.percent:
        return breaker
    notes = _Notes(breaker, out, now)
    for node in nodes:
        notes.report(node.name, {failure.check for failure in node.report.failing} if node.report else set())
    for request, node in asked:
        is_news = node.report is None or request.at > node.report.at
        if request.purpose is Purpose.HEALTH and request.cause and is_news:
            notes.begin(request.cause, request.node)
    return notes.taken()


class _Notes:
    """What fails where, while reports are taken in; a check's nodes are copied when the first of them changes."""

    def __init__(self, breaker: Breaker, out: Container[str], now: float) -> None:
        self._breaker = breaker
        self._out = out
        self._now = now
        self._failing = dict(breaker.failing)
        self._changed: dict[str, dict[str, float]] = {}
        self._spared: dict[str, Container[str]] = {}

    def report(self, node: str, failing: set[str]) -> None:
        for check, nodes in self._failing.items():
            if node in nodes and check not in failing:
                self._of(check).pop(node, None)
        for check in failing:
            self.begin(check, node)

    def begin(self, check: str, node: str) -> None:
        if node in self._failing.get(check, {}):
            return
        if check not in self._spared:
            self._spared[check] = _spared(self._breaker, check)
        self._of(check)[node] = _BEFORE if node in self._out or node in self._spared[check] else self._now

    def taken(self) -> Breaker:
        if not self._changed:
            return self._breaker
        return replace(self._breaker, failing={check: nodes for check, nodes in self._failing.items() if nodes})

    def _of(self, check: str) -> dict[str, float]:
        if check not in self._changed:
            # In its place, so that report() may go on over the same dictionary.
            self._failing[check] = self._changed[check] = dict(self._failing.get(check, {}))
        return self._changed[check]


def judged(breaker: Breaker, fleet: Fleet, permits: Permits, now: float) -> tuple[Breaker, tuple[Incident, ...]]:
    """The breaker with the incidents that open or close now, and these."""
    if not breaker.trip.percent or not fleet.slurm_ok:
        return breaker, ()
    serving = fleet.serving
    limit = breaker.trip.count(len(serving))
    moved: list[Incident] = []
    last, clearing = breaker.last, dict[str, float]()
    for check, nodes in breaker.failing.items():
        if len(nodes) < limit or breaker.of_check(check):
            continue
        fresh = tuple(n for n, at in nodes.items() if at and now - at <= breaker.trip.window_s and n in fleet.known)
        if len(fresh) >= limit:
            last += 1
            moved.append(Incident(id=f"b{last}", check=check, opened_at=now, nodes=fresh, of=len(serving)))
    for one in breaker.open:
        left = [n for n in breaker.failing.get(one.check, ()) if _serves(n, fleet, permits)]
        if 2 * len(left) >= limit:
            continue
        since = clearing[one.id] = breaker.clearing.get(one.id, now)
        if now - since >= breaker.trip.clear_s:
            moved.append(one.model_copy(update={"closed_at": now, "closed_by": CLEARED}))
    if not moved and clearing == breaker.clearing:
        return breaker, ()
    known = {**breaker.incidents, **{one.id: one for one in moved}}
    return replace(breaker, incidents=known, clearing=clearing, last=last), tuple(moved)


def closed(breaker: Breaker, name: str, by: str, now: float) -> tuple[Breaker, Incident]:
    """The breaker with an incident closed by somebody; ``name`` is its id or its check.

    Nodes that fail now ask for their drains again, as many at once as the budget allows; only others can open another.

    Raises:
        Refused: no such incident is open.
    """
    found = next((one for one in breaker.open if name in {one.id, one.check}), None)
    if found is None:
        known = ", ".join(f"{one.id} ({one.check})" for one in breaker.open) or "none"
        raise Refused(f"no incident {name!r} is open (open: {known})")
    spared = tuple(breaker.failing.get(found.check, ()))
    done = found.model_copy(update={"closed_at": now, "closed_by": by, "spared": spared})
    failing = {**breaker.failing, found.check: dict.fromkeys(spared, _BEFORE)}
    return replace(breaker, failing=failing, incidents={**breaker.incidents, done.id: done}), done


def objection(breaker: Breaker, request: Request, node: Node) -> str:
    """Why a node may not be drained now, nor its remedy begin: all that fails on it is an incident. Empty: it may."""
    if not breaker.open:
        return ""
    if request.purpose is Purpose.HEALTH:
        failing = [failure.check for failure in node.report.failing] if node.report else []
        checks = failing or [request.cause]
    else:
        checks = [request.cause]
    found = [breaker.of_check(check) for check in checks]
    first = found[0]
    if first is None or any(one is None for one in found):
        return ""
    return (
        f"incident {first.id}: {first.check} began to fail on {len(first.nodes)} of {first.of} nodes at once:"
        f" nothing is drained for it until that clears, or: refloat breaker close {first.id}"
    )


def told(incident: Incident, now: float) -> Event:
    """What the record, and whoever follows it, is told of an incident that has just opened or closed."""
    kind = EventKind.INCIDENT_OPENED if incident.is_open else EventKind.INCIDENT_CLOSED
    return Event(
        id=f"{incident.id}-{kind}-{int(incident.opened_at)}",
        node=_HOST,
        at_ns=int(now * 1e9),
        kind=kind,
        title=f"Incident {'opened' if incident.is_open else 'closed'}",
        message=_opened(incident) if incident.is_open else _closed(incident),
        check=incident.check,
        duration_s=None if incident.is_open else incident.closed_at - incident.opened_at,
        measures={"nodes": float(len(incident.nodes))},
    )


def _opened(incident: Incident) -> str:
    nodes = hostlists.fold(incident.nodes)
    shown = nodes if len(nodes) <= _SHOWN else f"{nodes[:_SHOWN]}…"
    return (
        f"{incident.id}: {incident.check} began to fail on {len(incident.nodes)} of {incident.of} nodes at once"
        f" ({shown}): nothing is drained for it until that clears, or: refloat breaker close {incident.id}"
    )


def _closed(incident: Incident) -> str:
    after = story.short(incident.closed_at - incident.opened_at)
    if incident.closed_by == CLEARED:
        return f"{incident.id}: {incident.check} fails on few nodes again, after {after}"
    return (
        f"{incident.id}: closed by {incident.closed_by} after {after}: nodes that fail {incident.check} may be drained"
    )


def _serves(node: str, fleet: Fleet, permits: Permits) -> bool:
    return node in fleet.known and node not in fleet.outages and node not in permits


def _spared(breaker: Breaker, check: str) -> Container[str]:
    """The nodes of the last incident of this check that somebody closed."""
    newest: Incident | None = None
    for one in breaker.incidents.values():
        newest = one if one.check == check and one.spared else newest
    return frozenset(newest.spared) if newest else ()


def _number(name: str) -> int:
    digits = name.removeprefix("b")
    return int(digits) if digits.isdecimal() else 0
