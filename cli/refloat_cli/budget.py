# SPDX-License-Identifier: Apache-2.0
"""`refloat budget` and `refloat breaker`: what every limit leaves, who uses it, and incidents."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

from typing import Annotated

import typer

from refloat_cli.options import Broker, Json, Socket

breaker = typer.Typer(no_args_is_help=True, help="Show and close incidents: checks that failed on many nodes at once.")


def budget(
    *,
    every: Annotated[bool, typer.Option("--all", "-a", help="Also limits that nobody uses now.")] = False,
    socket: Socket = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Show how many nodes may be out, and which are: each with why and since when.

    Ends with 1 while an incident is open.
    """
    from refloat_cli import asking

    answer = asking.ask(asking.coordinator(socket, broker), "budget")
    if json:
        asking.write_json(answer)
    else:
        from refloat_cli import limits, tables

        asking.console().print(limits.table(answer, tables.now(), every=every))
    raise typer.Exit(1 if answer["incidents"] else 0)


@breaker.command("list", epilog="Example: refloat breaker list --json")
def list_incidents(*, socket: Socket = None, broker: Broker = None, json: Json = False) -> None:
    """List incidents, oldest first.

    Ends with 1 while one is open.
    """
    from refloat_cli import asking

    found = asking.ask(asking.coordinator(socket, broker), "breaker_list")
    if json:
        asking.write_json(found)
    else:
        from refloat_cli import limits, tables

        asking.console().print(limits.incidents(found, tables.now()))
    raise typer.Exit(1 if any(not one["closed_by"] for one in found) else 0)


@breaker.command(epilog="Example: refloat breaker close b3")
def close(
    incident: Annotated[str, typer.Argument(help="Its id, or its check; `refloat breaker list` names them.")],
    *,
    socket: Socket = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Close an incident: nodes that fail its check are drained again, as many at once as the budget allows."""
    from refloat_cli import asking

    closed = asking.ask(asking.coordinator(socket, broker), "breaker_close", id=incident)
    if json:
        asking.write_json(closed)
    else:
        asking.console().print(f"incident {closed['id']} ({closed['check']}) closed", markup=False)
