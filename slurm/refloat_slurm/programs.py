# SPDX-License-Identifier: Apache-2.0
"""Programs: run Slurm's commands so that what they print does not depend on who runs them."""

import os
from collections.abc import Mapping, Sequence
from typing import Final

from refloat_service.commands import run
from refloat_slurm.answers import (
    ALL_JOBS_FORMAT,
    ON_NODES,
    SQUEUE_FORMAT,
    read_admin_level,
    read_all_jobs,
    read_partitions,
    read_squeue,
)
from refloat_slurm.complaints import sort_complaint
from refloat_slurm.gateway import AdminLevel, Job, JobEnd
from refloat_slurm.names import plain, plain_job, plain_user

_CAP_BYTES: Final = 256 << 20
"""No honest answer is longer: the table of 10,000 nodes takes 7 MB, 200,000 jobs take 12."""

# Users' defaults in the environment would change filters, formats and even the cluster that is asked.
_FOREIGN = ("SINFO_", "SQUEUE_", "SCONTROL_", "SACCTMGR_", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT", "LC_", "LANG")


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """``own`` without what changes the output of Slurm's programs; times are seconds since 1970."""
    kept = {key: value for key, value in own.items() if not key.startswith(_FOREIGN)}
    return kept | {"LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}


async def ask(argv: Sequence[str], deadline_s: float) -> str:
    """Run one of Slurm's programs and return what it printed.

    Raises:
        Transient: no answer in time, an endless one, or a complaint that is not known.
        Refused: Slurm said no, or the program does not exist.
        UnknownNode: there is no such node.
    """
    done = await run(argv, deadline_s=deadline_s, env=environment(os.environ), cap_bytes=_CAP_BYTES)
    if done.returncode != 0:
        raise sort_complaint(f"{done.stdout}\n{done.stderr}")
    return done.stdout


async def jobs_on(name: str, squeue: str, deadline_s: float) -> tuple[Job, ...]:
    """All jobs that hold the node. `squeue` loads the job and node tables: not for polling.

    All states are asked for and the finished ones left out here: a state that a newer Slurm adds holds the node, and
    one that an older does not know is no error.
    """
    text = await ask([squeue, "-h", "-a", "-r", "-w", plain(name), "-t", "all", "-o", SQUEUE_FORMAT], deadline_s)
    return read_squeue(text)


async def all_jobs(squeue: str, deadline_s: float) -> tuple[Job, ...]:
    """All jobs that hold nodes, in one call; pending ones, of which there may be very many, are not asked for."""
    return read_all_jobs(await ask([squeue, "-h", "-a", "-t", ON_NODES, "-o", ALL_JOBS_FORMAT], deadline_s))


async def end_job(job: str, how: JobEnd, *, scontrol: str, scancel: str, deadline_s: float) -> None:
    """Requeue a job, or cancel it."""
    argv = [scontrol, "requeue", plain_job(job)] if how is JobEnd.REQUEUE else [scancel, plain_job(job)]
    await ask(argv, deadline_s)


async def admin_level(user: str, sacctmgr: str, deadline_s: float) -> AdminLevel:
    """What accounting says of one user; it is asked read-only."""
    argv = [sacctmgr, "-r", "-n", "-P", "show", "user", f"name={plain_user(user)}", "format=user,adminlevel"]
    return read_admin_level(await ask(argv, deadline_s), user)


async def partitions(scontrol: str, deadline_s: float) -> dict[str, str]:
    """All partitions, hidden ones included."""
    return read_partitions(await ask([scontrol, "-a", "-o", "show", "partitions"], deadline_s))
