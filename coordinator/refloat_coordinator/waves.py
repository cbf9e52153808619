# SPDX-License-Identifier: Apache-2.0
"""How a wave moves: the wave, the fleet, the limits and the time in; the wave after it and what to do out; pure.

Canaries first, all of them done, then the soak, then the rest, never more out at once than every limit allows. A wave
that is marked as such on disk is acted on afterwards, and for as long as Slurm does not show the effect.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from refloat_contract import reasons
from refloat_contract.messages import Event, Request
from refloat_contract.words import EventKind, Turn, WaveState
from refloat_coordinator import permits as permit_rules
from refloat_coordinator import turns
from refloat_coordinator.budget import Amount, Limit, Room
from refloat_coordinator.fleet import Fleet, Node
from refloat_coordinator.permit import Permits
from refloat_coordinator.turns import Ours, Ready, Skip, Wait
from refloat_coordinator.wave import Member, PauseCause, Wave

COORDINATOR: Final = "coordinator"
"""The host that events about a whole wave are recorded under."""

_NAMED: Final = 3
_UNJUDGED: Final = frozenset({Turn.WAITING, Turn.DONE})  # by `turns.judged`: most of a large wave, most of the time


Settled: TypeAlias = dict[str, tuple[Member, Node]]


@dataclass(frozen=True, slots=True)
class World:
    """What a wave is decided by; ``reserved`` are the nodes that other waves have marked, each with why.

    ``settled`` only saves time: the waiting members that a look changed nothing of, each with the node that was looked
    at. While both are the same objects, nothing new can follow. Looks add to it.
    """

    fleet: Fleet
    permits: Permits = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    reserved: Mapping[str, str] = field(default_factory=dict)
    settled: Settled = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """Drain the node with this reason, unless a fresh read shows that it is not free; ``replaces``: our old holds."""

    wave: str
    node: str
    reason: str
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Resume the node, if a fresh read still shows exactly this reason."""

    wave: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Put this event into the record."""

    event: Event


Decision: TypeAlias = Mark | GiveBack | Tell


def decide(wave: Wave, world: World, now: float) -> tuple[Wave, tuple[Decision, ...]]:
    """Move a wave on as far as the world allows now."""
    if wave.is_ended:
        return wave, ()
    before = wave
    wave = _judged(wave, world.fleet, now)
    wave = _giving_up(wave, world, now) if wave.is_aborting else _sorted_out(wave, world, now)
    wave = _finished(wave, now) or _on_or_paused(wave, world)
    if wave.state is WaveState.RUNNING:
        wave = _advanced(wave, world, now)
    tells = _tells(before, wave, now)
    wave = wave.but(announced=True, pauses_told=wave.pauses) if tells else wave
    return wave, (*tells, *_actions(wave, world))


def limit_of(wave: Wave) -> Limit:
    """The limit that a wave sets to itself."""
    return Limit(f"wave {wave.id}", Amount(wave.spec.max_unavailable), wave.nodes)


def reserved(waves: Iterable[Wave], but: str) -> dict[str, str]:
    """The nodes that waves other than ``but`` have marked."""
    return {
        m.node: f"wave {wave.id}"
        for wave in waves
        if wave.id != but and not wave.is_ended
        for m in wave.with_turn(Turn.MARKED)
    }


def objection(waves: Iterable[Wave], request: Request) -> str:
    """Why a wave would not have this request granted: its drain is about to be given back. Empty when none minds."""
    for wave in waves:
        if wave.is_aborting and request.wave == wave.id:
            return f"wave {wave.id} is being aborted"
    return ""


def trigger(wave: Wave, fleet: Fleet) -> str:
    """The reason that this wave writes."""
    word = fleet.dialect.word_for_recipe(wave.spec.recipe)
    if word is None:
        raise ValueError(f"no word names recipe {wave.spec.recipe!r}")
    return reasons.write_trigger(word, image=wave.spec.image, wave=wave.id)


def _judged(wave: Wave, fleet: Fleet, now: float) -> Wave:
    members = tuple(m if m.turn in _UNJUDGED else turns.judged(m, wave, fleet, now) for m in wave.members)
    held = sum(1 for m in members if m.turn is Turn.HELD)
    return _with_members(wave, members).but(forgiven=min(wave.forgiven, held))


def _sorted_out(wave: Wave, world: World, now: float) -> Wave:
    """Waiting nodes that are somebody else's business are skipped at once, so that it is seen early."""
    if not world.fleet.slurm_ok:
        return wave

    # A loop without calls: of a large wave nearly every member is passed over, every time.
    nodes, settled = world.fleet.nodes, world.settled
    members: list[Member] = []
    for member in wave.members:
        if member.turn is Turn.WAITING:
            node = nodes.get(member.node) or Node(member.node)
            looked_at = settled.get(member.node)
            if looked_at is None or looked_at[0] is not member or looked_at[1] is not node:
                before = member
                member = _as_it_stands(before, turns.standing(before, wave, node, world.fleet.dialect), now)  # noqa: PLW2901
                if member is before:
                    settled[member.node] = (member, node)
        members.append(member)
    return _with_members(wave, tuple(members))


