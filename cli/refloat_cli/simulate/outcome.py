# SPDX-License-Identifier: Apache-2.0
"""What came of a simulation: the numbers that a maintenance is planned by, and how they look."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from refloat_cli.durations import short
from refloat_cli.simulate.course import WORKING, Course, totals
from refloat_cli.simulate.world import World
from refloat_contract.words import Turn, WaveState
from refloat_coordinator import hostlists

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result. Times of day are seconds since 1970, all others seconds; ``held`` is by what the nodes wait for."""

    nodes: int
    state: str
    why: str
    began_at: float
    ended_at: float
    duration_s: float
    done: int
    skipped: int
    held: dict[str, str]
    not_begun: int
    least_serving: int
    least_serving_at: float
    most_out: int
    lost_node_hours: float
    busy_nodes: float
    """On how many nodes jobs ran, on average."""
    jobs_run: int
    jobs_harmed: int
    reboots: int
    slurm_reads: int
    slurm_writes: int
    turn_s: float
    took_s: float

    @property
    def is_good(self) -> bool:
        """Whether the wave ended with every node done or left out."""
        return self.state == WaveState.DONE and self.jobs_harmed == 0

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def outcome_of(world: World, took_s: float) -> Outcome:
    """Read the result off a world that has run."""
    wave, course = world.wave, world.course
    if wave is None:
        raise AssertionError("the wave was started")
    held: dict[str, list[str]] = {}
    for member in wave.with_turn(Turn.HELD):
        held.setdefault(member.why, []).append(member.node)
    return Outcome(
        nodes=len(wave.members),
        state=str(wave.state),
        why=wave.why,
        began_at=course.began_at,
        ended_at=course.ended_at,
        duration_s=round(course.ended_at - course.began_at, 1),
        done=len(wave.with_turn(Turn.DONE)),
        skipped=len(wave.with_turn(Turn.SKIPPED)),
        held={hostlists.fold(nodes): why for why, nodes in held.items()},
        not_begun=len(wave.with_turn(Turn.WAITING)),
        least_serving=course.least,
        least_serving_at=course.least_at,
        most_out=course.most_out,
        lost_node_hours=round(course.lost_node_hours(), 2),
        busy_nodes=round(_average_busy(course), 1),
        jobs_run=world.slurmctld.jobs_run,
        jobs_harmed=world.slurmctld.jobs_harmed,
        reboots=world.reboots,
        slurm_reads=world.reads + world.turns,
        slurm_writes=world.writes,
        turn_s=world.turn_s,
        took_s=round(took_s, 1),
    )


def _average_busy(course: Course) -> float:
    passed_s = course.ended_at - course.began_at
    if passed_s > 0:
        return sum(course.node_s.get(standing, 0.0) for standing in WORKING) / passed_s
    return float(totals(course.samples[-1:], WORKING)[0])


def table(outcome: Outcome) -> RenderableType:
    """The closing table."""
    rows = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(justify="right", no_wrap=True)
    rows.add_column(overflow="fold")
    state = Text(outcome.state, style="bold green" if outcome.is_good else "bold red")
    rows.add_row("wave", state, outcome.why)
    span = f"{_clock(outcome.began_at)} to {_clock(outcome.ended_at)}"
    rows.add_row("duration", short(outcome.duration_s), span)
    rows.add_row("nodes done", f"{outcome.done} of {outcome.nodes}", _rest(outcome))
    for nodes, why in list(outcome.held.items())[:_NAMED]:
        rows.add_row("", "", f"held: {nodes}: {why}")
    if len(outcome.held) > _NAMED:
        rows.add_row("", "", f"and {len(outcome.held) - _NAMED} other causes of holds")
    rows.add_row("least in service", str(outcome.least_serving), f"nodes, at {_clock(outcome.least_serving_at)}")
    rows.add_row("most out at once", str(outcome.most_out), "draining, drained, rebooting, held or gone")
    rows.add_row("lost", f"{outcome.lost_node_hours:g}", "node-hours in which a node ran no job and might not have")
    rows.add_row("busy", f"{outcome.busy_nodes:g}", "nodes with jobs, on average")
    harmed = Text(str(outcome.jobs_harmed), style="bold green" if outcome.jobs_harmed == 0 else "bold red")
    rows.add_row("jobs harmed", harmed, f"{outcome.jobs_run} ran to their end")
    rows.add_row("reboots", str(outcome.reboots), "")
    rows.add_row("slurmctld", str(outcome.slurm_reads), f"reads, {outcome.slurm_writes} writes, all in all")
    turn = f"seconds; at its end the coordinator looked every {outcome.turn_s:g} s of simulated time"
    rows.add_row("simulated in", f"{outcome.took_s:g}", turn)
    return Group(rows)


def _rest(outcome: Outcome) -> str:
    held = outcome.nodes - outcome.done - outcome.skipped - outcome.not_begun
    counts = [(outcome.skipped, "skipped"), (held, "held or under way"), (outcome.not_begun, "not begun")]
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%a %Y-%m-%d %H:%M")
