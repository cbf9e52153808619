# SPDX-License-Identifier: Apache-2.0
"""Asking a daemon: which socket, and how the answer or its absence becomes output and an exit status."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import typer
from rich.console import Console

from refloat_service import control

T = TypeVar("T")
COORDINATOR: Final = Path("/run/refloat/coordinator.sock")
AGENT: Final = Path("/run/refloat/agent.sock")
INTERRUPTED: Final = 130
DEADLINE_S: Final = 10.0
_PIPE_WIDTH: Final = 200


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; Ctrl-C ends it quietly."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def ask(path: Path, command: str, deadline_s: float = DEADLINE_S, **arguments: Any) -> Any:
    """Ask a daemon one thing; what is None is not asked."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return run(control.call(path, command, deadline_s, **given))


def coordinator(given: Path | None) -> Path:
    """The coordinator's socket: the one that is given, that of the environment, or where it is by default."""
    return given or Path(os.environ.get("REFLOAT_COORDINATOR_SOCKET") or COORDINATOR)


def either(given: Path | None) -> Path:
    """The socket of whichever daemon runs on this machine: the coordinator's word reaches further."""
    if given is not None:
        return given
    return AGENT if AGENT.exists() and not COORDINATOR.exists() else COORDINATOR


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
