# SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.nvme import NvmeLimits, Smart, judge, look, parse
from refloat_contract.errors import Refused, Transient
from refloat_contract.words import Status

SAID: dict[str, Any] = {
    "critical_warning": 0,
    "temperature": 313,
    "avail_spare": 90,
    "percent_used": 40,
    "media_errors": 2,
}
GOOD = Smart("nvme0", 0, 40, 90, 2, 40)
FINE = "1 NVMe devices are healthy"


@pytest.mark.parametrize(
    ("logs", "limits", "status", "message"),
    [
        ([GOOD], {}, Status.OK, FINE),
        (
            [GOOD],
            {"max_percent_used": 40, "min_spare_percent": 90, "max_media_errors": 2, "max_temperature_c": 40},
            Status.OK,
            FINE,
        ),
        ([GOOD], {"min_count": 2}, Status.FAILED, "1 NVMe devices * (should be 2)"),
        ([GOOD], {"max_percent_used": 39}, Status.FAILED, "nvme0 has used percentage 40 (limit 39)"),
        ([GOOD], {"min_spare_percent": 91}, Status.FAILED, "nvme0 has spare percentage 90 (limit 91)"),
        ([GOOD], {"max_media_errors": 1}, Status.FAILED, "nvme0 has media errors 2 (limit 1)"),
        ([GOOD], {"max_temperature_c": 39}, Status.FAILED, "nvme0 has temperature 40 (limit 39)"),
        (
            [Smart("nvme1", 0b1100, 1, 1, 1, 1)],
            {},
            Status.FAILED,
            "nvme1 warns: degraded; nvme1 warns: read-only",
        ),
        ([Smart("nvme1", 0, None, 1, 1, 1)], {}, Status.UNKNOWN, "nvme1 does not tell its used percentage"),
    ],
)
def test_devices_are_judged(logs: list[Smart], limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(logs, NvmeLimits(**limits), "n")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    "change", [{}, {"critical_warning": {"value": 0, "available_spare": 0}}, {"media_errors": "2"}]
)
def test_the_forms_of_all_releases_are_understood(change: dict[str, Any]) -> None:
    assert parse("nvme0", json.dumps({**SAID, **change})) == GOOD


@pytest.mark.parametrize("text", ["{}", "[]", "", '{"error": "no such device"}'])
def test_what_tells_no_warning_is_no_healthy_device(text: str) -> None:
    with pytest.raises(ValueError, match=r"told no critical warning|Expecting value"):
        parse("nvme0", text)


async def test_the_devices_that_are_meant_are_asked_once(
    facts: Facts, add_sys: Callable[[dict[str, str]], None], add_program: Callable[..., Path]
) -> None:
    add_sys({f"class/nvme/nvme{number}/state": "live\n" for number in (0, 1, 10)})
    calls = add_program("nvme", json.dumps(SAID))

    finding = await look(facts, NvmeLimits(device="nvme1*", min_count=2), "n")
    await look(facts, NvmeLimits(device="nvme10"), "n")

    assert finding.status is Status.OK
    assert finding.measures == {
        "devices": 2,
        "most_percent_used": 40,
        "most_media_errors": 2,
        "most_temperature_c": 40,
    }
    assert sorted(lines_of(calls)) == ["smart-log /dev/nvme1 -o json", "smart-log /dev/nvme10 -o json"]


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


async def test_a_missing_device_has_failed(facts: Facts) -> None:
    missing = await look(facts, NvmeLimits(device="nvme7"), "n")

    assert (missing.status, missing.message) == (Status.FAILED, "there is no NVMe device nvme7")


async def test_without_the_tool_there_is_no_finding(
    facts: Facts,
    add_sys: Callable[[dict[str, str]], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    add_sys({"class/nvme/nvme0/state": "live\n"})
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Refused, match="cannot run nvme"):
        await look(facts, NvmeLimits(), "n")


async def test_a_device_that_does_not_answer_the_tool_is_no_finding(
    facts: Facts, add_sys: Callable[[dict[str, str]], None], add_program: Callable[..., Path]
) -> None:
    add_sys({"class/nvme/nvme0/state": "live\n"})
    add_program("nvme", "Input/output error", 1)

    with pytest.raises(Transient, match="Input/output error"):
        await look(facts, NvmeLimits(), "n")
