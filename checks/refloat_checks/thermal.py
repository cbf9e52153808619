# SPDX-License-Identifier: Apache-2.0
"""Check that processors are not slowed down by heat, and how hot the machine is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from refloat_checks import sysfs
from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.proc import Roots
from refloat_checks.verdicts import verdict


class ThermalLimits(Limits):
    """How much heat is too much. Throttling is counted since boot.

    ```toml
    [[check]]
    name = "thermal"
    type = "thermal"
    max_package_throttled_s = 60
    max_temperature_c = 95
    zone = "x86_pkg_temp"
    ```
    """

    max_core_throttles: int | None = Field(
        None, ge=0, description="So often at most one core may have been slowed down."
    )
    max_package_throttles: int | None = Field(
        None, ge=0, description="So often at most a whole processor may have been slowed down."
    )
    max_package_throttled_s: float | None = Field(
        None, ge=0, description="So long at most, all in all, a whole processor may have been slowed down."
    )
    max_temperature_c: float | None = Field(None, description="Largest temperature of a thermal zone.")
    zone: MatchString = Field("*", description="Match string for types of the thermal zones that are meant.")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.model_fields_set - {"zone"}:
            raise ValueError("at least one of the keys max_... must say how much is too much")
        return self


@dataclass(frozen=True, slots=True)
class Heat:
    """The most that one core, or one package, was throttled; None: this machine does not count. Zones by name."""

    core_throttles: int | None
    package_throttles: int | None
    package_throttled_s: float | None
    zones: tuple[tuple[str, float], ...]


def read(roots: Roots) -> Heat:
    """Read the counters of all processors, and all thermal zones."""
    cpus = sysfs.places(roots.sys / "devices" / "system" / "cpu", "cpu[0-9]*/thermal_throttle")
    throttled_ms = _most(cpus, "package_throttle_total_time_ms")
    zones = sysfs.places(roots.sys / "class" / "thermal", "thermal_zone[0-9]*")
    read_zones = [(sysfs.value(zone / "type") or zone.name, sysfs.number(zone / "temp")) for zone in zones]
    return Heat(
        _most(cpus, "core_throttle_count"),
        _most(cpus, "package_throttle_count"),
        None if throttled_ms is None else throttled_ms / 1000,
        tuple((zone, millidegrees / 1000) for zone, millidegrees in read_zones if millidegrees is not None),
    )


def _most(places: list[Path], name: str) -> int | None:
    # Every thread of a core, and of a package, tells the same count: to add them up would count each many times.
    counts = [count for count in (sysfs.number(place / name) for place in places) if count is not None]
    return max(counts, default=None)


def judge(heat: Heat, limits: ThermalLimits, name: str) -> Finding:
    """Compare counts and temperatures with what is asked for."""
    wrong, unread = [], []
    for what, found, most in (
        ("core throttles", heat.core_throttles, limits.max_core_throttles),
        ("package throttles", heat.package_throttles, limits.max_package_throttles),
        ("seconds of package throttling", heat.package_throttled_s, limits.max_package_throttled_s),
    ):
        if most is not None and found is None:
            unread.append(f"this machine does not count {what}")
        elif most is not None and found is not None and found > most:
            wrong.append(f"{found:.12g} {what} (limit {most:.12g})")
    zones = [(celsius, zone) for zone, celsius in heat.zones if matches(limits.zone, zone)]
    if limits.max_temperature_c is not None and not zones:
        unread.append(f"there is no thermal zone {limits.zone}")
    wrong += [
        f"{zone} has {celsius:g} °C (limit {limits.max_temperature_c:g} °C)"
        for celsius, zone in zones
        if limits.max_temperature_c is not None and celsius > limits.max_temperature_c
    ]
    measures = {
        "core_throttles": heat.core_throttles,
        "package_throttles": heat.package_throttles,
        "package_throttled_s": heat.package_throttled_s,
        "temperature_c": max(zones)[0] if zones else None,
    }
    told = {key: float(number) for key, number in measures.items() if number is not None}
    return verdict(name, "the machine is cool enough", wrong, unread, told)


async def look(facts: Facts, limits: ThermalLimits, name: str) -> Finding:
    """Read counters and zones, once per pass."""
    return judge(await facts.read("thermal throttling", lambda: read(facts.roots)), limits, name)
