# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.resources import Which
from refloat_checks.process_table import ProcessUse
from refloat_checks.usage import UsageLimits, judge, look
from refloat_contract.words import Status

BURNER = ProcessUse(50, 40, 1000, "./burn --all", 999, 55, 2048, 4096, 127, 7)
SHELL = ProcessUse(40, 2, 1000, "-bash", 5, 0, 10, 10, 0, 6)
DAEMON = ProcessUse(60, 1, 0, "/usr/sbin/slurmd", 999, 55, 4096, 8192, 500, 8)
USERS = {0: "root", 1000: "bob"}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"cpu_percent_below": 100}, ""),
        ({"cpu_percent_below": 99.9}, "uses 99.9% CPU (must be below 99.9%)"),
        ({"cpu_s_below": 127}, "has had 127 s of processor time (must be below 127 s)"),
        ({"ram_below": "2M"}, "uses 2 MB RAM (must be below 2M)"),
        ({"ram_below": "5.5%"}, "uses 2 MB RAM (must be below 5.5%)"),
        ({"ram_below": "6%"}, ""),
        ({"virtual_below": "4M"}, "uses 4 MB of virtual memory (must be below 4M)"),
        ({"virtual_below": "4097k"}, ""),
    ],
)
def test_what_a_process_uses_is_compared(limits: dict[str, Any], said: str) -> None:
    finding = judge((SHELL, BURNER, DAEMON), USERS, UsageLimits(**limits), Which(), "u")

    assert finding.status is (Status.FAILED if said else Status.OK)
    assert finding.message == (f"./burn (50) of bob {said}" if said else "none of 2 processes uses too much")


@pytest.mark.parametrize(
    ("which", "failed"),
    [
        (Which(every_user=True), 2),
        (Which(every_user=True, max_sys_uid=1000), 2),
        (Which(max_sys_uid=1000), 0),
        (Which(pattern="*/slurmd", every_user=True), 1),
        (Which(pattern="*--all", whole_line=True), 1),
        (Which(pattern="*--all"), 0),
        (Which(owner="r*", every_user=True), 1),
    ],
)
def test_only_those_that_are_meant_count(which: Which, failed: int) -> None:
    finding = judge((SHELL, BURNER, DAEMON), USERS, UsageLimits(cpu_percent_below=99), which, "u")

    assert finding.message.count("% CPU") == failed


@pytest.mark.parametrize("limits", [{}, {"virtual_below": "5%"}, {"cpu_s_below": 1, "program": "a", "pattern": "b"}])
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        UsageLimits(**limits)


async def test_the_given_process_table_is_looked_at(facts: Facts) -> None:
    proc = facts.roots.proc
    (proc / "uptime").write_text("100.0 1.0\n")
    (proc / "meminfo").write_text("MemTotal: 1000000 kB\n")
    (proc / "50").mkdir()
    (proc / "50" / "stat").write_text("50 (burn) R 40 1 1 0 -1 0 0 0 0 0 9000 0 0 0 20 0 1 0 0 4096 1 0\n")
    (proc / "50" / "cmdline").write_bytes(b"./burn\0")
    (proc / "50" / "status").write_text("Name:\tburn\nUid:\t0\t0\t0\t0\n")

    finding = await look(facts, UsageLimits(cpu_percent_below=50, system_users=True, user="0"), "u")

    assert (finding.status, finding.message) == (
        Status.FAILED,
        "./burn (50) of root uses 90% CPU (must be below 50%)",
    )
