# SPDX-License-Identifier: Apache-2.0
"""`refloat check`: look once at the checks of this node, without the agent."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refloat_cli.options import Json
from refloat_contract.errors import Misconfigured

if TYPE_CHECKING:
    from refloat_checks.registry import CheckSpec

Config = Annotated[Path, typer.Option(help="The agent's configuration, for its checks.")]
NhcConf = Annotated[Path | None, typer.Option(help="An nhc.conf, whose lines to look at instead.", show_default=False)]
Host = Annotated[str | None, typer.Option(help="The host whose lines of the nhc.conf apply.", show_default="this one")]
Only = Annotated[list[str] | None, typer.Option(help="Only this check; may be given many times.")]
Junit = Annotated[
    Path | None, typer.Option(help="Write the results as JUnit XML into this file, or with - to standard output.")
]
Root = Annotated[
    Path | None,
    typer.Option(help="Look into this tree (an image's root), and not at the running system.", show_default=False),
]


def check(
    *,
    config: Config = Path("/etc/refloat/agent.toml"),
    nhc_conf: NhcConf = None,
    host: Host = None,
    only: Only = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the checks, and look at none.")] = False,
    root: Root = None,
    junit: Junit = None,
    json: Json = False,
) -> None:
    """Look at the checks of this node once, and say what they find; drains nothing, and kills nothing.

    Ends with 0 when all are OK, 1 when one FAILED, and 3 when one could not be looked at.
    """
    from refloat_cli import asking, checking, tables

    names = only or ()
    asked = (
        checking.wanted_of_nhc(nhc_conf, names, host=host) if nhc_conf else checking.wanted(config, names, host=host)
    )
    if list_:
        _list(asked.specs, json=json)
        return
    results = [result.as_dict() for result in asking.run(checking.look(asked, root))]
    if junit is not None:
        _write_junit(junit, results)
    if json:
        asking.write_json(results)
    elif junit is None or str(junit) != "-":
        asking.console().print(tables.checks(results))
    raise typer.Exit(checking.exit_status(results))


def _list(specs: "tuple[CheckSpec, ...]", *, json: bool) -> None:
    from refloat_cli import asking

    rows = [{"check": spec.name, "type": spec.kind, "severity": spec.severity.value} for spec in specs]
    if json:
        asking.write_json(rows)
        return
    for row in rows:
        typer.echo("  ".join(row.values()))


def _write_junit(path: Path, results: "list[dict[str, Any]]") -> None:
    from refloat_cli import junit

    text = junit.document(results)
    if str(path) == "-":
        typer.echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
