# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.resolve import ResolveLimits, judge, look
from refloat_contract.words import Status
from refloat_service.completed import Completed


def done(status: int, stdout: str = "", stderr: str = "") -> Completed:
    return Completed(("getent",), status, stdout, stderr, 0.25)


@pytest.mark.parametrize(
    ("completed", "limits", "status", "message"),
    [
        (done(0, "10.0.0.1  fs fs.example\n"), {}, Status.OK, "hosts fs is found in 0.25 s"),
        (done(0, "10.0.0.1  fs fs.example\n"), {"expect": "10.0.0.1 *"}, Status.OK, "hosts fs is found in 0.25 s"),
        (
            done(0, "10.0.0.1  fs fs.example\n"),
            {"expect": "10.1.*"},
            Status.FAILED,
            "hosts fs is 10.0.0.1 fs fs.example (should be 10.1.*)",
        ),
        (done(0), {"expect": "*"}, Status.FAILED, "hosts fs is empty (should be *)"),
        (done(2), {}, Status.FAILED, "hosts fs is not found"),
        (done(2), {"found": False}, Status.OK, "hosts fs is not found"),
        (done(0, "x"), {"found": False}, Status.FAILED, "hosts fs is found, and should not be"),
        (done(3, "", "no\n"), {}, Status.UNKNOWN, "getent hosts fs ended with 3: no"),
        (done(-9), {}, Status.UNKNOWN, "getent hosts fs ended with -9: was killed by signal 9"),
    ],
)
def test_an_answer_is_judged(completed: Completed, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(completed, ResolveLimits.model_validate({"database": "hosts", "key": "fs", **limits}), "r")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    "limits", [{"key": "-s"}, {"key": "a b"}, {"key": ""}, {"key": "a", "found": False, "expect": "x"}]
)
def test_what_makes_no_sense_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ResolveLimits.model_validate({"database": "hosts", **limits})


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"database": "passwd", "key": "root", "expect": "root:*:0:0:*"}, Status.OK),
        ({"database": "passwd", "key": "no-such-user-here"}, Status.FAILED),
    ],
)
async def test_a_real_name_is_looked_up(facts: Facts, limits: dict[str, Any], status: Status) -> None:
    assert (await look(facts, ResolveLimits.model_validate(limits), "r")).status is status


async def test_a_directory_service_that_does_not_answer_has_failed(
    facts: Facts, add_program: Callable[..., Path]
) -> None:
    add_program("getent", then="sleep 60")

    limits = ResolveLimits.model_validate({"database": "passwd", "key": "root", "answer_within_s": 0.2})

    finding = await look(facts, limits, "r")

    assert (finding.status, finding.message) == (Status.FAILED, "passwd root: no answer within 0.2 s")
