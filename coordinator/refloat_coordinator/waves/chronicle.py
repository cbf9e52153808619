# SPDX-License-Identifier: Apache-2.0
"""What the record learns of a wave; pure."""

from typing import Final

from refloat_contract.messages import Event
from refloat_contract.words import EventKind, Turn, WaveState
from refloat_coordinator.waves import overdue
from refloat_coordinator.waves.member import Member
from refloat_coordinator.waves.wave import Wave

COORDINATOR: Final = "coordinator"
"""The host that events about a whole wave are recorded under."""


def of(before: Wave, wave: Wave, now: float) -> tuple[Event, ...]:
    """What the record has to learn. Ids are made from the wave alone, so that telling twice is once."""
    spec = wave.spec
    told: list[Event] = []
    if not wave.announced:
        what = f"{len(wave.members)} nodes, recipe {spec.recipe}{f', image {spec.image}' if spec.image else ''}"
        what += f", by {wave.by}" if wave.by else ""
        told.append(_tell(wave, EventKind.WAVE_STARTED, "started", what, now, wave.by))
    if wave.promoted and not before.promoted and spec.canary:
        what = "the canaries are waived" if wave.canary_waived else "the canaries are sound"
        told.append(_tell(wave, EventKind.WAVE_PROMOTED, "promoted", f"{what}: the rest follows", now))
    told += _of_nodes(before, wave, now)
    if wave.pauses > wave.pauses_told and wave.state is WaveState.PAUSED:
        told.append(_tell(wave, EventKind.WAVE_PAUSED, f"paused-{wave.pauses}", wave.why, now))
    if wave.is_ended:
        told.append(_tell(wave, EventKind.WAVE_ENDED, "ended", f"{wave.state}: {wave.why}", now))
    return tuple(told)


def _tell(wave: Wave, kind: EventKind, part: str, message: str, now: float, operator: str = "") -> Event:
    return Event(
        id=f"{wave.id}-{part}",
        node=COORDINATOR,
        at_ns=int(now * 1e9),
        kind=kind,
        title=f"Wave {part.split('-', maxsplit=1)[0]}",
        message=f"{wave.id}: {message}",
        recipe=wave.spec.recipe,
        wave=wave.id,
        operator=operator,
        duration_s=now - wave.started_at if wave.is_ended else None,
    )


def _of_nodes(before: Wave, wave: Wave, now: float) -> list[Event]:
    """What the record has to learn of nodes that are lost, or whose jobs have not ended in time."""
    if before.members is wave.members:
        return []
    told: list[Event] = []
    shown = wave.with_turn(Turn.MARKED, Turn.HELD)  # no others are lost, or overdue
    for old, new in zip(before.members_of(m.node for m in shown), shown, strict=True):
        if new.lost and not old.lost:
            told.append(_tell_of(wave, new, EventKind.NODE_LOST, "Node lost", new.why, now))
        if new.overdue_since and not old.overdue_since:
            what = f"{overdue.sentence(wave)}: {overdue.asked(wave)}"
            told.append(_tell_of(wave, new, EventKind.DEADLINE_PASSED, "Deadline passed", what, now))
    return told


def _tell_of(wave: Wave, member: Member, kind: EventKind, title: str, what: str, now: float) -> Event:
    part = "lost" if kind is EventKind.NODE_LOST else "overdue"
    return Event(
        id=f"{wave.id}-{part}-{member.node}-{member.attempt}",
        node=member.node,
        at_ns=int(now * 1e9),
        kind=kind,
        title=title,
        message=f"{wave.id}: {what}",
        recipe=wave.spec.recipe,
        wave=wave.id,
        operator=wave.by if kind is EventKind.DEADLINE_PASSED else "",
    )


def steered(wave: Wave, kind: EventKind, by: str, what: str, now: float) -> Event:
    """What the record has to learn of an operator's change; ``wave`` is as it is after it."""
    return Event(
        id=f"{wave.id}-steered-{wave.steered}",
        node=COORDINATOR,
        at_ns=int(now * 1e9),
        kind=kind,
        title=kind.value.replace("_", " ").capitalize(),
        message=f"{wave.id}: {what}, by {by or 'an operator'}",
        recipe=wave.spec.recipe,
        wave=wave.id,
        operator=by,
    )
