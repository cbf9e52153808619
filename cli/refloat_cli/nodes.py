# SPDX-License-Identifier: Apache-2.0
"""`refloat status`, `why` and `events`: what the nodes are doing, why, and what happened."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refloat_cli.options import Broker, Json, Socket

if TYPE_CHECKING:
    from refloat_cli.ways import Way

Nodes = Annotated[str | None, typer.Argument(help="Hostlist: n[1-4], @rack:r1; without it all nodes.")]


def status(
    nodes: Nodes = None,
    *,
    by: Annotated[
        str | None,
        typer.Option(
            help="Group the nodes by what they run: image, os, kernel, cmdline, digest, or a package or module that "
            "agent.toml names in [versions]."
        ),
    ] = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="One line for each node, also without NODES.")] = False,
    socket: Socket = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Show what agents and Slurm say of the nodes; on a compute node, of this one.

    Without NODES those that are alike stand in one line. Ends with 1 when a node is held or unhealthy, and with 3 when
    nothing is known of a node that was named. With --by it ends with 1 when the nodes do not all run the same, and with
    3 when none of them says what it runs.
    """
    from refloat_cli import asking

    way = asking.either(socket, broker)
    if nodes is None and by is None and not long and not json and _show_summary(way):
        return
    answer = asking.ask(way, "status", nodes=nodes)
    if by is not None:
        _show_drift([answer] if isinstance(answer, dict) else answer, by, json=json)
    is_agent = isinstance(answer, dict)
    if json:
        asking.write_json(answer)
    else:
        from refloat_cli import tables

        shown = tables.agent(answer, tables.now()) if is_agent else tables.nodes(answer, tables.now())
        asking.console().print(shown)
    raise typer.Exit(_status([answer] if is_agent else answer, named=nodes is not None))


def _show_summary(way: "Way") -> bool:
    """Print how many nodes are how, and end; false where it is an agent that answers, which has one node only."""
    from refloat_cli import asking, tables
    from refloat_contract.errors import Refused

    try:
        found = asking.ask(way, "summary")
    except Refused:
        return False
    asking.console().print(tables.summary(found))
    is_bad = any(one["phase"] == "HELD" or one["verdict"] == "UNHEALTHY" for one in found)
    raise typer.Exit(1 if is_bad else 0)


def _show_drift(found: Sequence[Mapping[str, Any]], by: str, *, json: bool) -> None:
    """Print the groups, and end."""
    from refloat_cli import asking, drift

    groups = drift.groups(found, by)
    if json:
        asking.write_json([group.as_dict() for group in groups])
    else:
        asking.console().print(drift.table(groups, by))
    raise typer.Exit(drift.exit_status(groups))


def _status(found: Sequence[Mapping[str, Any]], *, named: bool) -> int:
    reports = [one.get("report") or {} for one in found]
    if any(report.get("phase") == "HELD" or report.get("verdict") == "UNHEALTHY" for report in reports):
        return 1
    is_unknown = any(not report or not one.get("online", True) for one, report in zip(found, reports, strict=True))
    return 3 if named and is_unknown else 0


def why(
    node: Annotated[str | None, typer.Argument(help="The node; without it the one that this is run on.")] = None,
    *,
    socket: Socket = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Say in one sentence what a node waits for, and what that is drawn from."""
    from refloat_cli import asking

    way = asking.either(socket, broker) if node or socket or broker else asking.agent(None)
    answer = asking.ask(way, "why", node=node)
    if json:
        asking.write_json(answer)
        return
    screen = asking.console()
    screen.print(answer["sentence"], style="bold", markup=False)
    for line in answer["lines"]:
        screen.print(f"  {line}", markup=False)
    if advice := _advice(answer.get("held", "")):
        screen.print(f"What to do: {advice}", markup=False)


def _advice(held: str) -> str:
    """What docs/held.md says is to be done about a hold; empty where it knows none."""
    from refloat_agent import holds
    from refloat_contract.held import find
    from refloat_coordinator.waves import holds as wave_holds

    entry = find((*holds.ALL, *wave_holds.ALL), held)
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", entry.do) if entry is not None else ""


def events(
    nodes: Nodes = None,
    *,
    since: Annotated[str | None, typer.Option(help="Only later ones: 2h (ago), 2026-01-31, 2026-01-31T12:00.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only of this kind: hold, reboot, check_failed …; may be given again.")
    ] = None,
    check: Annotated[list[str] | None, typer.Option(help="Only of this check; may be given again.")] = None,
    wave: Annotated[list[str] | None, typer.Option(help="Only of this wave; may be given again.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Only so many, the newest.")] = 1000,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones as they happen.")] = False,
    socket: Socket = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """List what happened, oldest first.

    NODES may be "coordinator", too: the events of waves and incidents are its own. With --follow and --json each event
    is a line.
    """
    from refloat_cli import asking, tables
    from refloat_cli.durations import past

    way = asking.coordinator(socket, broker)
    given = {"nodes": nodes, "limit": limit, "kinds": kind, "checks": check, "waves": wave}
    asked: dict[str, Any] = {name: value for name, value in given.items() if value}
    if since is not None:
        asked["since"] = past(since, tables.now())
    if follow:
        asking.run(_follow(way, asked, json=json))
        return
    found = asking.ask(way, "events", **asked)
    if json:
        asking.write_json(found)
    else:
        asking.console().print(tables.events(found))


async def _follow(way: "Way", asked: Mapping[str, Any], *, json: bool) -> None:
    from refloat_cli import tables
    from refloat_cli.asking import write_json

    async for event in way.follow(asked):
        if json:
            write_json(event, indent=None)
        else:
            typer.echo(tables.event_line(event))
