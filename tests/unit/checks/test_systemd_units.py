# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.systemd_units import SystemdLimits, judge, look, parse
from refloat_contract.errors import Transient
from refloat_contract.words import Status

SHOW = """\
NRestarts=3
Id=slurmd.service
Names=slurmd.service
ActiveState=active
SubState=running
UnitFileState=enabled

NRestarts=0
Id=ssh.service
Names=ssh.service sshd.service
ActiveState=failed
SubState=failed
UnitFileState=disabled

Id=-.mount
Names=-.mount
ActiveState=active
SubState=mounted
UnitFileState=
"""


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({"unit": "slurmd.service"}, Status.OK, "slurmd.service is active"),
        ({"unit": "slurmd"}, Status.FAILED, "no loaded unit is called slurmd"),
        ({"unit": "sshd.service"}, Status.FAILED, "ssh.service is failed (failed)"),
        ({"unit": "sshd.service", "active": ["failed"]}, Status.OK, "ssh.service is failed"),
        ({"unit": "*"}, Status.FAILED, "ssh.service is failed (failed)"),
        ({"unit": "!sshd.service"}, Status.OK, "all 2 units are as they should"),
        ({"unit": "*.mount"}, Status.OK, "-.mount is active"),
        ({"unit": "slurmd.service", "at_boot": True}, Status.OK, "slurmd.service is active"),
        ({"unit": "slurmd.service", "at_boot": False}, Status.FAILED, "slurmd.service is enabled (should not be)"),
        ({"unit": "*.mount", "at_boot": True}, Status.FAILED, "-.mount is without a unit file (should be enabled)"),
        ({"unit": "slurmd.service", "max_restarts": 3}, Status.OK, "slurmd.service is active"),
        (
            {"unit": "slurmd.service", "max_restarts": 2},
            Status.FAILED,
            "slurmd.service was restarted 3 times (limit 2)",
        ),
    ],
)
def test_units_are_judged(limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(parse(SHOW), SystemdLimits(**limits), "u")

    assert (finding.status, finding.message) == (status, message)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_what_is_not_said_of_a_unit_is_no_silent_good_state() -> None:
    with pytest.raises(ValueError, match="without name or state"):
        parse("Id=a.service\nNames=a.service\n")


async def test_systemd_is_asked_for_all_units_once_per_pass(facts: Facts, add_program: Callable[..., Path]) -> None:
    calls = add_program("systemctl", SHOW)

    findings = await asyncio.gather(*(look(facts, SystemdLimits(unit=unit), "u") for unit in ("slurm*", "ssh?service")))

    assert [finding.status for finding in findings] == [Status.OK, Status.FAILED]
    assert len(lines_of(calls)) == 1


async def test_a_unit_that_is_named_is_asked_for_alone(facts: Facts, add_program: Callable[..., Path]) -> None:
    calls = add_program("systemctl", SHOW)

    await look(facts, SystemdLimits(unit="slurmd.service"), "u")
    await look(facts, SystemdLimits(unit="-.mount"), "u")

    assert [line.split(" -- ")[1] for line in lines_of(calls)] == ["slurmd.service", "-.mount"]


def test_a_unit_that_systemd_does_not_find_is_not_there() -> None:
    absent = "Id=no.service\nNames=no.service\nLoadState=not-found\nActiveState=inactive\n"

    assert judge(parse(absent), SystemdLimits(unit="no.service"), "u").message == "no loaded unit is called no.service"


async def test_a_systemd_that_does_not_answer_is_no_finding(facts: Facts, add_program: Callable[..., Path]) -> None:
    add_program("systemctl", "Failed to connect to bus", 1)

    with pytest.raises(Transient, match="Failed to connect to bus"):
        await look(facts, SystemdLimits(unit="*"), "u")
