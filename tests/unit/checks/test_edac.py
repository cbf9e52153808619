# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest

from refloat_checks.edac import Controller, EdacLimits, Module, judge, look
from refloat_checks.facts import Facts
from refloat_contract.words import Status

CLEAN = Controller(0, 0, (Module("A1", 0, 0),))
DIRTY = Controller(30, 1, (Module("A1", 5, 0), Module("A2", 25, 1)))


@pytest.mark.parametrize(
    ("controllers", "limits", "status", "message"),
    [
        ([CLEAN, CLEAN], {}, Status.OK, "0 corrected and 0 uncorrected memory errors"),
        ([CLEAN, DIRTY], {}, Status.FAILED, "1 uncorrected memory errors (limit 0): A2 (1)"),
        (
            [DIRTY],
            {"max_uncorrected": 1, "max_corrected": 30},
            Status.OK,
            "30 corrected and 1 uncorrected memory errors",
        ),
        (
            [DIRTY],
            {"max_uncorrected": None, "max_corrected": 29},
            Status.FAILED,
            "30 corrected memory errors (limit 29): A1 (5), A2 (25)",
        ),
        (
            [DIRTY],
            {"max_uncorrected": 1, "max_corrected_per_module": 20},
            Status.FAILED,
            "A2 has 25 corrected errors (limit 20)",
        ),
        ([], {}, Status.UNKNOWN, "0 memory controllers count errors (should be 1)"),
        ([CLEAN], {"min_controllers": 2}, Status.UNKNOWN, "1 memory controllers count errors (should be 2)"),
    ],
)
def test_memory_errors_are_judged(
    controllers: list[Controller], limits: dict[str, Any], status: Status, message: str
) -> None:
    finding = judge(controllers, EdacLimits(**limits), "e")

    assert (finding.status, finding.message) == (status, message)


async def test_the_given_sys_is_read(facts: Facts, add_sys: Callable[[dict[str, str]], None]) -> None:
    place = "devices/system/edac/mc/mc0"
    add_sys(
        {
            f"{place}/ce_count": "12\n",
            f"{place}/ue_count": "3\n",
            f"{place}/dimm0/dimm_label": "CPU0_A1\n",
            f"{place}/dimm0/dimm_ce_count": "12\n",
            f"{place}/dimm0/dimm_ue_count": "0\n",
            f"{place}/rank1/dimm_ue_count": "3\n",
        }
    )

    finding = await look(facts, EdacLimits(), "e")

    assert finding.message == "3 uncorrected memory errors (limit 0): mc0/rank1 (3)"
    assert finding.measures == {"corrected": 12, "uncorrected": 3}
