# SPDX-License-Identifier: Apache-2.0
"""Dumps of a cluster: from files, or asked of Slurm itself. Nothing is written to Slurm."""

import os
import subprocess
from pathlib import Path
from typing import Final

from refloat_cli.simulate.inventory import HISTORY_COMMAND, JOBS_COMMAND, NODES_COMMAND
from refloat_contract.errors import Misconfigured, Transient

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


def live() -> tuple[str, str, str]:
    """What Slurm shows here now: nodes, jobs, and past jobs (empty where there is no accounting).

    Raises:
        Transient: Slurm does not answer.
    """
    nodes, jobs = _ask(NODES_COMMAND), _ask(JOBS_COMMAND)
    try:
        history = _ask(HISTORY_COMMAND)
    except Transient:
        history = ""  # slurmdbd is optional: the jobs that run now, and the plan's numbers, have to do
    return nodes, jobs, history


def _ask(command: str) -> str:
    words = command.split()
    env = {**os.environ, "SLURM_TIME_FORMAT": "%s"}
    argv = [word.strip("'") for word in words if not word.startswith("SLURM_TIME_FORMAT=")]
    try:
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, errors="replace", timeout=_DEADLINE_S, env=env
        )
    except FileNotFoundError as error:
        raise Transient(f"{argv[0]} is not installed here: make dumps on the cluster and use --nodes-file") from error
    except subprocess.TimeoutExpired as error:
        raise Transient(f"{argv[0]} did not answer within {_DEADLINE_S:g} s") from error
    if done.returncode != 0:
        raise Transient(f"{argv[0]} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
