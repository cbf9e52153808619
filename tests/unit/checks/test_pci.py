# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.pci import Device, PciLimits, judge, look
from refloat_contract.words import Status

NIC = Device("0000:3b:00.0", "15b3:1021", "020700", 8, 16, 16.0)
GPU = Device("0000:4e:00.0", "10de:2330", "030200", 16, 16, 32.0)
MUTE = Device("0000:00:1f.0", "8086:a1c1", "060100", None, None, None)


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({"id": "10de:*"}, Status.OK, "1 PCI devices 10de:* are there"),
        ({"pci_class": "0302*", "min_width": 16, "min_speed_gts": 32, "full_width": True}, Status.OK, None),
        ({"id": "10de:*", "min_count": 2}, Status.FAILED, "1 PCI devices 10de:* (should be 2)"),
        ({"address": "0000:*", "max_count": 2}, Status.FAILED, "3 PCI devices 0000:* (at most 2)"),
        ({"id": "15b3:*", "address": "0000:4e*"}, Status.FAILED, "0 PCI devices 0000:4e* (should be 1)"),
        (
            {"id": "15b3:*", "full_width": True},
            Status.FAILED,
            "PCI device 0000:3b:00.0 runs on 8 lanes (should be 16)",
        ),
        ({"id": "15b3:*", "min_width": 9}, Status.FAILED, "PCI device 0000:3b:00.0 runs on 8 lanes (should be 9)"),
        ({"id": "15b3:*", "min_speed_gts": 32}, Status.FAILED, "PCI device 0000:3b:00.0 runs at 16 GT/s (limit 32)"),
        ({"id": "8086:*", "min_width": 1}, Status.UNKNOWN, "PCI device 0000:00:1f.0 does not tell its width"),
        ({"id": "8086:*", "min_speed_gts": 1}, Status.UNKNOWN, "PCI device 0000:00:1f.0 does not tell its speed"),
    ],
)
def test_devices_are_judged(limits: dict[str, Any], status: Status, message: str | None) -> None:
    finding = judge([MUTE, NIC, GPU], PciLimits(**limits), "p")

    assert (finding.status, finding.message) == (status, message or "1 PCI devices 0302* are there")


def test_a_check_that_names_no_device_is_refused() -> None:
    with pytest.raises(ValidationError, match="must say which devices"):
        PciLimits(min_width=16)


async def test_the_given_sys_is_read(facts: Facts, add_sys: Callable[[dict[str, str]], None]) -> None:
    place = "bus/pci/devices/0000:3b:00.0"
    add_sys(
        {
            f"{place}/vendor": "0x15b3\n",
            f"{place}/device": "0x1021\n",
            f"{place}/class": "0x020700\n",
            f"{place}/current_link_width": "16\n",
            f"{place}/max_link_width": "16\n",
            f"{place}/current_link_speed": "32.0 GT/s PCIe\n",
            "bus/pci/devices/0000:3b:00.1/vendor": "0x15b3\n",
            "bus/pci/devices/0000:3b:00.1/device": "0x1021\n",
            "bus/pci/devices/0000:3b:00.1/current_link_width": "255\n",
            "bus/pci/devices/0000:3b:00.1/current_link_speed": "Unknown\n",
        }
    )

    there = await look(facts, PciLimits(address="*.0", id="15b3:1021", pci_class="02*", min_speed_gts=32), "p")
    mute = await look(facts, PciLimits(address="*.1", full_width=True), "p")

    assert (there.status, there.measures) == (Status.OK, {"devices": 1})
    assert (mute.status, mute.message) == (Status.UNKNOWN, "PCI device 0000:3b:00.1 does not tell its width")
