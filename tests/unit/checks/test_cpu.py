# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.cpu import CpuLimits, judge, look
from refloat_checks.facts import Facts
from refloat_checks.hardware import Processors
from refloat_contract.words import Status

SEEN = Processors(2, 128, 256)


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({"sockets": 2, "cores": 128, "threads": 256}, Status.OK, "2 sockets, 128 cores, 256 threads"),
        ({"threads": 256}, Status.OK, "2 sockets, 128 cores, 256 threads"),
        ({"threads": 128}, Status.FAILED, "256 threads (should be 128)"),
        ({"sockets": 1, "cores": 64}, Status.FAILED, "2 sockets (should be 1); 128 cores (should be 64)"),
    ],
)
def test_processors_are_counted(limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(SEEN, CpuLimits(**limits), "c")

    assert (finding.status, finding.message) == (status, message)


def test_a_check_that_counts_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="must say what is counted"):
        CpuLimits()


async def test_the_given_table_is_read(facts: Facts) -> None:
    (facts.roots.proc / "cpuinfo").write_text("processor\t: 0\nphysical id\t: 0\nsiblings\t: 1\ncpu cores\t: 1\n")

    finding = await look(facts, CpuLimits(sockets=1, cores=1, threads=2), "c")

    assert (finding.status, finding.message) == (Status.FAILED, "1 threads (should be 2)")
