# SPDX-License-Identifier: Apache-2.0
"""Dumps of a cluster: from files, or asked of Slurm itself. Nothing is written to Slurm."""

import shlex
from pathlib import Path
from typing import Final

from refloat_cli.simulate.inventory import HISTORY_COMMAND, JOBS_COMMAND, NODES_COMMAND, TIMES
from refloat_contract.errors import Misconfigured, Refused, Transient
from refloat_slurm import programs

_DEADLINE_S: Final = 60.0


def read(path: Path) -> str:
    """A dump from a file.

    Raises:
        Misconfigured: it cannot be read.
    """
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from error


async def live() -> tuple[str, str, str]:
    """What Slurm shows here now: nodes, jobs, and past jobs (empty where there is no accounting).

    Raises:
        Transient: Slurm does not answer, or is not here.
    """
    nodes, jobs = await _ask(NODES_COMMAND), await _ask(JOBS_COMMAND)
    try:
        history = await _ask(HISTORY_COMMAND)
    except Transient:
        history = ""  # slurmdbd is optional: the jobs that run now, and the plan's numbers, have to do
    return nodes, jobs, history


async def _ask(command: str) -> str:
    argv = shlex.split(command.removeprefix(TIMES))
    try:
        return await programs.ask(argv, _DEADLINE_S)
    except Refused as error:
        raise Transient(f"{error} (dumps of another cluster: --nodes-file)") from error
