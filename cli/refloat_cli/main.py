# SPDX-License-Identifier: Apache-2.0
"""The `refloat` command: its commands, and how errors become one line and an exit status.

0 good; 1 the answer is bad; 2 wrong usage or configuration; 3 unknown or unreachable; 130 interrupted.
"""

import sys
from typing import Annotated, Final

import typer

from refloat_cli import budget, check, config, cycle, nodes, wave
from refloat_cli.demo.command import demo
from refloat_cli.gate import PATIENCE_S, wait
from refloat_cli.options import Json
from refloat_cli.pki import command as pki
from refloat_cli.simulate.command import simulate
from refloat_contract.errors import BadMessage, Misconfigured, RefloatError, Refused

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Drain a node, service it, refloat it: node health and rolling updates for Slurm clusters.",
    epilog="Exit status: 0 good, 1 the answer is bad, 2 wrong usage or configuration, 3 unknown or unreachable.",
)
app.command(epilog="Example: refloat status 'n[1-4]'")(nodes.status)
app.command(epilog="Example: refloat why n3")(nodes.why)
app.command(epilog="Example: refloat events n3 --since 2h --follow")(nodes.events)
app.command(epilog="Example: refloat demo --json")(demo)
app.command(epilog="Example: refloat simulate --nodes 'n[1-1000]' -w max_unavailable=50 --never-return 2%")(simulate)
app.add_typer(check.app, name="check")
app.command(epilog="Example: refloat budget --all")(budget.budget)
app.add_typer(wave.app, name="wave")
app.add_typer(budget.breaker, name="breaker")
app.add_typer(cycle.app, name="cycle")
app.add_typer(config.app, name="config")
app.add_typer(pki.app, name="pki")


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415 - slow, and needed here only

    return metadata.version("refloat")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"refloat {_version()}")
        raise typer.Exit


@app.callback()
def refloat(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """What all commands share."""


@app.command(epilog="Example: refloat version --json")
def version(*, json: Json = False) -> None:
    """Print the version."""
    installed = _version()
    if json:
        from refloat_cli.asking import write_json  # noqa: PLC0415 - the same

        write_json({"refloat": installed, "python": sys.version.split()[0]})
    else:
        typer.echo(f"refloat {installed}")


@app.command(epilog="Example: refloat gate --patience 30")
def gate(
    *,
    patience: Annotated[float, typer.Option(min=0, help="Seconds that no agent may answer.")] = PATIENCE_S,
) -> None:
    """Wait until the agent of this node lets slurmd start: what refloat-boot-gate.service runs. Always ends with 0."""
    raise typer.Exit(wait(patience))


_GOOD: Final = 0
_BAD: Final = 1
_WRONG: Final = 2
_UNKNOWN: Final = 3
_COORDINATORS: Final = frozenset({"cryptography", "influxdb_client", "prometheus_client", "pygal"})
"""Libraries that the packages bring to the coordinator's host, and not to every node."""


def exit_status(error: RefloatError) -> int:
    """The exit status that tells a script who must act."""
    if isinstance(error, Misconfigured):
        return _WRONG
    if isinstance(error, Refused) and not isinstance(error, BadMessage):
        return _BAD
    return _UNKNOWN


def main() -> None:
    """Run the command line."""
    try:
        app()
    except RefloatError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"refloat: {line}\n")
        sys.exit(exit_status(error))
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _COORDINATORS:
            raise
        sys.stderr.write(
            f"refloat: {library} is not installed here: this command needs the package refloat-coordinator"
            " (or run it where the coordinator is)\n"
        )
        sys.exit(_WRONG)