def _as_it_stands(member: Member, standing: turns.Standing, now: float) -> Member:
    match standing:
        case Skip(why):
            return member.entering(Turn.SKIPPED, now, why)
        case Ours():
            return member.entering(Turn.MARKED, now).but(confirmed=True)
        case Wait(why):
            return member if member.why == why else member.but(why=why)
        case Ready():
            return member.but(why="", unready_since=0.0) if member.why or member.unready_since else member


def _giving_up(wave: Wave, world: World, now: float) -> Wave:
    """An aborted wave keeps only the nodes that are under way."""

    def give_up(member: Member) -> Member:
        if member.turn is Turn.WAITING:
            return member.entering(Turn.SKIPPED, now, "the wave was aborted")
        if member.turn is not Turn.MARKED or not _is_returnable(member, wave, world):
            return member
        fleet = world.fleet
        gone = not turns.is_marked_for(fleet.node(member.node).slurm, wave.id, fleet.dialect)
        if gone and fleet.slurm_ok and fleet.read_at > member.since:
            return member.entering(Turn.SKIPPED, now, "the wave was aborted before its cycle began")
        return member

    return _with_members(wave, tuple(give_up(m) for m in wave.members))


def _is_returnable(member: Member, wave: Wave, world: World) -> bool:
    node = world.fleet.node(member.node)
    return member.node not in world.permits and turns.has_not_left(member, wave, node, world.fleet.dialect)


def _finished(wave: Wave, now: float) -> Wave | None:
    if wave.has(Turn.WAITING, Turn.MARKED):
        return None
    held = wave.with_turn(Turn.HELD)
    state = WaveState.ABORTED if wave.is_aborting else WaveState.FAILED if held else WaveState.DONE
    counts = [(len(wave.with_turn(turn)), turn) for turn in (Turn.DONE, Turn.HELD, Turn.SKIPPED)]
    why = ", ".join(f"{count} {turn}" for count, turn in counts if count)
    return wave.but(state=state, pause=None, ended_at=now, why=why + _named(held))


def _on_or_paused(wave: Wave, world: World) -> Wave:
    if wave.state is WaveState.PAUSED:
        by_itself = wave.pause is PauseCause.SLURM and world.fleet.slurm_ok
        return wave.but(state=WaveState.RUNNING, pause=None, why="") if by_itself else wave
    if not world.fleet.slurm_ok:
        return _pause(wave, PauseCause.SLURM, f"Slurm does not answer: {world.fleet.slurm_why}")
    held = wave.with_turn(Turn.HELD)
    if len(held) - wave.forgiven > wave.spec.max_failures:
        return _pause(wave, PauseCause.FAILURES, f"{len(held)} held, {wave.spec.max_failures} allowed{_named(held)}")
    bad = [m for m in _canaries(wave) if m.turn is Turn.HELD]
    if bad and not wave.canary_waived:
        return _pause(wave, PauseCause.CANARY, f"a canary is held{_named(bad)}")
    return wave


def _advanced(wave: Wave, world: World, now: float) -> Wave:
    """Mark as many of the waiting nodes as every limit allows, canaries first."""
    canaries = _canaries(wave)
    window = wave.with_turn(Turn.WAITING)
    if any(m.turn not in {Turn.DONE, Turn.HELD} for m in canaries):
        window = tuple(m for m in canaries if m.turn is Turn.WAITING)
        wave = wave.but(soaking_since=0.0)
    elif canaries:
        wave = wave if wave.soaking_since else wave.but(soaking_since=now)
        if now - wave.soaking_since < wave.spec.soak_s:
            return wave.but(why=f"soaking for {wave.spec.soak_s:g} s since the canaries are done", stuck_since=0.0)
    return _marked(_waited_for(wave, window, now), window, world, now)


def _waited_for(wave: Wave, window: Sequence[Member], now: float) -> Wave:
    """Nodes that cannot be marked have a deadline, from when the wave has nothing else left to mark."""
    if any(not m.why for m in window):
        return wave
    names = {m.node for m in window}

    def waited(member: Member) -> Member:
        if member.node not in names:
            return member
        if not member.unready_since:
            return member.but(unready_since=now)
        if now - member.unready_since <= wave.spec.node_deadline_s:
            return member
        return member.entering(Turn.SKIPPED, now, f"waited {wave.spec.node_deadline_s:g} s: {member.why}")

    return _with_members(wave, tuple(waited(m) for m in wave.members))


def _marked(wave: Wave, window: Sequence[Member], world: World, now: float) -> Wave:
    own, site = _rooms(wave, world)
    chosen: set[str] = set()
    refusal = ""
    for member in (m for m in window if not m.why):
        if own.blocking(member.node):
            refusal = refusal or own.refusal(member.node)
            break
        if site.blocking(member.node):
            refusal = refusal or site.refusal(member.node)
            continue
        chosen.add(member.node)
        own.take(member.node, "marked")
        site.take(member.node, "marked")
    members = tuple(_intent(m, world.fleet, now) if m.node in chosen else m for m in wave.members)
    return _stuck_or_not(_with_members(wave, members), refusal, window, now)


