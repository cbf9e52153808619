# SPDX-License-Identifier: Apache-2.0
"""How a wave moves: the wave, the fleet, the limits and the time in; the wave after it and what to do out; pure.

Canaries first, all of them done and sound for as long as they are to soak, then the rest, never more out at once than
every limit allows, and none outside the wave's window. A node that is marked as such on disk is acted on afterwards,
and for as long as Slurm does not show the effect.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from operator import is_not
from typing import Final

from refloat_contract import reasons
from refloat_contract.messages import Request, WaveSpec
from refloat_contract.words import NodeOrder, Turn, WaveState
from refloat_coordinator.fleet import Fleet
from refloat_coordinator.permits import grants
from refloat_coordinator.permits.budget import Limit, Room, parse_amount
from refloat_coordinator.permits.groups import Groups
from refloat_coordinator.waves import canaries, chronicle, overdue, turns, window
from refloat_coordinator.waves import wave as wave_rules
from refloat_coordinator.waves.blocker import AskBlocker, BlockerAnswer
from refloat_coordinator.waves.decisions import AskJobs, Decision, EndJobs, Errand, GiveBack, Mark, Question, Tell
from refloat_coordinator.waves.member import Member
from refloat_coordinator.waves.turns import Ours, Ready, Skip, Wait
from refloat_coordinator.waves.wave import PauseCause, Wave
from refloat_coordinator.waves.world import World
from refloat_slurm import states

JOBS_FRESH_S: Final = 60.0
"""So long what Slurm said of all jobs is good enough to take the nodes that are free soonest."""

_JUDGED: Final = (Turn.MARKED, Turn.HELD, Turn.SKIPPED)


def decide(wave: Wave, world: World, now: float) -> tuple[Wave, tuple[Decision, ...]]:
    """Move a wave on as far as the world allows now."""
    if wave.is_ended:
        return wave, ()
    before = wave
    wave = _judged(wave, world, now)
    wave = _giving_up(wave, world, now) if wave.is_aborting else _sorted_out(wave, world, now)
    wave = _finished(wave, now) or _on_or_paused(wave, world)
    questions: tuple[Question, ...] = ()
    if wave.state is WaveState.RUNNING:
        wave, questions = _advanced(wave, world, now)
    tells = tuple(Tell(event) for event in chronicle.of(before, wave, now))
    wave = wave.but(announced=True, pauses_told=wave.pauses) if tells else wave
    return wave, (*tells, *_actions(wave, world, now), *questions)


def stands(errand: Errand, wave: Wave, world: World, now: float) -> bool:
    """Whether an errand that had to wait is still to be done: of a large wave, its one node is looked at."""
    members = tuple(wave.members_of([errand.node]))
    if wave.is_ended or not members:
        return False
    wave = _on_or_paused(_judged(wave.but(members=members), world, now), world)
    return errand in _actions(wave, world, now)


def limits_of(wave: Wave, groups: Groups) -> tuple[Limit, ...]:
    """The limits that a wave sets to itself; a kind of group that is not known any more sets none."""
    own = Limit(f"wave {wave.id}", parse_amount(wave.spec.max_unavailable), wave.nodes)
    return (own, *_group_limits(wave, groups))


def _group_limits(wave: Wave, groups: Groups) -> tuple[Limit, ...]:
    given = [(kind, parse_amount(amount)) for kind, amount in wave.spec.per_group.items() if kind in groups.kinds]
    return tuple(
        Limit(f"wave {wave.id}, {limit.name}", limit.amount, limit.nodes)
        for kind, amount in given
        for limit in groups.limits(kind, amount)
    )


def windows_of(wave: Wave) -> tuple[window.Window, ...]:
    """When the wave may take nodes out; empty: always."""
    return window.parse(wave.spec.window) if wave.spec.window else ()


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
        if request.wave != wave.id:
            continue
        if wave.is_aborting:
            return f"wave {wave.id} is being aborted"
        if overdue.gives_back(wave) and any(
            m.node == request.node and overdue.is_given_back(m, wave) for m in wave.members
        ):
            return f"wave {wave.id} gives the node back: {overdue.sentence(wave)}"
    return ""


def trigger(wave: Wave, fleet: Fleet) -> str:
    """The reason that this wave writes."""
    word = fleet.dialect.word_for_recipe(wave.spec.recipe)
    if word is None:
        raise ValueError(f"no word names recipe {wave.spec.recipe!r}")
    because = ": ".join(part for part in (wave.by, wave.spec.reason) if part) if wave.spec.reason else ""
    return reasons.write_trigger(word, image=wave.spec.image, wave=wave.id, because=because)


def _judged(wave: Wave, world: World, now: float) -> Wave:
    """The wave after a look at the members that something may have become of; most wait, or are done."""
    fleet, settled = world.fleet, world.settled.judged

    def judge(member: Member) -> Member:
        after = overdue.judged(turns.judged(member, wave, fleet, now), wave, fleet, now)
        if after is member:
            settled[member.node] = (member, fleet.node(member.node), _settled_until(member, wave, fleet))
        return after

    unsettled = [
        m
        for m in wave.with_turn(*_JUDGED)
        if (last := settled.get(m.node)) is None
        or last[0] is not m
        or last[1] is not fleet.nodes.get(m.node)
        or last[2] < now
    ]
    wave = _changed(wave, unsettled, judge)
    forgiven = min(wave.forgiven, len(wave.with_turn(Turn.HELD)))
    return wave if forgiven == wave.forgiven else wave.but(forgiven=forgiven)


def _settled_until(member: Member, wave: Wave, fleet: Fleet) -> float:
    """Until when nothing follows for a member from time alone, once a look at it has changed nothing."""
    if member.turn is not Turn.MARKED:
        return math.inf
    if not fleet.slurm_ok or fleet.read_at <= max(member.since, member.overdue_since):
        return -math.inf  # the next read may say something, though it show the same
    return min(turns.due_at(member, wave), overdue.due_at(member, wave))


def _sorted_out(wave: Wave, world: World, now: float) -> Wave:
    """Waiting nodes that are somebody else's business are skipped at once, so that it is seen early."""
    if not world.fleet.slurm_ok:
        return wave

    def sort_out(member: Member) -> Member:
        node = world.fleet.node(member.node)
        return _as_it_stands(member, turns.standing(member, wave, node, world.fleet.dialect), now)

    wave = _changed(wave, _unsettled(wave, world), sort_out)
    # As they are after it: should the change not come to stay, they are looked at again.
    world.settled.members, world.settled.stamp = wave.members, world.fleet.stamp
    return wave


