# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.clock import ClockLimits, judge, look, parse
from refloat_checks.facts import Facts
from refloat_contract.errors import Transient
from refloat_contract.words import Status

GOOD = (
    "0A000001,10.0.0.1,3,1763712000.123456789,-0.002000000,0.000001,0.000002,-12.3,0.001,0.05,0.020,0.004,64.2,Normal\n"
)
LOST = "00000000,,0,0.000000000,0.000000000,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised\n"


@pytest.mark.parametrize(
    ("text", "limits", "status", "message"),
    [
        (GOOD, {}, Status.OK, "the clock follows 10.0.0.1, off by 0.002 s"),
        (GOOD, {"max_offset_s": 0.002}, Status.OK, "the clock follows 10.0.0.1, off by 0.002 s"),
        (GOOD, {"max_offset_s": 0.001}, Status.FAILED, "the clock is off by 0.002 s (limit 0.001 s)"),
        (GOOD, {"max_error_s": 0.0161}, Status.OK, "the clock follows 10.0.0.1, off by 0.002 s"),
        (GOOD, {"max_error_s": 0.015}, Status.FAILED, "the clock may be off by 0.016 s (limit 0.015 s)"),
        (GOOD, {"max_stratum": 2}, Status.FAILED, "the clock has stratum 3 (limit 2)"),
        (LOST, {"max_offset_s": 1}, Status.FAILED, "the clock is not synchronised"),
        (LOST, {"synchronised": False}, Status.OK, "the clock is not synchronised, and need not be"),
    ],
)
def test_a_clock_is_judged(text: str, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(parse(text), ClockLimits(**limits), "c")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize("text", ["", "506 Cannot talk to daemon\n", GOOD.replace(",3,", ",x,")])
def test_what_chrony_does_not_say_is_no_good_clock(text: str) -> None:
    with pytest.raises(ValueError, match=r"chronyc said|invalid literal"):
        parse(text)


async def test_chrony_is_asked(facts: Facts, add_program: Callable[..., Path]) -> None:
    add_program("chronyc", GOOD)

    finding = await look(facts, ClockLimits(), "c")

    assert (finding.status, finding.measures["offset_s"]) == (Status.OK, -0.002)


async def test_a_chrony_that_does_not_run_is_no_finding(facts: Facts, add_program: Callable[..., Path]) -> None:
    add_program("chronyc", "506 Cannot talk to daemon", 1)

    with pytest.raises(Transient, match="Cannot talk to daemon"):
        await look(facts, ClockLimits(), "c")
