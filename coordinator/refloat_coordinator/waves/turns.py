# SPDX-License-Identifier: Apache-2.0
"""What one node of a wave is at: may it be marked, and what became of it once it is; pure.

Every function looks at the level, never at a change: told the same twice, or again after a restart, it says the same.
"""

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

from refloat_contract import reasons
from refloat_contract.images import is_image
from refloat_contract.messages import NodeReport, SlurmView
from refloat_contract.reasons import Dialect, Hold, Progress, Trigger
from refloat_contract.words import Outcome, Phase, Turn
from refloat_coordinator import outage
from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.waves.member import Member
from refloat_coordinator.waves.wave import Wave
from refloat_slurm import states

BACK_GRACE_S: Final = 60.0
"""A node in service again has so long to say how its cycle ended."""

BOOT_TIME_JITTER_S: Final = 5
"""BootTime differs by up to 2 s between registrations of one boot (facts/slurm.md, trap 10)."""

_AWAY: Final = frozenset({Phase.REBOOTING, Phase.MOUNTING, Phase.STARTING, Phase.CHECKING, Phase.RESUMING})
_GONE_FLAGS: Final = frozenset({"DOWN", "FAIL", "FAILING", "FUTURE"})


@dataclass(frozen=True, slots=True)
class Ready:
    """The node can be marked now."""


@dataclass(frozen=True, slots=True)
class Ours:
    """The node carries this wave's mark already."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The node cannot be marked yet."""

    why: str


@dataclass(frozen=True, slots=True)
class Skip:
    """The node is somebody else's business."""

    why: str


Standing: TypeAlias = Ready | Ours | Wait | Skip


def is_marked_for(view: SlurmView | None, wave: str, dialect: Dialect) -> bool:
    """Whether Slurm shows the node drained with this wave's trigger, or with the progress of its cycle."""
    if view is None or not states.is_drain_set(frozenset(view.flags)):
        return False
    reason = reasons.parse(view.reason, dialect)
    return isinstance(reason, Trigger | Progress) and reason.wave == wave


def standing(member: Member, wave: Wave, node: Node, dialect: Dialect) -> Standing:
    """Whether a waiting node can be marked now."""
    view = node.slurm
    if view is None or not view.known:
        return Skip("unknown to Slurm")
    if is_marked_for(view, wave.id, dialect):
        return Ours()
    return _by_slurm(member, view, dialect) or _by_agent(member, node) or Ready()


def _by_slurm(member: Member, view: SlurmView, dialect: Dialect) -> Standing | None:
    flags = frozenset(view.flags)
    why = outage.cause(view, dialect)
    if states.is_drain_set(flags):
        return _by_reason(member, view, dialect, why)
    if states.is_foreign_operation(flags):
        return Wait(why)
    if flags & _GONE_FLAGS:
        return Skip(why)
    if not states.is_in_service(flags):
        return Wait(why or f"not in service: {'+'.join(sorted(flags))}")
    return None


def _by_reason(member: Member, view: SlurmView, dialect: Dialect, why: str) -> Standing | None:
    match reasons.parse(view.reason, dialect):
        case Trigger() | Progress() | reasons.Release():
            return Wait(f"in a cycle of its own: {view.reason}")
        case reasons.Health():
            return Wait(why)
        case Hold(_, cycle) if member.attempt > 1 and (not cycle or cycle in member.spent):
            return None  # an operator asked for another try: the hold is ours to replace
        case _:
            return Skip(why)


def _by_agent(member: Member, node: Node) -> Standing | None:
    report = node.report
    if report is None or not node.online:
        return Wait("no agent is online there")
    if report.observe_only:
        return Skip("its agent only observes")
    if report.phase is not Phase.IN_SERVICE and not (report.cycle and report.cycle.id in member.spent):
        return Wait(f"in phase {report.phase}")
    return None


def judged(member: Member, wave: Wave, fleet: Fleet, now: float) -> Member:
    """The member after a look at what Slurm and its agent say of it now."""
    node = fleet.node(member.node)
    if member.left_out or member.turn in {Turn.DONE, Turn.WAITING}:
        return member
    done = _done(member, wave, node, now)
    if done or member.turn is not Turn.MARKED:
        # A node that was given up and came back all the same is done as well.
        return member if done is None or done.turn is member.turn else done
    return (
        _held(member, wave, node, fleet, now)
        or _taken_away(member, wave, node, fleet, now)
        or _away(_confirmed(member, wave, node, fleet), wave, node, now)
    )


def due_at(member: Member, wave: Wave) -> float:
    """When a deadline that counts for a marked member is over; infinity while none does."""
    away_at = member.away_since + wave.spec.node_deadline_s if member.away_since else math.inf
    back_at = member.back_since + BACK_GRACE_S if member.back_since else math.inf
    return min(away_at, back_at)