def _unsettled(wave: Wave, world: World) -> Iterable[Member]:
    """The waiting members that may stand otherwise than when they were looked at: they or their nodes have changed."""
    settled = world.settled
    told = world.fleet.told_since(settled.stamp)
    if told is None or len(settled.members) != len(wave.members):
        return wave.with_turn(Turn.WAITING)
    moved = compress(wave.members, map(is_not, wave.members, settled.members))
    found = {m.node: m for m in (*moved, *wave.members_of(told))}
    return [m for m in found.values() if m.turn is Turn.WAITING]


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

    return _changed(wave, wave.with_turn(Turn.WAITING, Turn.MARKED), give_up)


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
    return wave.but(state=state, pause=None, ended_at=now, why=why + wave_rules.named(held))


def _on_or_paused(wave: Wave, world: World) -> Wave:
    if wave.state is WaveState.PAUSED:
        by_itself = wave.pause is PauseCause.SLURM and world.fleet.slurm_ok
        return wave.but(state=WaveState.RUNNING, pause=None, why="") if by_itself else wave
    if not world.fleet.slurm_ok:
        return _pause(wave, PauseCause.SLURM, f"Slurm does not answer: {world.fleet.slurm_why}")
    missing = sorted(wave.spec.per_group.keys() - world.groups.kinds.keys())
    if missing:
        return _pause(wave, PauseCause.GROUPS, f"no kind of group is called {missing[0]!r} any more")
    held = wave.with_turn(Turn.HELD)
    if len(held) - wave.forgiven > wave.spec.max_failures:
        return _pause(
            wave, PauseCause.FAILURES, f"{len(held)} held, {wave.spec.max_failures} allowed{wave_rules.named(held)}"
        )
    bad = [m for m in canaries.of(wave) if m.turn is Turn.HELD]
    if bad and not wave.canary_waived:
        return _pause(wave, PauseCause.CANARY, f"a canary is held{wave_rules.named(bad)}")
    return wave


