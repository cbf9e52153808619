# SPDX-License-Identifier: Apache-2.0
"""Check that PCI devices are there, and that their links have the width and speed that they should."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import Field, model_validator

from refloat_checks import sysfs
from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.proc import Roots
from refloat_checks.verdicts import verdict
from refloat_checks.wakes import DeviceChange, Wake

# The kernel's form: 16.0 GT/s PCIe; 255 lanes are its word for "unknown".
_SPEED: Final = re.compile(r"([\d.]+) GT/s")
_NO_WIDTH: Final = 255


class PciLimits(Limits):
    """Which devices must be on the PCI bus, and how fast their links must be.

    Some devices slow their links down while they have nothing to do, GPUs among them: for those ask for the width
    alone, or use `when = "resume"` behind a command that wakes them.

    ```toml
    [[check]]
    name = "pci-nics"
    type = "pci"
    id = "15b3:*"
    min_count = 2
    min_width = 16
    min_speed_gts = 16
    ```
    """

    address: MatchString | None = Field(None, description="Match string for addresses, as in `0000:3b:00.0`.")
    id: MatchString | None = Field(
        None, description="Match string for `vendor:device`, as in `10de:2330`, as lspci -n."
    )
    pci_class: MatchString | None = Field(
        None, description="Match string for the six digits of the class, as in `0302*` for 3D controllers."
    )
    min_count: int = Field(1, ge=0, description="Least number of such devices.")
    max_count: int | None = Field(None, ge=0, description="Largest number of such devices.")
    min_width: int | None = Field(None, gt=0, description="Least number of lanes.")
    min_speed_gts: float | None = Field(None, gt=0, description="Least speed in GT/s: 8 is PCIe 3, 16 is 4, 32 is 5.")
    full_width: bool = Field(default=False, description="true: all lanes that the device has must be in use.")

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.address is None and self.id is None and self.pci_class is None:
            raise ValueError("one of the keys address, id or pci_class must say which devices are meant")
        return self


@dataclass(frozen=True, slots=True)
class Device:
    """A PCI device. None: it has no link of its own, or does not tell."""

    address: str
    id: str
    pci_class: str
    width: int | None
    full_width: int | None
    speed_gts: float | None


def read(roots: Roots) -> tuple[Device, ...]:
    """Read all devices and their links."""
    places = sysfs.places(roots.sys / "bus" / "pci" / "devices", "*")
    return tuple(_device(place) for place in places)


def _device(place: Path) -> Device:
    vendor, device = (_hex(sysfs.value(place / name)) for name in ("vendor", "device"))
    speed = _SPEED.search(sysfs.value(place / "current_link_speed") or "")
    return Device(
        place.name,
        f"{vendor}:{device}",
        _hex(sysfs.value(place / "class")),
        _width(place / "current_link_width"),
        _width(place / "max_link_width"),
        float(speed[1]) if speed else None,
    )


def _hex(text: str | None) -> str:
    return (text or "").removeprefix("0x")


def _width(path: Path) -> int | None:
    width = sysfs.number(path)
    return None if width in {0, _NO_WIDTH} else width


def judge(devices: Iterable[Device], limits: PciLimits, name: str) -> Finding:
    """Compare the devices that are meant with what is asked for."""
    meant = [device for device in devices if _is_meant(device, limits)]
    what = limits.address or limits.id or limits.pci_class
    wrong, unread = [], []
    if len(meant) < limits.min_count:
        wrong.append(f"{len(meant)} PCI devices {what} (should be {limits.min_count})")
    if limits.max_count is not None and len(meant) > limits.max_count:
        wrong.append(f"{len(meant)} PCI devices {what} (at most {limits.max_count})")
    for device in meant:
        wrong += _of_link(device, limits)
        unread += _untold(device, limits)
    fine = f"{len(meant)} PCI devices {what} are there"
    return verdict(name, fine, wrong, unread, {"devices": len(meant)})


def _is_meant(device: Device, limits: PciLimits) -> bool:
    asked = ((limits.address, device.address), (limits.id, device.id), (limits.pci_class, device.pci_class))
    return all(pattern is None or matches(pattern, text) for pattern, text in asked)


def _least_width(device: Device, limits: PciLimits) -> int | None:
    asked = (limits.min_width, device.full_width if limits.full_width else None)
    return max((width for width in asked if width is not None), default=None)


def _of_link(device: Device, limits: PciLimits) -> list[str]:
    wrong = []
    least = _least_width(device, limits)
    if least is not None and device.width is not None and device.width < least:
        wrong.append(f"PCI device {device.address} runs on {device.width} lanes (should be {least})")
    if limits.min_speed_gts is not None and device.speed_gts is not None and device.speed_gts < limits.min_speed_gts:
        wrong.append(f"PCI device {device.address} runs at {device.speed_gts:g} GT/s (limit {limits.min_speed_gts:g})")
    return wrong


def _untold(device: Device, limits: PciLimits) -> list[str]:
    unread = []
    if device.width is None and (limits.min_width is not None or limits.full_width):
        unread.append(f"PCI device {device.address} does not tell its width")
    if device.speed_gts is None and limits.min_speed_gts is not None:
        unread.append(f"PCI device {device.address} does not tell its speed")
    return unread


def wakes(limits: PciLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: a device that comes or goes."""
    return (DeviceChange("pci"),)


async def look(facts: Facts, limits: PciLimits, name: str) -> Finding:
    """Read the PCI bus, once per pass."""
    return judge(await facts.read("PCI devices", lambda: read(facts.roots)), limits, name)
