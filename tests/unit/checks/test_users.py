# SPDX-License-Identifier: Apache-2.0
"""Users who have no business here, and processes that no job started."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from refloat_checks import lineage, users
from refloat_checks.facts import Facts
from refloat_checks.lineage import LineageLimits
from refloat_checks.nhc.checks.people import Ignored, Known
from refloat_checks.process_table import ProcessUse
from refloat_checks.users import UsersLimits
from refloat_contract.errors import Transient
from refloat_contract.words import Status

STEPD = ProcessUse(30, 1, 0, "slurmstepd: [7.batch]", 0, 0, 0, 0, 0, 5)
SHELL = ProcessUse(40, 30, 1000, "-bash", 0, 0, 10, 10, 0, 6)
BURNER = ProcessUse(50, 40, 1000, "./burn 'all'", 999, 55, 2048, 4096, 127, 7)
NAMES = {1000: "bob"}


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (Known(NAMES, {"bob"}, Ignored(), 999), "no user has processes here without leave"),
        (Known(NAMES, set(), Ignored(), 1000), "no user has processes here without leave"),
        (
            Known(NAMES, {"bobby"}, Ignored(), 999),
            "processes of users without a job here: -bash (40) of bob, ./burn (50) of bob",
        ),
        (
            Known(NAMES, set(), UsersLimits(ignore_programs=("-bash",)).ignored, 999),
            "processes of users without a job here: ./burn (50) of bob",
        ),
        (
            Known(NAMES, set(), UsersLimits(ignore_uids=(1000,)).ignored, 999),
            "no user has processes here without leave",
        ),
    ],
)
def test_strangers_are_found(known: Known, message: str) -> None:
    finding = users.judge((SHELL, BURNER), known, "u")

    assert finding.message == message
    assert finding.status is (Status.FAILED if "processes of users" in message else Status.OK)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ((STEPD, SHELL, BURNER), "no user has processes here without leave"),
        ((SHELL, BURNER), "processes that no job started: -bash (40) of bob, ./burn (50) of bob"),
    ],
)
def test_processes_that_no_job_started_are_found(table: tuple[ProcessUse, ...], message: str) -> None:
    known = Known(NAMES, {"root"}, Ignored(), 999)

    assert lineage.judge(table, known, LineageLimits().daemon, "u").message == message


def test_a_name_in_slurm_is_for_slurm() -> None:
    with pytest.raises(ValidationError, match="name in Slurm"):
        UsersLimits.model_validate({"resource_manager": "pbs", "node": "n1"})


# Whoever runs the tests owns the fixture's files, and but for root so its processes.
UID = os.geteuid() or 54321
OWNER = pwd.getpwuid(UID).pw_name if os.geteuid() else "54321"


@pytest.fixture
def running(facts: Facts) -> Facts:
    """A node on which a user's program runs."""
    proc = facts.roots.proc
    (proc / "uptime").write_text("100.0 1.0\n")
    (proc / "meminfo").write_text("MemTotal: 1000000 kB\n")
    (proc / "50").mkdir()
    (proc / "50" / "stat").write_text("50 (burn) R 40 1 1 0 -1 0 0 0 0 0 9000 0 0 0 20 0 1 0 0 4096 1 0\n")
    (proc / "50" / "cmdline").write_bytes(b"./burn\0")
    (proc / "50" / "status").write_text(f"Name:\tburn\nUid:\t{UID}\t{UID}\t{UID}\t{UID}\n")
    return facts


@pytest.mark.parametrize(("said", "status"), [(f"{OWNER}\n", Status.OK), ("alice\n", Status.FAILED)])
async def test_slurm_is_asked_who_has_jobs(
    running: Facts, add_program: Callable[..., Path], tmp_path: Path, said: str, status: Status
) -> None:
    calls = add_program("squeue", said)

    finding = await users.look(running, UsersLimits(squeue=f"{tmp_path}/bin/squeue", node="n7", max_system_uid=0), "u")

    assert (finding.status, calls.read_text()) == (status, "-w n7 --noheader -o %u\n")


async def test_where_slurm_does_not_tell_nobody_is_a_stranger(
    running: Facts, add_program: Callable[..., Path], tmp_path: Path
) -> None:
    add_program("squeue", status=1)

    with pytest.raises(Transient, match="does not say who has jobs"):
        await users.look(running, UsersLimits(squeue=f"{tmp_path}/bin/squeue", max_system_uid=0), "u")


async def test_the_given_process_table_is_looked_at(running: Facts) -> None:
    finding = await lineage.look(running, LineageLimits(max_system_uid=0), "u")

    assert finding.message == f"processes that no job started: ./burn (50) of {OWNER}"