def _advanced(wave: Wave, world: World, now: float) -> tuple[Wave, tuple[Question, ...]]:
    """Mark as many of the waiting nodes as every limit allows, canaries first."""
    windows = windows_of(wave)
    if not window.is_open(windows, now):
        wave = _promoted(_unmarked(wave, world, now), world, now)
        if wave.state is WaveState.RUNNING and wave.has(Turn.WAITING):
            wave = wave.but(why=window.opening(windows, now), stuck_since=0.0)
        return wave, ()
    wave = _promoted(wave, world, now)
    unread = next((kind for kind in wave.spec.per_group if not world.groups.kinds.get(kind)), "")
    if unread and wave.state is WaveState.RUNNING:
        # After a start the sources of groups are read one by one: a limit that binds nothing yet must let nothing go.
        return wave.but(why=f"no node is known to be in any {unread}", stuck_since=0.0), ()
    due = wave.with_turn(Turn.WAITING)
    if not wave.promoted:
        due = tuple(m for m in canaries.of(wave) if m.turn is Turn.WAITING)
        if not due or wave.state is not WaveState.RUNNING:
            return wave, ()
    return _marked(_waited_for(wave, due, now), due, world, now)


def _unmarked(wave: Wave, world: World, now: float) -> Wave:
    """Nodes whose mark has not shown in Slurm when the window closed wait for the next."""

    def wait(member: Member) -> Member:
        fleet = world.fleet
        gone = fleet.slurm_ok and fleet.read_at > member.since
        if gone and turns.needs_mark(member, wave, fleet.node(member.node), fleet.dialect):
            return member.entering(Turn.WAITING, now)
        return member

    return _changed(wave, wave.with_turn(Turn.MARKED), wait)


def _promoted(wave: Wave, world: World, now: float) -> Wave:
    """The wave past its canaries, once all of them are done and have been sound for as long as they are to soak."""
    chosen = canaries.of(wave)
    if wave.promoted or not chosen:
        return wave if wave.promoted else wave.but(promoted=True)
    if any(m.turn not in {Turn.DONE, Turn.HELD} for m in chosen):
        return wave.but(soaking_since=0.0, why="")
    doubts = () if wave.canary_waived else canaries.doubts(wave, world.fleet)
    if doubts and doubts[0].is_certain:
        return _pause(wave, PauseCause.CANARY, f"canary {doubts[0].node} is not sound: {doubts[0].why}")
    if doubts:
        return _doubted(wave, doubts[0], now)
    since = wave.soaking_since or now
    if now - since < wave.spec.soak_s:
        why = f"soaking for {wave.spec.soak_s:g} s since the canaries are sound"
        return wave.but(soaking_since=since, why=why, stuck_since=0.0)
    return wave.but(soaking_since=since, promoted=True, why="", stuck_since=0.0)


def _doubted(wave: Wave, doubt: canaries.Doubt, now: float) -> Wave:
    """The soak begins anew; a canary that says nothing for as long as a node may be away pauses the wave."""
    since = wave.stuck_since or now
    why = f"waits for canary {doubt.node}: {doubt.why}"
    if now - since > wave.spec.node_deadline_s:
        return _pause(wave, PauseCause.CANARY, why)
    return wave.but(soaking_since=0.0, stuck_since=since, why=why)


