# SPDX-License-Identifier: Apache-2.0
"""Who may take a node out of service now: fleet, limits and a request in, a grant or the one reason why not out; pure.

Out are the nodes that hold a permit and those that are out by Slurm's word. A permit only ever stands in the way of
taking *another* node out: coming back needs none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from refloat_contract.messages import Event, NodeReport, Request
from refloat_contract.words import EventKind, Phase, Purpose, Verdict
from refloat_coordinator import outage
from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.permits.permit import Permit, Permits
from refloat_coordinator.permits.rooms import Rooms
from refloat_coordinator.permits.rooms import out as out  # noqa: PLC0414 - who asks about permits asks who is out

RETRY_AFTER_S: Final = 5.0
AGENT_GONE_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Grant:
    """The node may go out; ``is_new`` is false for one that it holds already."""

    permit: Permit
    is_new: bool


@dataclass(frozen=True, slots=True)
class Denial:
    """The node may not go out now; ``why`` names the one reason."""

    why: str
    retry_after_s: float = RETRY_AFTER_S


@dataclass(frozen=True, slots=True)
class Loops:
    """How many cycles may be begun as the remedy of one check on one node within a window."""

    most: int = 2
    window_s: float = 86400.0


COUNTED: Final = (EventKind.DRAIN_SEEN, EventKind.RELEASED)
"""The events that `looped` counts by."""


def decide(fleet: Fleet, rooms: Rooms, permits: Permits, request: Request, now: float) -> Grant | Denial:
    """Answer a request for a permit; the same request gets the same answer while its permit stands."""
    held = permits.get(request.node)
    if held is not None and is_held(held, request) and not rooms.lacks_berth(held):
        return Grant(held, is_new=False)
    if not fleet.slurm_ok:
        return Denial(f"Slurm does not answer: {fleet.slurm_why}")
    node = fleet.node(request.node)
    if node.slurm is None or not node.slurm.known:
        return Denial(f"{request.node} is not in Slurm's node table", 12 * RETRY_AFTER_S)
    if why := _overtaken(request, node.report, held):
        return Denial(why)
    permit = _permit(request, node, now, boots=rooms.boots(request))
    # A node that is DOWN already takes nothing more from the cluster: its repair must not wait for a budget.
    why = rooms.refusal(permit, is_out=outage.is_down_for_sure(node.slurm))
    return Denial(why) if why else Grant(permit, is_new=True)


def looped(events: Iterable[Event], request: Request, most: Loops) -> str:
    """Why no further cycle may be begun for what this check found; empty where one may.

    ``events`` are the node's own, oldest first, and so is the clock that the window is measured by. An administrator
    who released the node has begun the count anew.
    """
    known = list(events)
    newest_ns = max((event.at_ns for event in known), default=0)
    cycles: set[str] = set()
    for event in known:
        if event.kind is EventKind.RELEASED:
            cycles.clear()
        elif event.check == request.cause and newest_ns - event.at_ns < most.window_s * 1e9:
            cycles.add(event.cycle)
    done = len(cycles - {request.cycle})
    if done < most.most:
        return ""
    times = "1 cycle" if done == 1 else f"{done} cycles"
    return f"{request.cause} failed again after {times}; needs a human: refloat cycle cancel {request.node}"


def _overtaken(request: Request, report: NodeReport | None, held: Permit | None) -> str:
    """Why this request is an old one, delivered late: its agent has asked for something else since, or for nothing."""
    if held is not None and not is_held(held, request) and 0 < request.at < held.report_at:
        return f"its agent has asked for {held.cycle} since"
    if report is None or not 0 < request.at < report.at:
        return ""
    if request.purpose is Purpose.HEALTH:
        return "its agent has found it healthy since" if report.verdict is Verdict.HEALTHY else ""
    return "its agent has reported no cycle since" if report.cycle is None and report.phase is Phase.IN_SERVICE else ""


def _permit(request: Request, node: Node, now: float, *, boots: bool) -> Permit:
    return Permit(
        node=request.node,
        cycle=request.cycle,
        purpose=request.purpose,
        wave=request.wave,
        recipe=request.recipe,
        cause=request.cause,
        granted_at=now,
        report_at=max(request.at, node.report.at if node.report else 0.0),
        boots=boots,
        boot_id=node.report.boot_id if node.report else "",
        boot_time=node.slurm.boot_time if node.slurm else 0,
    )


def ended(fleet: Fleet, permits: Permits) -> dict[str, str]:
    """The permits that are over, each with the sign of it."""
    signs = ((name, _sign_of_end(fleet, fleet.node(name), permit)) for name, permit in permits.items())
    return {name: sign for name, sign in signs if sign}


def is_held(permit: Permit | None, request: Request) -> bool:
    """Whether this permit is the one that is asked for."""
    return permit is not None and permit.cycle == request.cycle and permit.purpose is request.purpose


def is_released(permit: Permit | None, request: Request) -> bool:
    """Whether this request gives this permit back; a late one for an earlier cycle does not."""
    return permit is not None and permit.cycle == request.cycle


def _sign_of_end(fleet: Fleet, node: Node, permit: Permit) -> str:
    if node.slurm is not None and not node.slurm.known:
        return "the node left Slurm's node table"
    read_since = fleet.read_at > permit.granted_at
    if read_since and node.slurm is not None and outage.is_absent(node.slurm):
        return "Slurm's power saving has switched the node off"
    in_service = read_since and node.slurm is not None and outage.is_in_service(node.slurm)
    report = node.report if node.report and node.report.at > permit.report_at else None
    if permit.purpose is Purpose.HEALTH:
        # The drain follows the grant: until then Slurm shows the node in service, and the agent calls it unhealthy.
        if in_service and report and report.verdict is Verdict.HEALTHY:
            return "healthy and in service"
        # The drain follows the grant at once: who has not set it by now will not, and its node serves.
        gone_s = fleet.read_at - max(node.since, permit.granted_at)
        is_gone = in_service and not node.online and gone_s > AGENT_GONE_S
        return "in service, and its agent has not been heard of for an hour" if is_gone else ""
    if in_service:
        # Without DRAIN there is no cycle: the agent ends it at once (Slurm is the authority).
        return "Slurm shows the node in service"
    # The last report of a dead node says nothing new; it is out all the same.
    return _denied_by(report, permit) if report and node.online else ""


def _denied_by(report: NodeReport, permit: Permit) -> str:
    if report.cycle is not None and report.cycle.id != permit.cycle:
        return f"the agent reports another cycle, {report.cycle.id}"
    return "the agent reports no cycle" if report.cycle is None and report.phase is Phase.IN_SERVICE else ""
