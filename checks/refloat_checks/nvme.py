# SPDX-License-Identifier: Apache-2.0
"""Check the health of NVMe devices, as their SMART log tells."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pydantic import Field

from refloat_checks import commands, sysfs
from refloat_checks.api import Finding, Limits, failed
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.verdicts import verdict
from refloat_checks.wakes import DeviceChange, Wake
from refloat_contract.errors import Transient

_KELVIN: Final = 273
# Bits of the log's critical warning (NVM Express base specification, SMART / health information).
_WARNINGS: Final = (
    "spare below threshold",
    "temperature",
    "degraded",
    "read-only",
    "backup failed",
    "region read-only",
)


class NvmeLimits(Limits):
    """What NVMe devices must tell of themselves. A device's own critical warning always finds FAILED.

    ```toml
    [[check]]
    name = "nvme"
    type = "nvme"
    device = "nvme[01]"
    min_count = 2
    max_percent_used = 95
    max_media_errors = 0
    interval_s = 3600
    ```
    """

    device: MatchString = Field("*", description="Match string for controllers, each named as in `nvme0`.")
    min_count: int = Field(1, ge=1, description="Least number of such devices.")
    max_percent_used: int | None = Field(100, ge=0, description="Largest share of its life that a device has used up.")
    min_spare_percent: int | None = Field(None, ge=0, le=100, description="Least share of spare blocks that is left.")
    max_media_errors: int | None = Field(None, ge=0, description="Largest number of errors of the medium.")
    max_temperature_c: float | None = Field(None, description="Largest temperature.")


@dataclass(frozen=True, slots=True)
class Smart:
    """The SMART log of one device; None: the tool did not tell."""

    device: str
    critical_warning: int
    percent_used: int | None
    spare_percent: int | None
    media_errors: int | None
    temperature_c: float | None


def parse(device: str, text: str) -> Smart:
    """Parse what `nvme smart-log -o json` prints. Raises ValueError if it tells no critical warning."""
    said = json.loads(text)
    warning = said.get("critical_warning") if isinstance(said, dict) else None
    if isinstance(warning, dict):
        warning = warning.get("value")
    if not isinstance(warning, int):
        raise ValueError(f"{device}: nvme told no critical warning")  # noqa: TRY004 - the text is wrong
    kelvin = _number(said, "temperature")
    return Smart(
        device,
        warning,
        _number(said, "percent_used", "percentage_used"),
        _number(said, "avail_spare"),
        _number(said, "media_errors"),
        None if kelvin is None else kelvin - _KELVIN,
    )


def _number(said: Mapping[str, Any], *keys: str) -> int | None:
    # Counters of 128 bits are printed as strings by some releases.
    found = next((said[key] for key in keys if key in said), None)
    return None if found is None else int(found)


def judge(logs: Sequence[Smart], limits: NvmeLimits, name: str) -> Finding:
    """Compare what the devices that are meant tell with what is asked for."""
    wrong, unread = [], []
    if len(logs) < limits.min_count:
        wrong.append(f"{len(logs)} NVMe devices {limits.device} (should be {limits.min_count})")
    for log in logs:
        for what, found, least, most in _asked(log, limits):
            limit = least if least is not None else most
            if limit is not None and found is None:
                unread.append(f"{log.device} does not tell its {what}")
            elif limit is not None and found is not None and (found < limit if least is not None else found > limit):
                wrong.append(f"{log.device} has {what} {found:g} (limit {limit:g})")
        wrong += [
            f"{log.device} warns: {what}" for bit, what in enumerate(_WARNINGS) if log.critical_warning >> bit & 1
        ]
    fine = f"{len(logs)} NVMe devices are healthy"
    return verdict(name, fine, wrong, unread, _measures(logs))


def _asked(log: Smart, limits: NvmeLimits) -> Sequence[tuple[str, float | None, float | None, float | None]]:
    # What it is, what was found, the least, the most.
    return (
        ("used percentage", log.percent_used, None, limits.max_percent_used),
        ("spare percentage", log.spare_percent, limits.min_spare_percent, None),
        ("media errors", log.media_errors, None, limits.max_media_errors),
        ("temperature", log.temperature_c, None, limits.max_temperature_c),
    )


def _measures(logs: Sequence[Smart]) -> dict[str, float]:
    measures: dict[str, float] = {"devices": len(logs)}
    for key in ("percent_used", "media_errors", "temperature_c"):
        found: list[Any] = [getattr(log, key) for log in logs if getattr(log, key) is not None]
        if found:
            measures[f"most_{key}"] = max(found)
    return measures


async def _smart(device: str) -> Smart:
    done = await commands.run(("nvme", "smart-log", f"/dev/{device}", "-o", "json"))
    if done.returncode != 0:
        raise Transient(f"nvme smart-log of {device} ended with {done.returncode}: {done.complaint}")
    return parse(device, done.stdout)


def wakes(limits: NvmeLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: an NVMe or block device that comes or goes."""
    return (DeviceChange("nvme"), DeviceChange("block"))


async def look(facts: Facts, limits: NvmeLimits, name: str) -> Finding:
    """Ask each device that is meant, once per pass; without the tool nvme the runner finds UNKNOWN."""
    place = facts.roots.sys / "class" / "nvme"
    found = await facts.read("NVMe devices", lambda: [each.name for each in sysfs.places(place, "nvme[0-9]*")])
    meant = [device for device in found if matches(limits.device, device)]
    if not meant:
        return failed(name, f"there is no NVMe device {limits.device}", devices=0)
    logs = await asyncio.gather(*(facts.remember(("nvme", each), partial(_smart, each)) for each in meant))
    return judge(logs, limits, name)