def _in_order(wave: Wave, due: Iterable[Member], world: World) -> Iterable[Member]:
    """The nodes in the order in which they are to be taken now; those alike as the hostlist has them."""
    if wave.spec.order is NodeOrder.NAME:
        return due
    members = {m.node: m for m in due}
    return tuple(members[node] for node in in_order(wave.spec, tuple(members), world))


def in_order(spec: WaveSpec, nodes: Sequence[str], world: World) -> tuple[str, ...]:
    """The nodes of a wave that is about to begin, in the order in which it would take them now: canaries come first."""
    if spec.order is NodeOrder.NAME:
        return tuple(nodes)
    free_at = world.free_at if spec.order is NodeOrder.SOONEST_FREE else {}
    return tuple(sorted(nodes, key=lambda node: _busy_until(world.fleet, node, free_at)))


def _busy_until(fleet: Fleet, node: str, free_at: Mapping[str, float]) -> float:
    view = fleet.node(node).slurm
    is_busy = view is not None and states.is_busy(frozenset(view.flags))
    return (free_at.get(node) or float("inf")) if is_busy else 0.0


def _waited_for(wave: Wave, window: Sequence[Member], now: float) -> Wave:
    """Nodes that cannot be marked have a deadline, from when the wave has nothing else left to mark."""
    if any(not m.why for m in window):
        return wave

    def waited(member: Member) -> Member:
        if not member.unready_since:
            return member.but(unready_since=now)
        if now - member.unready_since <= wave.spec.node_deadline_s:
            return member
        return member.entering(Turn.SKIPPED, now, f"waited {wave.spec.node_deadline_s:g} s: {member.why}")

    return _changed(wave, window, waited)


def _marked(wave: Wave, due: Sequence[Member], world: World, now: float) -> tuple[Wave, tuple[Question, ...]]:
    own, others = _rooms(wave, world)
    first = next((m for m in due if not m.why), None)
    if first and own.blocking(first.node):
        # The wave's own limit is about all of its nodes: where one may not go, none may, and no order is needed.
        return _stuck_or_not(wave, own.refusal(first.node), due, now), ()
    if first and wave.spec.order is NodeOrder.SOONEST_FREE and now - world.jobs_at > JOBS_FRESH_S:
        return wave.but(why="asks Slurm when jobs end"), (AskJobs(),)
    ready = (m for m in due if not m.why)
    chosen, refusal = _chosen(_in_order(wave, ready, world), own, others)
    questions = _questions(wave, chosen, world, now)
    blocked = ""
    if wave.spec.blocker and chosen:
        chosen, blocked = _unblocked(chosen, world.answer, now)
    wave = _changed(wave, wave.members_of(chosen), lambda m: _intent(m, world.fleet, now))
    if blocked:
        return wave.but(why=blocked, stuck_since=0.0), questions
    return _stuck_or_not(wave, refusal, due, now), questions


def _chosen(ready: Iterable[Member], own: Room, others: Room) -> tuple[tuple[str, ...], str]:
    """The nodes that every limit lets go out now, and why the first of the others may not."""
    chosen: list[str] = []
    refusal = ""
    for member in ready:
        if own.blocking(member.node):
            refusal = refusal or own.refusal(member.node)
            break
        if others.blocking(member.node):
            refusal = refusal or others.refusal(member.node)
            continue
        chosen.append(member.node)
        own.take(member.node, "marked")
        others.take(member.node, "marked")
    return tuple(chosen), refusal


