# SPDX-License-Identifier: Apache-2.0
"""What `make bench-scale` found, for people: tables in the terminal, and how cost grows as a picture in docs/.

Run by itself it draws the picture from build/bench/scale.json.
"""

import json
import math
from pathlib import Path
from typing import Any, Final

import pygal
from pygal.style import Style
from rich import box
from rich.console import Console
from rich.table import Column, Table

FIGURES: Final = Path("build/bench/scale.json")
PICTURE: Final = Path("docs/scale.svg")
THEIRS_P90_S: Final = {"150": 28.0, "375": 163.0, "750": 419.0}
"""What NVSentinel published for 1,500 nodes of which so many fail at once."""

_WIDTH: Final = 110
_GOALS: Final = {
    "trigger_p50_s": "",
    "trigger_p99_s": "< 2",
    "slurmctld_rpc_per_s": "<= 1",
    "coordinator_rss_mb": "< 250",
    "coordinator_cpu_percent": "",
    "broker_rss_mb": "",
}
_LINES: Final = {
    "coordinator: memory, MiB": ("#1f77b4", ("steady", "coordinator_rss_mb")),
    "mosquitto: memory, MiB": ("#7fb3d9", ("steady", "broker_rss_mb")),
    "coordinator: CPU when idle, % of a core": ("#d62728", ("steady", "coordinator_cpu_percent")),
    "mosquitto: CPU when idle, % of a core": ("#ff9896", ("steady", "broker_cpu_percent")),
    "calls to slurmctld for the feed, 1/s": ("#2ca02c", ("steady", "rpc_per_s", "coordinator table")),
    "trigger → agent acts, p99, s": ("#9467bd", ("triggers", "to_action", "p99_s")),
}


def show(results: dict[str, Any]) -> None:
    """Print what was found at each size, and the faults beside what others published."""
    console = Console(width=_WIDTH)
    sizes = _sizes(results)
    table = Table(Column("", no_wrap=True), *(f"{size:,}" for size in sizes), "goal", box=box.SIMPLE, title="nodes")
    for name, goal in _GOALS.items():
        table.add_row(name, *(_text(results[str(size)].get(name)) for size in sizes), goal)
    for stage in ("connect", "broker", "coordinator"):
        found = [results[str(size)].get(stage, {}).get("all_consistent_s") for size in sizes]
        table.add_row(f"{stage}_consistent_s", *map(_text, found), "" if stage == "connect" else "< 60")
    console.print(table)
    for name in (name for name in results if name.startswith("faults_")):
        faults = Table(f"of {name.removeprefix('faults_')} fail", "p50 s", "p90 s", "NVSentinel p90 s", box=box.SIMPLE)
        for count, each in results[name].items():
            faults.add_row(count, _text(each.get("p50_s")), _text(each.get("p90_s")), _text(THEIRS_P90_S.get(count)))
        console.print(faults)


def draw(results: dict[str, Any], path: Path) -> None:
    """How cost grows with the number of nodes; both axes are logarithmic."""
    sizes = _sizes(results)
    style = Style(
        colors=tuple(colour for colour, _ in _LINES.values()),
        background="white",
        plot_background="white",
        font_family="sans-serif",
        label_font_size=13,
        major_label_font_size=13,
        legend_font_size=13,
    )
    chart = pygal.XY(
        style=style,
        width=1000,
        height=520,
        legend_at_bottom=True,
        legend_at_bottom_columns=2,
        truncate_legend=-1,
        js=(),
    )
    chart.x_title = "nodes"
    chart.x_labels = [{"label": f"{size:,}", "value": math.log10(size)} for size in sizes]
    chart.y_labels = [{"label": f"{10**power:g}", "value": power} for power in range(-1, 4)]
    chart.range = (-1, 3)
    for title, (_, path_to_it) in _LINES.items():
        found = [(size, _at(results[str(size)], path_to_it)) for size in sizes]
        points = [
            {"value": (math.log10(size), math.log10(value)), "label": f"{size:,} nodes: {value:g}"}
            for size, value in found
            if value
        ]
        chart.add(title, points)
    path.write_bytes(chart.render())


def _at(figures: dict[str, Any], path: tuple[str, ...]) -> float | None:
    found: Any = figures
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return None if found is None else float(found)


def _sizes(results: dict[str, Any]) -> list[int]:
    return sorted(int(name) for name in results if name.isdigit())


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


if __name__ == "__main__":
    draw(json.loads(FIGURES.read_text()), PICTURE)
