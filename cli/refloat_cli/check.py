# SPDX-License-Identifier: Apache-2.0
"""`refloat check`: look once at the checks of this node, without the agent."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

from pathlib import Path
from typing import Annotated

import typer

from refloat_cli.options import Json

Config = Annotated[Path, typer.Option(help="The agent's configuration, for its checks.")]
Only = Annotated[list[str] | None, typer.Option(help="Only this check; may be given many times.")]


def check(
    *,
    config: Config = Path("/etc/refloat/agent.toml"),
    only: Only = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the checks, and look at none.")] = False,
    json: Json = False,
) -> None:
    """Look at the checks of this node once, and say what they find; drains nothing.

    Ends with 0 when all are OK, 1 when one FAILED, and 3 when one could not be looked at.
    """
    from refloat_cli import asking, checking, tables

    specs = checking.specs(config, only or ())
    if list_:
        rows = [{"check": spec.name, "type": spec.kind, "severity": spec.severity.value} for spec in specs]
        if json:
            asking.write_json(rows)
        else:
            for row in rows:
                typer.echo("  ".join(row.values()))
        return
    results = [result.as_dict() for result in asking.run(checking.look(specs))]
    if json:
        asking.write_json(results)
    else:
        asking.console().print(tables.checks(results))
    raise typer.Exit(checking.exit_status(results))
