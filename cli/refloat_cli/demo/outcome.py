# SPDX-License-Identifier: Apache-2.0
"""What came of the demo: the numbers that it promises, and how they look."""

from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from refloat_cli.demo.cluster import DemoCluster
from refloat_cli.views import WaveView
from refloat_contract.words import Turn


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result. ``held`` names each node that a human must look at, and why."""

    nodes: int
    updated: int
    held: dict[str, str]
    jobs_run: int
    jobs_harmed: int
    max_out: int
    budget: int
    reboots: int
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether every promise was kept: no job harmed, the budget held, and every node is either updated or held."""
        accounted = self.updated + len(self.held) == self.nodes
        return self.jobs_harmed == 0 and self.max_out <= self.budget and accounted and self.updated > 0

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def outcome_of(cluster: DemoCluster, view: WaveView, seconds: float) -> Outcome:
    """Read the result off the simulated Slurm and the wave."""
    return Outcome(
        nodes=cluster.plan.nodes,
        updated=len(view.at_turn(Turn.DONE)),
        held={node.node: node.why for node in view.at_turn(Turn.HELD)},
        jobs_run=cluster.slurmctld.jobs_run,
        jobs_harmed=cluster.slurmctld.jobs_harmed,
        max_out=cluster.slurmctld.max_out,
        budget=cluster.plan.budget,
        reboots=cluster.reboots,
        seconds=round(seconds, 1),
    )


def table(outcome: Outcome) -> RenderableType:
    """The closing table."""
    rows = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column(justify="right")
    rows.add_column(overflow="fold")
    rows.add_row("nodes", str(outcome.nodes), "")
    rows.add_row("updated", str(outcome.updated), "drained, unmounted, rebooted, mounted, checked, resumed")
    rows.add_row("held", str(len(outcome.held)), "each waits for a human, and says why:")
    for node, why in outcome.held.items():
        rows.add_row("", "", f"{node}: {why}")
    rows.add_row("jobs run", str(outcome.jobs_run), "beside the wave, by users who never stopped")
    rows.add_row("jobs harmed", _verdict(outcome.jobs_harmed == 0, outcome.jobs_harmed), "")
    within = outcome.max_out <= outcome.budget
    rows.add_row("out at once", _verdict(within, outcome.max_out), f"at most, of a budget of {outcome.budget}")
    rows.add_row("seconds", f"{outcome.seconds:g}", "")
    return Group(rows)


def _verdict(good: bool, number: int) -> Text:  # noqa: FBT001 - the one thing that it tells
    return Text(str(number), style="bold green" if good else "bold red")
