# SPDX-License-Identifier: Apache-2.0
"""`refloat config`: is a configuration right, and what can stand in it."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from refloat_cli.options import Json

app = typer.Typer(no_args_is_help=True, help="Check configuration files, and print what can stand in them.")


class Kind(StrEnum):
    """Whose configuration."""

    AGENT = "agent"
    COORDINATOR = "coordinator"
    OPERATOR = "operator"
    NHC = "nhc"


class Part(StrEnum):
    """What the reference is of."""

    AGENT = "agent"
    COORDINATOR = "coordinator"
    OPERATOR = "operator"
    CHECKS = "checks"


@app.command(epilog="Example: refloat config check /etc/refloat/agent.toml /etc/refloat/coordinator.toml")
def check(
    files: Annotated[
        list[Path], typer.Argument(help="agent.toml, coordinator.toml, operator.toml, nhc.conf, or files like them.")
    ],
    *,
    kind: Annotated[Kind | None, typer.Option(help="Whose they are, where their names and keys do not tell.")] = None,
    json: Json = False,
) -> None:
    """Say whether configuration files are right, and what is wrong in which line.

    The environment is left out of account. Of an nhc.conf it names each trap of NHC that the file falls into. Ends
    with 0 when all are right, else with 2, or with 1 when all that was found are such traps.
    """
    from refloat_cli import asking, configuring

    judged = [configuring.judge(file, kind) for file in files]
    if json:
        asking.write_json([one.as_dict() for one in judged])
    else:
        for one in judged:
            for told in (*one.problems, *(f"warning: {warning}" for warning in one.warnings)):
                typer.echo(told, err=True)
            if one.is_good:
                typer.echo(f"{one.file}: good ({one.kind})")
    raise typer.Exit(max(one.exit_status for one in judged))


@app.command(epilog="Example: refloat config reference agent")
def reference(part: Annotated[Part | None, typer.Argument(help="Without it all.")] = None) -> None:
    """Print every key with its type, default and meaning, as Markdown."""
    from refloat_cli import configuring

    typer.echo(configuring.reference(part), nl=False)


@app.command(epilog="Example: refloat config convert /etc/nhc/nhc.conf >checks.toml")
def convert(file: Annotated[Path, typer.Argument(help="An nhc.conf.")]) -> None:
    """Print the [[check]] tables that ask what an nhc.conf asks, and name the lines that have none.

    Ends with 0 when every line has its tables, else with 1. The file itself runs in the agent as it is (nhc_conf).
    """
    from refloat_cli import converting
    from refloat_contract.errors import Misconfigured

    try:
        forms = converting.convert(file)
    except Misconfigured as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from error
    for form in forms:
        typer.echo(form.toml)
        if form.why_not:
            typer.echo(f"{file}:{form.line.number}: {form.line.check}: {form.why_not}", err=True)
    raise typer.Exit(1 if any(form.why_not for form in forms) else 0)
