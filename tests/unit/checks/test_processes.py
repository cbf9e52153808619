# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.proc import Process
from refloat_checks.processes import ProcessLimits, judge, look
from refloat_contract.words import Status

TABLE = (
    Process(1, 0, 0, "S", "systemd", ("/sbin/init",)),
    Process(10, 1, 0, "S", "sshd", ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",)),
    Process(11, 1, 0, "S", "slurmd", ("/usr/sbin/slurmd", "-D")),
    Process(12, 1, 998, "S", "munged", ("/usr/sbin/munged",)),
    Process(13, 1, 0, "Z", "crond", ()),
    Process(14, 1, 0, "S", "a-very-long-nam", ("/usr/bin/python3", "/opt/a-very-long-name-indeed")),
    Process(15, 1, 0, "S", "worker-1", ("/usr/sbin/automount", "--verbose")),
    Process(16, 1, 1001, "R", "bash", ("bash", "-c", "slurmd")),
    Process(17, 2, 0, "I", "kworker/0:1", ()),
)


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"process": "slurmd"}, 1),
        ({"process": "sshd"}, 1),
        ({"process": "automount"}, 1),
        ({"process": "a-very-long-name-indeed"}, 1),
        ({"process": "a-very-long-nam"}, 1),
        ({"process": "a-very-long-name-else"}, 0),
        ({"process": "crond"}, 0),  # a zombie
        ({"process": "slurm"}, 0),
        ({"process": "kworker/0:1"}, 1),
        ({"argv0": "*/slurmd"}, 1),
        ({"argv0": "*slurmd*"}, 1),
        ({"pattern": "*slurmd*"}, 2),
        ({"pattern": "*slurmd*", "user": "root"}, 1),
        ({"process": "init"}, 1),
        ({"contains": "slurmd"}, 2),
        ({"contains": "bash*-c"}, 1),
        ({"contains": "-D", "argv0": "*/slurmd"}, 1),
    ],
)
def test_processes_are_found_by_name_and_title(limits: dict[str, Any], count: int) -> None:
    uid = 0 if "user" in limits else None

    finding = judge(TABLE, ProcessLimits(**limits), uid, "p")

    assert finding.measures["processes"] == count
    assert finding.status is (Status.OK if count else Status.FAILED)


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({"process": "munged"}, Status.OK, "munged is running"),
        ({"process": "nscd"}, Status.FAILED, "nscd is not running"),
        ({"process": "munged", "user": "root"}, Status.FAILED, "munged (of root) is not running"),
        ({"process": "munged", "min_count": 2}, Status.FAILED, "munged is not running (1 of at least 2)"),
        ({"process": "munged", "min_count": 0, "max_count": 0}, Status.FAILED, "munged runs 1 times (at most 0)"),
        ({"process": "gamed", "min_count": 0, "max_count": 0}, Status.OK, "gamed is not running, as it should be"),
    ],
)
def test_processes_are_counted(limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(TABLE, ProcessLimits(**limits), 0 if "user" in limits else None, "p")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize("limits", [{}, {"user": "root"}, {"process": "x", "max_count": 0}, {"contains": "[[.ab.]]"}])
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProcessLimits(**limits)


def test_a_session_of_sshd_is_not_the_daemon() -> None:
    session = Process(20, 10, 0, "S", "sshd", ("sshd: alice [priv]",))

    finding = judge([session], ProcessLimits(process="sshd"), None, "p")

    assert finding.status is Status.FAILED


async def test_the_given_process_table_is_looked_at(facts: Facts, add_process: Callable[..., None]) -> None:
    add_process(11, "slurmd", b"/usr/sbin/slurmd\0")

    assert (await look(facts, ProcessLimits(process="slurmd"), "p")).status is Status.OK


async def test_a_user_that_nobody_knows_makes_it_unknown(facts: Facts) -> None:
    finding = await look(facts, ProcessLimits(process="x", user="no-such-user-here"), "p")

    assert finding.status is Status.UNKNOWN
    assert "no user no-such-user-here" in finding.message


async def test_a_user_is_looked_up_by_name(facts: Facts, add_process: Callable[..., None]) -> None:
    add_process(11, "slurmd", b"/usr/sbin/slurmd\0", uid=0)
    (facts.roots.proc / "11" / "status").write_text("Name:\tx\nUid:\t0\t0\t0\t0\n")

    finding = await look(facts, ProcessLimits(process="slurmd", user="nobody"), "p")

    assert finding.status is Status.FAILED