def _rooms(wave: Wave, world: World) -> tuple[Room, Room]:
    marked = {m.node: "marked" for m in wave.with_turn(Turn.MARKED)}
    out = {**world.reserved, **marked, **permit_rules.out(world.fleet, world.permits)}
    serving = world.fleet.serving
    return Room([limit_of(wave)], out, serving), Room(world.limits, out, serving)


def _intent(member: Member, fleet: Fleet, now: float) -> Member:
    view = fleet.node(member.node).slurm
    return member.entering(Turn.MARKED, now).but(
        boot_time=view.boot_time if view else 0, slurmd_start_time=view.slurmd_start_time if view else 0
    )


def _stuck_or_not(wave: Wave, refusal: str, window: Sequence[Member], now: float) -> Wave:
    waiting = [m for m in window if m.why]
    if wave.with_turn(Turn.MARKED) or not refusal:
        why = refusal or (f"waits for {waiting[0].node}: {waiting[0].why}" if waiting else "")
        return wave.but(why=why, stuck_since=0.0)
    since = wave.stuck_since or now
    if now - since > wave.spec.node_deadline_s:
        return _pause(wave, PauseCause.BUDGET, refusal)
    return wave.but(why=refusal, stuck_since=since)


def _canaries(wave: Wave) -> tuple[Member, ...]:
    return tuple(itertools.islice((m for m in wave.members if m.turn is not Turn.SKIPPED), wave.spec.canary))


def _pause(wave: Wave, cause: PauseCause, why: str) -> Wave:
    return wave.but(state=WaveState.PAUSED, pause=cause, why=why, pauses=wave.pauses + 1, stuck_since=0.0)


def _actions(wave: Wave, world: World) -> tuple[Decision, ...]:
    reason = trigger(wave, world.fleet)
    marked = [(m, world.fleet.node(m.node)) for m in wave.with_turn(Turn.MARKED)]
    if wave.state is WaveState.RUNNING:
        return tuple(
            Mark(wave.id, m.node, reason, m.spent if m.attempt > 1 else ())
            for m, node in marked
            if turns.needs_mark(m, wave, node, world.fleet.dialect)
        )
    if wave.is_aborting:
        return tuple(
            GiveBack(wave.id, m.node, reason)
            for m, node in marked
            if turns.is_marked_for(node.slurm, wave.id, world.fleet.dialect) and _is_returnable(m, wave, world)
        )
    return ()


def _tells(before: Wave, wave: Wave, now: float) -> tuple[Tell, ...]:
    """What the record has to learn. Ids are made from the wave alone, so that telling twice is once."""
    spec = wave.spec
    told: list[Tell] = []
    if not wave.announced:
        what = f"{len(wave.members)} nodes, recipe {spec.recipe}{f', image {spec.image}' if spec.image else ''}"
        told.append(_tell(wave, EventKind.WAVE_STARTED, "started", what, now))
    were_lost = {m.node for m in before.members if m.lost}
    told += [_lost(wave, m, now) for m in wave.members if m.lost and m.node not in were_lost]
    if wave.pauses > wave.pauses_told and wave.state is WaveState.PAUSED:
        told.append(_tell(wave, EventKind.WAVE_PAUSED, f"paused-{wave.pauses}", wave.why, now))
    if wave.is_ended:
        told.append(_tell(wave, EventKind.WAVE_ENDED, "ended", f"{wave.state}: {wave.why}", now))
    return tuple(told)


def _tell(wave: Wave, kind: EventKind, part: str, message: str, now: float) -> Tell:
    return Tell(
        Event(
            id=f"{wave.id}-{part}",
            node=COORDINATOR,
            at_ns=int(now * 1e9),
            kind=kind,
            title=f"Wave {part.split('-', maxsplit=1)[0]}",
            message=f"{wave.id}: {message}",
            recipe=wave.spec.recipe,
            wave=wave.id,
            duration_s=now - wave.started_at if wave.is_ended else None,
        )
    )


def _lost(wave: Wave, member: Member, now: float) -> Tell:
    return Tell(
        Event(
            id=f"{wave.id}-lost-{member.node}-{member.attempt}",
            node=member.node,
            at_ns=int(now * 1e9),
            kind=EventKind.NODE_LOST,
            title="Node lost",
            message=f"{wave.id}: {member.why}",
            recipe=wave.spec.recipe,
            wave=wave.id,
        )
    )


def _named(members: Sequence[Member]) -> str:
    if not members:
        return ""
    shown = ", ".join(f"{m.node} ({m.why})" for m in members[:_NAMED])
    return f": {shown}" + (f", and {len(members) - _NAMED} more" if len(members) > _NAMED else "")


def _with_members(wave: Wave, members: tuple[Member, ...]) -> Wave:
    return wave if members == wave.members else wave.but(members=members)
