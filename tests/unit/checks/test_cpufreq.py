# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.cpufreq import Clocking, CpufreqLimits, Policy, judge, look
from refloat_checks.facts import Facts
from refloat_contract.words import Status

FAST = Policy("policy0", "intel_pstate", "performance", 800, 3700)
SLOW = Policy("policy1", "intel_pstate", "powersave", 800, 2000)
BOTH = Clocking((FAST, SLOW), boost=True)
FINE = "processors are clocked as they should be"


@pytest.mark.parametrize(
    ("clocking", "limits", "status", "message"),
    [
        (BOTH, {"driver": "intel*", "max_ceiling_mhz": 3700, "min_floor_mhz": 800, "boost": True}, Status.OK, FINE),
        (
            BOTH,
            {"governor": "performance"},
            Status.FAILED,
            "governor powersave (should be performance): policy1",
        ),
        (BOTH, {"driver": "acpi*"}, Status.FAILED, "driver intel_pstate (should be acpi*): policy0, policy1"),
        (BOTH, {"min_ceiling_mhz": 3000}, Status.FAILED, "at most 2000 MHz (limit 3000 MHz): policy1"),
        (BOTH, {"max_ceiling_mhz": 3000}, Status.FAILED, "up to 3700 MHz (limit 3000 MHz): policy0"),
        (BOTH, {"min_floor_mhz": 1000}, Status.FAILED, "down to 800 MHz (limit 1000 MHz): policy0, policy1"),
        (BOTH, {"boost": False}, Status.FAILED, "boost is on (should be off)"),
        (Clocking((FAST,), None), {"boost": True}, Status.UNKNOWN, "this machine does not tell whether boost is on"),
        (
            Clocking((), None),
            {"governor": "*"},
            Status.UNKNOWN,
            "this machine does not tell how its processors are clocked",
        ),
        (Clocking((), boost=True), {"boost": True}, Status.OK, FINE),
    ],
)
def test_clocking_is_judged(clocking: Clocking, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(clocking, CpufreqLimits(**limits), "c")

    assert (finding.status, finding.message) == (status, message)


def test_a_check_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least one of the keys"):
        CpufreqLimits()


@pytest.mark.parametrize(
    ("name", "text", "status"),
    [
        ("cpufreq/boost", "1", Status.OK),
        ("cpufreq/boost", "0", Status.FAILED),
        ("intel_pstate/no_turbo", "0", Status.OK),
        ("intel_pstate/no_turbo", "1", Status.FAILED),
    ],
)
async def test_the_given_sys_is_read(
    facts: Facts, add_sys: Callable[[dict[str, str]], None], name: str, text: str, status: Status
) -> None:
    cpu = "devices/system/cpu"
    add_sys(
        {
            f"{cpu}/{name}": f"{text}\n",
            f"{cpu}/cpufreq/policy0/scaling_min_freq": "800000\n",
            f"{cpu}/cpufreq/policy0/scaling_max_freq": "3700000\n",
            f"{cpu}/cpufreq/policy0/scaling_driver": "amd-pstate\n",
            f"{cpu}/cpufreq/policy0/scaling_governor": "performance\n",
        }
    )

    finding = await look(facts, CpufreqLimits(driver="amd*", governor="perf*", min_ceiling_mhz=3700, boost=True), "c")

    assert finding.status is status
    assert finding.measures == {"least_ceiling_mhz": 3700, "policies": 1}
