# SPDX-License-Identifier: Apache-2.0
"""Asking a daemon: on which way, and how the answer or its absence becomes output and an exit status."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import typer
from rich.console import Console

from refloat_cli.ways import SocketWay, Way
from refloat_contract.errors import Misconfigured

T = TypeVar("T")
COORDINATOR: Final = Path("/run/refloat/coordinator.sock")
AGENT: Final = Path("/run/refloat/agent.sock")
SOCKET_VARIABLE: Final = "REFLOAT_COORDINATOR_SOCKET"
BROKER_VARIABLE: Final = "REFLOAT_BROKER"
INTERRUPTED: Final = 130
DEADLINE_S: Final = 10.0
_PIPE_WIDTH: Final = 200


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; Ctrl-C ends it quietly."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def ask(way: Way, command: str, deadline_s: float = DEADLINE_S, **arguments: Any) -> Any:
    """Ask a daemon one thing; what is None is not asked."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return run(way.call(command, deadline_s, **given))


def agent(socket: Path | None) -> Way:
    """The way to the agent of this machine."""
    return SocketWay(socket or AGENT)


def coordinator(socket: Path | None, broker: Path | None) -> Way:
    """The way to the coordinator: its socket, or the broker that the file names.

    What stands on the command line goes before the environment; what is named nowhere is the socket where it is by
    default.

    Raises:
        Misconfigured: both are named, or the file is wrong.
    """
    usual, remote = _path(SOCKET_VARIABLE), _path(BROKER_VARIABLE)
    socket = None if socket == usual else socket  # the option has the variable's value where it was not given
    if socket is None and broker is None:
        socket, broker = usual, remote
    if socket is not None and broker is not None:
        raise Misconfigured(
            f"both a socket and a broker are named: say one of --socket ({SOCKET_VARIABLE}) and --broker"
            f" ({BROKER_VARIABLE})"
        )
    return _over_mqtt(broker) if broker is not None else SocketWay(socket or COORDINATOR)


def _over_mqtt(file: Path) -> Way:
    # Only those who ask over MQTT wait until its library is loaded.
    from refloat_cli import operator_file, remote  # noqa: PLC0415

    return remote.BrokerWay(operator_file.load(file))


def either(socket: Path | None, broker: Path | None) -> Way:
    """The way to whichever daemon is on this machine, unless one is named: the coordinator's word reaches further."""
    is_named = socket or broker or _path(BROKER_VARIABLE)
    if not is_named and AGENT.exists() and not COORDINATOR.exists():
        return SocketWay(AGENT)
    return coordinator(socket, broker)


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def console(env: Mapping[str, str] = os.environ) -> Console:
    """Where output goes; in a pipe nothing is cut off to fit a screen."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    width = env.get("COLUMNS", "")
    return Console(highlight=False, width=int(width) if width.isdecimal() else _PIPE_WIDTH)


def write_json(value: Any, *, indent: int | None = 2) -> None:
    """Write a value as JSON; without indent on one line, as one of many."""
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
    sys.stdout.flush()
