# SPDX-License-Identifier: Apache-2.0
"""Tables of limits, of who uses them, and of incidents. Pure."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from refloat_cli.durations import short, stamp
from refloat_coordinator.hostlists import fold

_SHOWN: Final = 20
"""So many lines of nodes under a limit; the rest is counted."""


def table(answer: Mapping[str, Any], at: float, *, every: bool) -> RenderableType:
    """Every limit with those that use it; the answer of ``budget``."""
    parts: list[RenderableType] = [Text(f"warning: {one}", style="yellow") for one in answer["warnings"]]
    if answer["incidents"]:
        parts.append(incidents(answer["incidents"], at))
    shown = [one for one in answer["limits"] if one["used"] or every or one["limit"] == "cluster"]
    grid = _table("LIMIT", "USED", "ALLOWED", "NODES", "SINCE", "WHY")
    for one in shown:
        _add(grid, one, at)
    unused = len(answer["limits"]) - len(shown)
    parts.append(grid)
    if unused:
        parts.append(Text(f"limits that nobody uses now: {unused} (--all shows them)", style="bright_black"))
    return Group(*parts)


def _add(grid: Table, limit: Mapping[str, Any], at: float) -> None:
    style = "bold red" if limit["used"] > limit["allowed"] else "yellow" if limit["used"] == limit["allowed"] else ""
    head = [Text(limit["limit"]), Text(f"{limit['used']} {limit['word']}", style), Text(str(limit["allowed"]))]
    lines = _holders(limit["holders"], at)
    for number, line in enumerate(lines[:_SHOWN] or [("", "", "")]):
        grid.add_row(*(head if number == 0 else [Text()] * 3), *map(Text, line))
    if len(lines) > _SHOWN:
        grid.add_row(*[Text()] * 3, Text(f"and {len(lines) - _SHOWN} more lines"))


def _holders(holders: Sequence[Mapping[str, Any]], at: float) -> list[tuple[str, str, str]]:
    """Nodes that are out for the same reason, and for as long, in one line; the longest first."""
    told = sorted(holders, key=lambda one: (one["since"] or at, one["why"]))
    return [
        (fold(one["node"] for one in group), since, why)
        for (since, why), group in groupby(told, key=lambda one: (_since(one, at), one["why"]))
    ]


def _since(holder: Mapping[str, Any], at: float) -> str:
    return short(at - holder["since"]) if holder["since"] else ""


def incidents(found: Sequence[Mapping[str, Any]], at: float) -> RenderableType:
    """Incidents; the answer of ``breaker_list``."""
    grid = _table("INCIDENT", "CHECK", "OPENED", "NODES", "STATE", "WHICH")
    for one in found:
        is_open = not one["closed_by"]
        lasted = short((at if is_open else one["closed_at"]) - one["opened_at"])
        state = (
            f"open for {lasted}, fails on {len(one['failing'])} now" if is_open else f"{_closed(one)} after {lasted}"
        )
        grid.add_row(
            Text(one["id"]),
            Text(one["check"]),
            Text(stamp(one["opened_at"])),
            Text(f"{len(one['nodes'])} of {one['of']}"),
            Text(state, "bold red" if is_open else ""),
            Text(fold(one["nodes"])),
        )
    return grid if found else Text("no incident is known")


def _closed(incident: Mapping[str, Any]) -> str:
    by = incident["closed_by"]
    return "cleared" if by == "cleared" else f"closed by {by}"


def _table(*headings: str) -> Table:
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings[:-1]:
        grid.add_column(heading, no_wrap=True)
    grid.add_column(headings[-1], overflow="fold")
    return grid
