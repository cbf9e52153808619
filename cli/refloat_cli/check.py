# SPDX-License-Identifier: Apache-2.0
"""`refloat check`: look once at the checks of this node; or ask its agent for those of a profile, and set it right."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from refloat_cli.options import Json
from refloat_contract.errors import Misconfigured

if TYPE_CHECKING:
    from refloat_checks.registry import CheckSpec

AGENT_TOML: Final = Path("/etc/refloat/agent.toml")
app = typer.Typer(
    invoke_without_command=True,
    epilog="Example: refloat check --config /etc/refloat/agent.toml --only scratch",
    help="Look at the checks of this node once, and say what they find; drains nothing, and kills nothing.",
)
Config = Annotated[
    Path | None,
    typer.Option(help="The agent's configuration, for its checks.", show_default="/etc/refloat/agent.toml"),
]
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
Profile = Annotated[
    str | None,
    typer.Option(
        help="Only the checks of this profile (prolog, epilog, boot, image). The agent answers, if it runs, from its "
        "last looks; with --root, --config, --nhc-conf or --only they are looked at from here.",
        show_default=False,
    ),
]
MaxAge = Annotated[
    float | None,
    typer.Option(min=0, help="Seconds: the agent looks anew at what it looked at longer ago.", show_default=False),
]
AgentSocket = Annotated[
    Path | None,
    typer.Option(envvar="REFLOAT_AGENT_SOCKET", help="Control socket of the agent.", show_default=False),
]
Which = Annotated[str, typer.Argument(metavar="NODE/CHECK", help="The check, and this node's name in Slurm.")]


@app.callback()
def check(
    context: typer.Context,
    *,
    config: Config = None,
    nhc_conf: NhcConf = None,
    host: Host = None,
    only: Only = None,
    profile: Profile = None,
    max_age: MaxAge = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the checks, and look at none.")] = False,
    root: Root = None,
    junit: Junit = None,
    json: Json = False,
) -> None:
    """Look at the checks of this node once, and say what they find; drains nothing, and kills nothing.

    Ends with 0 when all are OK, 1 when one FAILED, and 3 when one could not be looked at.
    """
    if context.invoked_subcommand is not None:
        return
    if profile is not None and not (config or nhc_conf or only or root or junit or list_):
        _by_agent(profile, max_age, json=json)
    from refloat_cli import asking, checking, tables

    names = only or ()
    asked = (
        checking.wanted_of_nhc(nhc_conf, names, host=host)
        if nhc_conf
        else checking.wanted(config or AGENT_TOML, names, host=host)
    )
    if profile is not None:
        asked = checking.of_profile(asked, profile)
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
    raise typer.Exit(checking.exit_status(results, asked.only_warning if profile is not None else ()))


def _by_agent(profile: str, max_age_s: float | None, *, json: bool) -> None:
    from refloat_cli import profile as profiles

    if (answer := profiles.ask(profile, max_age_s)) is not None:
        raise typer.Exit(profiles.tell(answer, profile, as_json=json))


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


@app.command(epilog="Example: refloat check clear n3/scratch")
def clear(which: Which, *, socket: AgentSocket = None) -> None:
    """Take away a failure that sticks: the agent forgets it, and looks at the check anew."""
    _tell_agent("check_clear", which, socket)


@app.command(epilog="Example: refloat check off n3/scratch")
def off(which: Which, *, socket: AgentSocket = None) -> None:
    """Switch a check off on this node, until it is switched on again or the node boots."""
    _tell_agent("check_switch", which, socket, on=False)


@app.command(epilog="Example: refloat check on n3/scratch")
def on(which: Which, *, socket: AgentSocket = None) -> None:
    """Switch a check on again."""
    _tell_agent("check_switch", which, socket, on=True)


def _tell_agent(command: str, which: str, socket: Path | None, **arguments: Any) -> None:
    from refloat_cli import asking, whoami

    node, slash, name = which.partition("/")
    if not (node and slash and name):
        raise Misconfigured(f"{which!r}: write the node and the check, as in n3/scratch")
    by = whoami.name()
    answer = asking.ask(asking.agent(socket), command, node=node, check=name, by=by, **arguments)
    typer.echo(answer["told"])
