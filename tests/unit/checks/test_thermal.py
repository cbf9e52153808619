# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.thermal import Heat, ThermalLimits, judge, look
from refloat_contract.words import Status

HOT = Heat(4, 9, 12.5, (("x86_pkg_temp", 80.0), ("acpitz", 20.0)))
NONE = Heat(None, None, None, ())


@pytest.mark.parametrize(
    ("heat", "limits", "status", "message"),
    [
        (HOT, {"max_core_throttles": 4, "max_package_throttles": 9}, Status.OK, "the machine is cool enough"),
        (HOT, {"max_core_throttles": 3}, Status.FAILED, "4 core throttles (limit 3)"),
        (HOT, {"max_package_throttles": 8}, Status.FAILED, "9 package throttles (limit 8)"),
        (HOT, {"max_package_throttled_s": 12}, Status.FAILED, "12.5 seconds of package throttling (limit 12)"),
        (HOT, {"max_temperature_c": 75}, Status.FAILED, "x86_pkg_temp has 80 °C (limit 75 °C)"),
        (HOT, {"max_temperature_c": 75, "zone": "acpi*"}, Status.OK, "the machine is cool enough"),
        (HOT, {"max_temperature_c": 75, "zone": "gpu"}, Status.UNKNOWN, "there is no thermal zone gpu"),
        (NONE, {"max_core_throttles": 0}, Status.UNKNOWN, "this machine does not count core throttles"),
    ],
)
def test_heat_is_judged(heat: Heat, limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(heat, ThermalLimits(**limits), "t")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize("limits", [{}, {"zone": "x"}])
def test_a_check_that_asks_for_nothing_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="at least one of the keys"):
        ThermalLimits(**limits)


async def test_the_given_sys_is_read(facts: Facts, add_sys: Callable[[dict[str, str]], None]) -> None:
    for cpu, count in ((0, 2), (1, 2), (10, 5)):
        add_sys(
            {
                f"devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count": f"{count}\n",
                f"devices/system/cpu/cpu{cpu}/thermal_throttle/package_throttle_count": "8\n",
                f"devices/system/cpu/cpu{cpu}/thermal_throttle/package_throttle_total_time_ms": "1500\n",
            }
        )
    add_sys({"class/thermal/thermal_zone0/type": "acpitz\n", "class/thermal/thermal_zone0/temp": "27800\n"})

    finding = await look(facts, ThermalLimits(max_core_throttles=5), "t")

    assert finding.status is Status.OK
    assert finding.measures == {
        "core_throttles": 5,
        "package_throttles": 8,
        "package_throttled_s": 1.5,
        "temperature_c": 27.8,
    }