def has_begun(member: Member, node: Node) -> bool:
    """Whether the node has rebooted, or its slurmd was restarted, since the intent: then it must not be marked again.

    The proof that survives when the agent's own word was lost: its broker was down, and this daemon was killed.
    """
    view = node.slurm
    if view is None:
        return False
    booted = view.boot_time and member.boot_time and abs(view.boot_time - member.boot_time) > BOOT_TIME_JITTER_S
    restarted = (
        view.slurmd_start_time
        and member.slurmd_start_time
        and abs(view.slurmd_start_time - member.slurmd_start_time) > BOOT_TIME_JITTER_S
    )
    return bool(booted or restarted)


def needs_mark(member: Member, wave: Wave, node: Node, dialect: Dialect) -> bool:
    """Whether the intent to mark this node has not shown any effect yet, and may be acted on (again)."""
    if member.turn is not Turn.MARKED or member.confirmed or has_begun(member, node):
        return False
    return isinstance(standing(member, wave, node, dialect), Ready)


def has_not_left(member: Member, wave: Wave, node: Node, dialect: Dialect) -> bool:
    """Whether the agent is not past DRAINING, so that the drain can be given back."""
    if node.slurm and isinstance(reasons.parse(node.slurm.reason, dialect), Progress):
        return False
    report = node.report
    return report is None or report.phase in {Phase.IN_SERVICE, Phase.DRAINING} or not _is_of(report, wave, member)


def _is_of(report: NodeReport, wave: Wave, member: Member) -> bool:
    return bool(report.cycle and report.cycle.wave == wave.id and report.cycle.id not in member.spent)


def _done(member: Member, wave: Wave, node: Node, now: float) -> Member | None:
    done = node.done.get(wave.id)
    if done is None or done.cycle in member.spent:
        return None
    wanted = wave.spec.image
    if not wanted:
        return member.entering(Turn.DONE, now).but(confirmed=True)
    report = node.report
    if report is None or (done.boot_id and report.boot_id != done.boot_id):
        return None  # the report from that boot, which names the image, is still to come
    if is_image(wanted, report.image):
        return member.entering(Turn.DONE, now).but(confirmed=True)
    return member.entering(Turn.HELD, now, f"booted image {report.image or '(it names none)'}, wanted {wanted}")


def _held(member: Member, wave: Wave, node: Node, fleet: Fleet, now: float) -> Member | None:
    report, view = node.report, node.slurm
    if report and report.phase is Phase.HELD and _is_of(report, wave, member):
        return member.entering(Turn.HELD, now, report.why or "held by its agent")
    last = report.last_cycle if report else None
    if last and last.wave == wave.id and last.outcome is Outcome.HELD and last.id not in member.spent:
        return member.entering(Turn.HELD, now, last.why or "held by its agent")
    if view and member.confirmed and states.is_drain_set(frozenset(view.flags)):
        hold = reasons.parse(view.reason, fleet.dialect)
        if isinstance(hold, Hold) and hold.cycle not in member.spent:
            return member.entering(Turn.HELD, now, hold.sentence or "held")
    return None


def _taken_away(member: Member, wave: Wave, node: Node, fleet: Fleet, now: float) -> Member | None:
    report, view = node.report, node.slurm
    last = report.last_cycle if report else None
    if last and last.wave == wave.id and last.outcome is Outcome.CANCELLED and last.id not in member.spent:
        return member.entering(Turn.SKIPPED, now, f"its cycle was cancelled{f': {last.why}' if last.why else ''}")
    if view is None or fleet.read_at <= member.since or (report and _is_of(report, wave, member)):
        return None
    other = standing(member, wave, node, fleet.dialect)
    if isinstance(other, Skip) and not has_begun(member, node):
        return member.entering(Turn.SKIPPED, now, other.why)
    return None


def _confirmed(member: Member, wave: Wave, node: Node, fleet: Fleet) -> Member:
    if member.confirmed:
        return member
    seen = is_marked_for(node.slurm, wave.id, fleet.dialect)
    if seen or (node.report and _is_of(node.report, wave, member)):
        return member.but(confirmed=True)
    return member


def _away(member: Member, wave: Wave, node: Node, now: float) -> Member:
    """Count the deadlines of a node that reboots, is silent, or is in service again without having said so."""
    report = node.report
    of_wave = bool(report and _is_of(report, wave, member))
    begun = not of_wave and has_begun(member, node)
    away = not node.online or begun or bool(of_wave and report and report.phase in _AWAY)
    back = _is_back(member, node) and not of_wave and not begun
    if (away, back) != (bool(member.away_since), bool(member.back_since)):
        member = member.but(
            away_since=(member.away_since or now) if away else 0.0,
            back_since=(member.back_since or now) if back else 0.0,
        )
    if away and now - member.away_since > wave.spec.node_deadline_s:
        what = "did not come back within" if begun or _was_away(report) else "its agent has been silent for more than"
        return member.entering(Turn.HELD, now, f"{what} {wave.spec.node_deadline_s:g} s").but(lost=True)
    if back and now - member.back_since > BACK_GRACE_S:
        return member.entering(Turn.SKIPPED, now, "taken back into service before its cycle began")
    return member


def _is_back(member: Member, node: Node) -> bool:
    return member.confirmed and node.online and node.slurm is not None and outage.is_in_service(node.slurm)


def _was_away(report: NodeReport | None) -> bool:
    return report is not None and report.phase in _AWAY
