# SPDX-License-Identifier: Apache-2.0
"""Who has jobs on this node, as its resource manager says."""

from __future__ import annotations

import os
import re
from pathlib import Path

from refloat_checks.nhc.checks.launching import launch
from refloat_checks.nhc.native import NhcRun
from refloat_checks.proc import read_text
from refloat_contract.errors import Transient

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

AUTHORISED: Final = "root nobody"
KNOWN: Final = frozenset({"slurm", "pbs"})
_PBS_OWNER: Final = re.compile(r"^\s*PBS_O_LOGNAME=(.*?)\s*$|<euser[^>]*>(.*)</euser>\s*$", re.MULTILINE)


async def authorised(run: NhcRun) -> frozenset[str]:
    """Name the users who may have processes here: the configured ones, and those with jobs.

    Raises Transient if Slurm does not say: then nobody is known to be a stranger.
    """
    always = run.variable("NHC_AUTH_USERS", AUTHORISED).split()
    return frozenset(merged(always, await _with_jobs(run), strict=run.strict))


def merged(always: Iterable[str], with_jobs: Iterable[str], *, strict: bool = False) -> list[str]:
    """Put both together. In strict mode a user is lost whose name is a part of what is there already."""
    users = list(always)
    for user in with_jobs:
        if not strict or user not in " ".join(users):
            users.append(user)
    return users


async def _with_jobs(run: NhcRun) -> list[str]:
    if run.variable("NHC_RM") == "slurm":
        return await run.facts.remember(("job owners",), lambda: _of_slurm(run))
    if run.variable("NHC_RM") == "pbs":
        home = run.variable("PBS_SERVER_HOME", "/var/spool/torque")
        place = Path(run.variable("JOBFILE_PATH", f"{home}/mom_priv/jobs"))
        return await run.facts.read("job files", lambda: _of_pbs(place))
    return []


async def _of_slurm(run: NhcRun) -> list[str]:
    node = run.variable("SQUEUE_NODE", f"-w {run.variable('HOSTNAME_S', os.uname().nodename.partition('.')[0])}")
    squeue = run.variable("SQUEUE_CMD", "/usr/bin/squeue")
    arguments = run.variable("SQUEUE_FMT_ARGS", "--noheader -o %u")
    done = await launch((*squeue.split(), *node.split(), *arguments.split()), run)
    if done.rc != 0 and not run.strict:
        raise Transient(f"Slurm does not say who has jobs here: {done.error.strip() or done.rc}")
    return [user for line in done.lines if (user := line.strip())]


def _of_pbs(place: Path) -> list[str]:
    users = []
    for file in sorted(place.glob("*.JB")):
        found = _PBS_OWNER.search(read_text(file))
        if found is not None:
            users.append(found[1] or found[2])
    return users
