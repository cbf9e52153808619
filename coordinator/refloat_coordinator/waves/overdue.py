# SPDX-License-Identifier: Apache-2.0
"""The deadline of a wave for the jobs of one node: when it has passed, and what becomes of the node then; pure.

Left to itself refloat waits for every job. Only an operator who says so, for this wave, has jobs ended; even then the
agent looks afresh before it does anything.
"""

import math

from refloat_contract import story
from refloat_contract.reasons import Dialect
from refloat_contract.words import OnDeadline, Turn
from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.waves import turns
from refloat_coordinator.waves.member import Member
from refloat_coordinator.waves.wave import Wave
from refloat_slurm import states
from refloat_slurm.gateway import JobEnd

GRACE_S = 900.0
"""Jobs that were ended have so long to be gone: KillWait, epilogs, burst buffers."""

_ENDS = {OnDeadline.REQUEUE: JobEnd.REQUEUE, OnDeadline.CANCEL_JOBS: JobEnd.CANCEL}


def waits_for_jobs(member: Member, wave: Wave, node: Node, dialect: Dialect) -> bool:
    """Whether the node carries the wave's mark and jobs still run there. A suspended job is not seen here."""
    if node.slurm is None or member.turn is not Turn.MARKED or not member.confirmed:
        return False
    return (
        turns.is_marked_for(node.slurm, wave.id, dialect)
        and turns.has_not_left(member, wave, node, dialect)
        and states.is_busy(frozenset(node.slurm.flags))
    )


def judged(member: Member, wave: Wave, fleet: Fleet, now: float) -> Member:
    """The member after a look at its deadline: as it was, overdue, held, or skipped with its drain given back."""
    deadline_s = wave.spec.deadline_s
    if deadline_s is None or member.turn is not Turn.MARKED or not fleet.slurm_ok:
        return member
    node = fleet.node(member.node)
    waits = waits_for_jobs(member, wave, node, fleet.dialect)
    if not member.overdue_since:
        return _passed(member, wave, now) if waits and now - member.since > deadline_s else member
    if wave.spec.on_deadline is OnDeadline.SKIP:
        return _given_back(member, wave, fleet, now)
    if waits and now - member.overdue_since > GRACE_S:
        return member.entering(Turn.HELD, now, f"its jobs have not ended, though {asked(wave)}")
    return member


def due_at(member: Member, wave: Wave) -> float:
    """When a marked member is next to be looked at for its deadline's sake; infinity where the wave has none."""
    if wave.spec.deadline_s is None:
        return math.inf
    return member.overdue_since + GRACE_S if member.overdue_since else member.since + wave.spec.deadline_s


def asked(wave: Wave) -> str:
    """What the operator asked for, as the record has it."""
    by = wave.by or "an operator"
    match wave.spec.on_deadline:
        case OnDeadline.HOLD:
            return "the node is held"
        case OnDeadline.SKIP:
            return "the node is given back"
        case OnDeadline.REQUEUE:
            return f"they are requeued, as {by} asked"
        case OnDeadline.CANCEL_JOBS:
            return f"they are cancelled, as {by} asked"


def sentence(wave: Wave) -> str:
    """What has not happened in time."""
    return f"its jobs have not ended within {story.short(wave.spec.deadline_s or 0)}"


def end_of_jobs(member: Member, wave: Wave, node: Node, dialect: Dialect) -> JobEnd | None:
    """How the jobs of this node are to be ended now; None where they are not."""
    how = _ENDS.get(wave.spec.on_deadline)
    return how if member.overdue_since and waits_for_jobs(member, wave, node, dialect) else None


def gives_back(wave: Wave) -> bool:
    """Whether nodes whose jobs take too long have their drain back."""
    return wave.spec.on_deadline is OnDeadline.SKIP


def is_given_back(member: Member, wave: Wave) -> bool:
    """Whether the node is to have its drain back."""
    return bool(member.turn is Turn.MARKED and member.overdue_since and gives_back(wave))


def _passed(member: Member, wave: Wave, now: float) -> Member:
    if wave.spec.on_deadline is OnDeadline.HOLD:
        # The drain stands: once the jobs end, the agent goes on all the same, and the node is done.
        return member.entering(Turn.HELD, now, f"{sentence(wave)}; it stays drained")
    return member.but(overdue_since=now)


def _given_back(member: Member, wave: Wave, fleet: Fleet, now: float) -> Member:
    node = fleet.node(member.node)
    if turns.is_marked_for(node.slurm, wave.id, fleet.dialect) or fleet.read_at <= member.overdue_since:
        return member
    if not turns.has_not_left(member, wave, node, fleet.dialect):
        return member  # its cycle has begun after all, and is let finish
    return member.entering(Turn.SKIPPED, now, f"{sentence(wave)}; its drain was given back")
