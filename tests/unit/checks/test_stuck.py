# SPDX-License-Identifier: Apache-2.0
import asyncio
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.stuck import Sleeper, StuckLimits, judge, look, read, still
from refloat_contract.words import Status


def sleeper(pid: int, name: str, state: str = "D", ran: int = 5) -> Sleeper:
    return Sleeper(pid, name, state, 100, ran)


SEEN = (sleeper(1, "cp"), sleeper(2, "cp"), sleeper(3, "rsync"), sleeper(4, "sh", "Z"))
AGES = {1: 100.0, 2: 100.0, 3: 10.0, 4: 100.0}


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({}, Status.FAILED, "2 processes are blocked (limit 0): cp (2)"),
        ({"max_blocked": 2, "max_zombies": 1}, Status.OK, "2 processes are blocked, 1 are zombies"),
        ({"min_age_s": 0}, Status.FAILED, "3 processes are blocked (limit 0): cp (2), rsync"),
        ({"ignore": "c?"}, Status.OK, "0 processes are blocked, 1 are zombies"),
        ({"max_blocked": None, "max_zombies": 0}, Status.FAILED, "1 zombies (limit 0): sh"),
    ],
)
def test_stuck_processes_are_judged(limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(SEEN, AGES, StuckLimits(**limits), "s")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    "after",
    [sleeper(1, "cp", ran=6), sleeper(1, "cp", "Z"), Sleeper(1, "cp", "D", 200, 5)],
    ids=["it ran", "it changed", "another one has its number"],
)
def test_what_moved_between_the_looks_is_not_stuck(after: Sleeper) -> None:
    assert still([sleeper(1, "cp")], [after]) == ()
    assert still([sleeper(1, "cp")], [sleeper(1, "cp")]) == (sleeper(1, "cp"),)


def add(proc: Path, pid: int, comm: str, state: str) -> None:
    (proc / str(pid)).mkdir()
    fields = ["1", "1", "1", "0", "-1", "0", "0", "0", "0", "0", "3", "4", "0", "0", "20", "0", "1", "0", "500"]
    (proc / str(pid) / "stat").write_text(f"{pid} ({comm}) {state} {' '.join(fields)} 0 0\n")


async def test_the_process_table_is_looked_at(facts: Facts) -> None:
    add(facts.roots.proc, 10, "nfs (io)", "D")
    add(facts.roots.proc, 11, "bash", "S")
    (facts.roots.proc / "uptime").write_text("100000.00 1.00\n")

    finding = await look(facts, StuckLimits(watch_s=0), "s")

    assert (finding.status, finding.message) == (Status.FAILED, "1 processes are blocked (limit 0): nfs (io)")
    assert await asyncio.to_thread(read, facts.roots) == (Sleeper(10, "nfs (io)", "D", 500, 7),)
