# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.gpfs import GpfsLimits, judge, look, parse
from refloat_contract.errors import Transient
from refloat_contract.words import Status

NAMES = "mmgetstate::HEADER:version:reserved:reserved:nodeName:nodeNumber:state:quorum:nodesUp:totalNodes:remarks:\n"


def said(state: str) -> str:
    return f"\n{NAMES}mmgetstate::0:1:::n1:11:{state}:4:7:1122::\n"


@pytest.mark.parametrize(
    ("state", "limits", "status", "message"),
    [
        ("active", {}, Status.OK, "GPFS is active on n1"),
        ("down", {}, Status.FAILED, "GPFS is down on n1"),
        ("arbitrating", {}, Status.FAILED, "GPFS is arbitrating on n1"),
        ("arbitrating", {"states": ["active", "arbitrating"]}, Status.OK, "GPFS is arbitrating on n1"),
        ("unknown", {}, Status.UNKNOWN, "GPFS does not know its state on n1"),
    ],
)
def test_a_state_is_judged(state: str, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(parse(said(state)), GpfsLimits(**limits), "g")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize("text", ["", NAMES, "mmgetstate: command failed\n"])
def test_what_tells_no_state_is_no_active_node(text: str) -> None:
    with pytest.raises(ValueError, match="mmgetstate said"):
        parse(text)


async def test_mmgetstate_is_asked(facts: Facts, add_program: Callable[..., Path]) -> None:
    calls = add_program("mmgetstate", said("down"))

    finding = await look(facts, GpfsLimits(program=str(calls.parent / "bin" / "mmgetstate")), "g")

    assert finding.status is Status.FAILED


async def test_an_mmgetstate_that_fails_is_no_finding(facts: Facts, add_program: Callable[..., Path]) -> None:
    calls = add_program("mmgetstate", "not in a cluster", 1)

    with pytest.raises(Transient, match="not in a cluster"):
        await look(facts, GpfsLimits(program=str(calls.parent / "bin" / "mmgetstate")), "g")