def _questions(wave: Wave, chosen: Sequence[str], world: World, now: float) -> tuple[Question, ...]:
    """What the blocker is to be asked, where its last answer says nothing of these nodes."""
    if not wave.spec.blocker or not chosen or (world.answer and not world.answer.is_stale(chosen, now)):
        return ()
    return (AskBlocker(wave.id, wave.spec.blocker, tuple(chosen), wave.spec.recipe, wave.spec.image),)


def _unblocked(chosen: tuple[str, ...], answer: BlockerAnswer | None, now: float) -> tuple[tuple[str, ...], str]:
    """Those of the nodes that the blocker has let go, and what it says where it has not."""
    if answer is None or answer.is_stale(chosen, now):
        return (), f"asks its blocker about {len(chosen)} nodes" if answer is None or not answer.why else answer.why
    return (tuple(n for n in chosen if n in answer.nodes), "") if answer.is_free else ((), answer.why)


def _rooms(wave: Wave, world: World) -> tuple[Room, Room]:
    """What the wave's own limit leaves, which is about all of its nodes, and what the others do."""
    marked = {m.node: "marked" for m in wave.with_turn(Turn.MARKED)}
    out = {**world.reserved, **marked, **grants.out(world.fleet, world.permits)}
    own, *groups = limits_of(wave, world.groups)
    serving = world.fleet.serving
    return Room([own], out, serving), Room((*world.limits, *groups), out, serving)


def _intent(member: Member, fleet: Fleet, now: float) -> Member:
    view = fleet.node(member.node).slurm
    return member.entering(Turn.MARKED, now).but(
        boot_time=view.boot_time if view else 0, slurmd_start_time=view.slurmd_start_time if view else 0
    )


def _stuck_or_not(wave: Wave, refusal: str, window: Sequence[Member], now: float) -> Wave:
    if wave.has(Turn.MARKED) or not refusal:
        waiting = None if refusal else next((m for m in window if m.why), None)
        why = f"waits for {waiting.node}: {waiting.why}" if waiting else refusal
        return wave.but(why=why, stuck_since=0.0)
    since = wave.stuck_since or now
    if now - since > wave.spec.node_deadline_s:
        return _pause(wave, PauseCause.BUDGET, refusal)
    return wave.but(why=refusal, stuck_since=since)


def _pause(wave: Wave, cause: PauseCause, why: str) -> Wave:
    return wave.but(state=WaveState.PAUSED, pause=cause, why=why, pauses=wave.pauses + 1, stuck_since=0.0)


def _actions(wave: Wave, world: World, now: float) -> tuple[Errand, ...]:
    reason = trigger(wave, world.fleet)
    dialect = world.fleet.dialect
    # Of the others nothing is wanted but that they go on.
    wanted = (m for m in wave.with_turn(Turn.MARKED) if wave.is_aborting or m.overdue_since or not m.confirmed)
    marked = [(m, world.fleet.node(m.node)) for m in wanted]
    errands: list[Errand] = [
        GiveBack(wave.id, m.node, reason)
        for m, node in marked
        if (wave.is_aborting or overdue.is_given_back(m, wave))
        and turns.is_marked_for(node.slurm, wave.id, dialect)
        and _is_returnable(m, wave, world)
    ]
    if wave.state is not WaveState.RUNNING or not window.is_open(windows_of(wave), now):
        return tuple(errands)
    errands += [
        Mark(wave.id, m.node, reason, m.spent if m.attempt > 1 else ())
        for m, node in marked
        if turns.needs_mark(m, wave, node, dialect)
    ]
    ends = [(m, overdue.end_of_jobs(m, wave, node, dialect)) for m, node in marked if m.overdue_since]
    errands += [EndJobs(wave.id, m.node, reason, how, wave.by, m.attempt) for m, how in ends if how is not None]
    return tuple(errands)


def _changed(wave: Wave, members: Iterable[Member], change: Callable[[Member], Member]) -> Wave:
    """The wave with these of its members changed."""
    moved = [after for m in members if (after := change(m)) is not m and after != m]
    return wave.with_members(moved) if moved else wave
