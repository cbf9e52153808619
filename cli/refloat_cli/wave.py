# SPDX-License-Identifier: Apache-2.0
"""`refloat wave`: rolling updates, planned, started, watched and steered. Only what a command runs is imported."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from refloat_cli import completing
from refloat_cli.options import Broker, Json, Socket
from refloat_cli.spec import with_options

if TYPE_CHECKING:
    from refloat_cli.ways import Way

PLAN_DEADLINE_S: Final = 60.0
"""A plan asks Slurm for all jobs, and the site's blocker."""

app = typer.Typer(no_args_is_help=True, help="Update nodes in waves: a few at a time, while jobs run on the others.")

Nodes = Annotated[str, typer.Argument(help="Hostlist: n[1-4], @rack:r1, or *.")]
Wave = Annotated[
    str,
    typer.Argument(help="The wave's id; `refloat wave list` names them.", autocompletion=completing.waves),
]


@app.command(epilog="Example: refloat wave plan 'n[1-24]' --max-unavailable 25% --canary 1 --soak 15m")
@with_options
def plan(*, spec: dict[str, Any], socket: Socket = None, broker: Broker = None, json: Json = False) -> None:
    """Show what a wave would do if it began now: its batches, what stands in its way, how long it takes.

    Changes nothing. Ends with 1 when another wave is about some of the nodes.
    """
    from refloat_cli import asking

    _plan(spec, asking.coordinator(socket, broker), json=json)


def _plan(spec: dict[str, Any], way: "Way", *, json: bool) -> None:
    from refloat_cli import asking

    planned = asking.ask(way, "wave_plan", PLAN_DEADLINE_S, spec=spec)
    if json:
        asking.write_json(planned)
    else:
        from refloat_cli import tables

        asking.console().print(tables.plan(planned, tables.now()))
    raise typer.Exit(1 if planned.get("conflict") else 0)


@app.command(epilog="Example: refloat wave start 'n[1-24]' --image compute-2 --max-unavailable 6 --canary 1 --watch")
@with_options
def start(
    *,
    spec: dict[str, Any],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and begin nothing.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch it until it ends.")] = False,
    socket: Socket = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Begin a wave."""
    from refloat_cli import asking

    way = asking.coordinator(socket, broker)
    if dry_run:
        _plan(spec, way, json=json)
    report = asking.ask(way, "wave_start", PLAN_DEADLINE_S, spec=spec)
    if watch:
        _watch(report["id"], way, json=json)
    elif json:
        asking.write_json(report)
    else:
        asking.console().print(f"wave {report['id']} started; see it with: refloat wave watch {report['id']}")


@app.command("list", epilog="Example: refloat wave list --json")
def list_waves(*, socket: Socket = None, broker: Broker = None, json: Json = False) -> None:
    """List all waves that are still known, oldest first."""
    from refloat_cli import asking

    reports = asking.ask(asking.coordinator(socket, broker), "wave_list")
    if json:
        asking.write_json(reports)
        return
    from refloat_cli import tables

    asking.console().print(tables.waves(reports, tables.now()))


@app.command(epilog="Example: refloat wave show w261121-3fa2c1")
def show(wave: Wave, *, socket: Socket = None, broker: Broker = None, json: Json = False) -> None:
    """Show a wave and all its nodes as they are now."""
    from refloat_cli import asking

    shown = asking.ask(asking.coordinator(socket, broker), "wave_show", id=wave)
    if json:
        asking.write_json(shown)
        return
    from refloat_cli import tables

    asking.console().print(tables.wave(shown, tables.now()))


@app.command(epilog="Example: refloat wave watch w261121-3fa2c1")
def watch(
    wave: Annotated[
        str | None,
        typer.Argument(help="The wave's id; without it the one that runs.", autocompletion=completing.waves),
    ] = None,
    *,
    socket: Socket = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Watch a wave until it ends.

    Ends with 0 when all is done, 1 when it failed, was aborted or holds nodes, and 3 when the coordinator stays away.
    """
    from refloat_cli import asking

    way = asking.coordinator(socket, broker)
    _watch(wave or _only_one(way), way, json=json)


def _only_one(way: "Way") -> str:
    from refloat_cli import asking
    from refloat_contract.errors import Misconfigured

    reports = asking.ask(way, "wave_list")
    going = [report["id"] for report in reports if report["state"] in {"running", "paused"}]
    if len(going) != 1:
        raise Misconfigured(f"say which wave: {', '.join(going) or 'none is under way'} (`refloat wave list`)")
    return str(going[0])


def _watch(wave: str, way: "Way", *, json: bool) -> None:
    from refloat_cli import asking, watching

    raise typer.Exit(asking.run(watching.watch(way, wave, as_json=json)))


@app.command(epilog="Example: refloat wave pause w261121-3fa2c1")
def pause(wave: Wave, *, socket: Socket = None, broker: Broker = None, json: Json = False) -> None:
    """Take no more nodes out; those under way go on."""
    _steer("wave_pause", wave, socket, broker, json=json)


@app.command(epilog="Example: refloat wave resume w261121-3fa2c1")
def resume(wave: Wave, *, socket: Socket = None, broker: Broker = None, json: Json = False) -> None:
    """Go on with a paused wave."""
    _steer("wave_resume", wave, socket, broker, json=json)


@app.command(epilog="Example: refloat wave abort w261121-3fa2c1")
def abort(wave: Wave, *, socket: Socket = None, broker: Broker = None, json: Json = False) -> None:
    """End a wave: nodes that have not begun are given back, those under way finish."""
    _steer("wave_abort", wave, socket, broker, json=json)


@app.command(epilog="Example: refloat wave retry w261121-3fa2c1 n11")
def retry(
    wave: Wave,
    nodes: Annotated[str | None, typer.Argument(help="Hostlist; without it all held nodes.")] = None,
    *,
    socket: Socket = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Try held or skipped nodes again."""
    _steer("wave_retry", wave, socket, broker, json=json, nodes=nodes)


@app.command(epilog="Example: refloat wave skip w261121-3fa2c1 'n[11-12]'")
def skip(wave: Wave, nodes: Nodes, *, socket: Socket = None, broker: Broker = None, json: Json = False) -> None:
    """Take nodes out of a wave; a node that is under way finishes."""
    _steer("wave_skip", wave, socket, broker, json=json, nodes=nodes)


def _steer(command: str, wave: str, socket: Path | None, broker: Path | None, *, json: bool, **arguments: Any) -> None:
    from refloat_cli import asking

    report = asking.ask(asking.coordinator(socket, broker), command, id=wave, **arguments)
    if json:
        asking.write_json(report)
        return
    why = f": {report['why']}" if report.get("why") else ""
    asking.console().print(f"wave {report['id']} {report['state']}{why}", markup=False)
