# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.load import LoadLimits, judge, look
from refloat_contract.words import Status


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({"below_1m": 5, "below_5m": 3, "below_15m": 2}, Status.OK, "load averages are 4.99, 2, 1.5"),
        ({"below_5m": 2}, Status.FAILED, "load average of 5 min is 2 (must be below 2)"),
        (
            {"below_1m": 4, "below_15m": 1},
            Status.FAILED,
            "load average of 1 min is 4.99 (must be below 4); load average of 15 min is 1.5 (must be below 1)",
        ),
    ],
)
def test_averages_are_compared(limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge("4.99 2.00 1.50 1/2 3\n", LoadLimits(**limits), "l")

    assert (finding.status, finding.message) == (status, message)


def test_a_check_without_a_limit_is_refused() -> None:
    with pytest.raises(ValidationError, match="must set a limit"):
        LoadLimits()


async def test_the_given_averages_are_read(facts: Facts) -> None:
    (facts.roots.proc / "loadavg").write_text("9.00 1.00 1.00 1/2 3\n")

    finding = await look(facts, LoadLimits(below_1m=9), "l")

    assert (finding.status, finding.measures["load_1m"]) == (Status.FAILED, 9)
