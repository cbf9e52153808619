# SPDX-License-Identifier: Apache-2.0
"""What a wave would do if it began now: its batches, what stands in its way, how long it takes; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from refloat_contract import story
from refloat_contract.messages import WaveSpec
from refloat_contract.words import OnDeadline, Turn
from refloat_coordinator import hostlists
from refloat_coordinator.waves import moves, window
from refloat_coordinator.waves.estimate import Batch, Estimate, TimesOut, estimate
from refloat_coordinator.waves.wave import Wave
from refloat_coordinator.waves.world import World

_ENDED_AS: Final = {
    OnDeadline.HOLD: "are held then, and stay drained",
    OnDeadline.SKIP: "are given back then, and left out",
    OnDeadline.REQUEUE: "have their jobs requeued then (scontrol requeue)",
    OnDeadline.CANCEL_JOBS: "have their jobs cancelled then (scancel)",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the fleet: past cycles, why Slurm's jobs could not be listed, another wave in the way."""

    times: TimesOut
    jobs_why: str = ""
    conflict: str = ""
    blocker: str = ""


def plan(wave: Wave, world: World, known: Known, now: float) -> dict[str, Any]:
    """The plan of a wave, as the command line shows it."""
    after, _ = moves.decide(wave, world, now)
    due = [m.node for m in after.members if m.turn in {Turn.WAITING, Turn.MARKED}]
    expected = estimate(wave, due, world, known.times, now)
    marked = after.with_turn(Turn.MARKED)
    return {
        "reason": moves.trigger(wave, world.fleet),
        "canary": hostlists.fold(m.node for m in wave.members[: wave.spec.canary]) if wave.spec.canary else "",
        "first": hostlists.fold(m.node for m in marked) if marked else "",
        "why": after.why,
        "conflict": known.conflict,
        "blocker": known.blocker,
        "blocks": _blocks((m.node, m.turn, m.why) for m in after.members if m.why),
        "batches": [_batch(batch, now) for batch in expected.batches],
        "estimate": _estimate(expected, known, now),
        "notes": _notes(wave.spec, expected, known, world, now),
    }


def _blocks(whys: Iterable[tuple[str, Turn, str]]) -> list[dict[str, Any]]:
    """What stands in the way of nodes, each with all the nodes that it holds up, most first."""
    found: dict[tuple[Turn, str], list[str]] = {}
    for node, turn, why in whys:
        found.setdefault((turn, why), []).append(node)
    most_first = sorted(found.items(), key=lambda item: -len(item[1]))
    return [
        {"turn": turn, "why": why, "nodes": hostlists.fold(nodes), "count": len(nodes)}
        for (turn, why), nodes in most_first
    ]


def _batch(batch: Batch, now: float) -> dict[str, Any]:
    return {
        "nodes": hostlists.fold(batch.nodes),
        "count": len(batch.nodes),
        "begins_s": round(batch.begins_at - now),
        "ends_s": round(batch.ends_at - now),
        "canary": batch.is_canary,
    }


def _estimate(expected: Estimate, known: Known, now: float) -> dict[str, Any]:
    return {
        "duration_s": round(expected.ends_at - now),
        "lost_node_hours": round(expected.lost_node_hours, 1),
        "typical_wait_s": round(expected.typical_wait_s),
        "out_s": round(known.times.typical_s),
        "cycles": known.times.cycles,
        "overdue": hostlists.fold(expected.overdue) if expected.overdue else "",
        "left": hostlists.fold(expected.left) if expected.left else "",
        "stuck": expected.stuck,
    }


def _notes(spec: WaveSpec, expected: Estimate, known: Known, world: World, now: float) -> list[str]:
    """What the figures rest on, and what an operator should know before they say yes."""
    told: list[str] = []
    times = known.times
    out = story.short(times.typical_s)
    if times.cycles:
        told.append(f"a node is out for {out}: the median of the last {times.cycles} cycles of recipe {spec.recipe}")
    else:
        told.append(f"a node is taken to be out for {out}: no cycle of recipe {spec.recipe} is in the record")
    if known.jobs_why:
        told.append(f"when jobs end is not known: {known.jobs_why}")
    elif expected.endless:
        told.append(f"{_nodes(expected.endless)} run jobs without a known end: taken to end like the others")
    if expected.overdue and spec.deadline_s is not None:
        late = _nodes(expected.overdue)
        told.append(
            f"{late}: jobs may still run after the deadline of {story.short(spec.deadline_s)}; "
            f"these nodes {_ENDED_AS[spec.on_deadline]}"
        )
    if expected.left:
        told.append(f"{_nodes(expected.left)} cannot be taken out as things are: {expected.stuck}")
    told += _of_groups(spec, expected, world)
    windows = window.parse(spec.window) if spec.window else ()
    if not window.is_open(windows, now):
        told.append(window.opening(windows, now))
    return told


def _of_groups(spec: WaveSpec, expected: Estimate, world: World) -> list[str]:
    told = []
    for kind in spec.per_group:
        placed = world.groups.place(kind)
        loose = [node for batch in expected.batches for node in batch.nodes if node not in placed]
        if loose:
            told.append(f"{_nodes(loose)} are in no {kind}: only the other limits bind them")
    return told


def _nodes(names: Sequence[str]) -> str:
    return f"{len(names)} nodes ({hostlists.fold(names)})" if len(names) > 1 else f"{len(names)} node ({names[0]})"
