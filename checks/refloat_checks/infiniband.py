# SPDX-License-Identifier: Apache-2.0
"""Check InfiniBand and RoCE ports: state, rate, width, and counters of errors."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from refloat_checks import hardware, sysfs
from refloat_checks.api import Finding, Limits, failed
from refloat_checks.device_names import is_usable
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.proc import Roots, read_text
from refloat_checks.verdicts import a_few, verdict
from refloat_checks.wakes import DeviceChange, LinkChange, Wake

# The kernel's form: 200 Gb/sec (4X HDR).
_RATE: Final = re.compile(r"([\d.]+) Gb/sec \((\d+)X")
CounterName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class InfinibandLimits(Limits):
    """What InfiniBand and RoCE ports must be able to do. Rates, widths and counters are those of the active ports.

    ```toml
    [[check]]
    name = "infiniband"
    type = "infiniband"
    port = "mlx5_*:1"
    min_active = 4
    min_rate_gbps = 400
    min_width = 4
    max_counters = { link_downed = 10, symbol_error = 1000 }
    ```
    """

    port: MatchString = Field("*", description="Match string for ports, each named as in `mlx5_0:1`.")
    min_active: int | None = Field(
        None, ge=1, description="So many of them at least must be active; without it all of them, and at least one."
    )
    min_rate_gbps: float | None = Field(None, gt=0, description="Least rate in Gb/s.")
    rate_gbps: float | None = Field(
        None, gt=0, description="Exact rate in Gb/s: ports of another one do not count as active."
    )
    min_width: int | None = Field(None, gt=0, description="Least number of lanes, as in the 4 of `4X HDR`.")
    umad: bool = Field(
        default=False, description="true: the interface through which tools manage ports (`ib_umad`) must be there."
    )
    max_counters: dict[CounterName, int] = Field(
        default_factory=dict,
        description="Largest values of counters, by the names of their files under `counters` and `hw_counters`. "
        "They count since the driver was loaded.",
    )


@dataclass(frozen=True, slots=True)
class Port:
    """A port. Rate and width are None if the driver tells them in no known form; counters are those it has."""

    name: str
    state: str
    phys_state: str
    rate_gbps: float | None
    width: int | None
    counters: Mapping[str, int]

    def is_active(self, rate_gbps: float | None = None) -> bool:
        """Tell whether data can pass, at exactly this rate if one is given."""
        rates = ("" if each is None else f"{each:g}" for each in (self.rate_gbps, rate_gbps))
        return is_usable(self.state, self.phys_state, *rates)


def read(roots: Roots, counters: Iterable[str]) -> tuple[Port, ...]:
    """Read all ports, and these counters of each."""
    names = tuple(counters)
    return tuple(_port(place, names) for place in sysfs.places(roots.sys / "class" / "infiniband", "*/ports/*"))


def _port(place: Path, names: Iterable[str]) -> Port:
    found = _RATE.search(sysfs.value(place / "rate") or "")
    counted = {name: _counter(place, name) for name in names}
    return Port(
        f"{place.parts[-3]}:{place.name}",
        _state(place / "state"),
        _state(place / "phys_state"),
        float(found[1]) if found else None,
        int(found[2]) if found else None,
        {name: count for name, count in counted.items() if count is not None},
    )


def _state(path: Path) -> str:
    # The kernel's form: a number, a colon, and the word for it.
    return read_text(path).partition(":")[2].strip()


def _counter(place: Path, name: str) -> int | None:
    found = sysfs.number(place / "counters" / name)
    return found if found is not None else sysfs.number(place / "hw_counters" / name)


def judge(ports: Iterable[Port], limits: InfinibandLimits, name: str) -> Finding:
    """Compare the ports that are meant with what is asked for."""
    meant = [port for port in ports if matches(limits.port, port.name)]
    if not meant:
        return failed(name, f"there is no InfiniBand port {limits.port}", active=0, ports=0)
    active = [port for port in meant if port.is_active(limits.rate_gbps)]
    wrong, unread = _of_count(meant, active, limits), []
    for port in active:
        wrong += _of_rate(port, limits) + _of_counters(port, limits)
        unread += _untold(port, limits)
    measures: dict[str, float] = {"active": len(active), "ports": len(meant)}
    rates = [port.rate_gbps for port in active if port.rate_gbps is not None]
    if rates:
        measures["least_rate_gbps"] = min(rates)
    for counter in limits.max_counters:
        measures[counter] = max((port.counters.get(counter, 0) for port in active), default=0)
    return verdict(name, f"{len(active)} of {len(meant)} InfiniBand ports are active", wrong, unread, measures)


def _of_count(meant: list[Port], active: list[Port], limits: InfinibandLimits) -> list[str]:
    least = limits.min_active if limits.min_active is not None else len(meant)
    if len(active) >= least:
        return []
    idle = [_state_of(port, limits) for port in meant if port not in active]
    told = f" ({a_few(idle)})" if idle else ""
    return [f"{len(active)} InfiniBand ports are active (should be {least}){told}"]


def _state_of(port: Port, limits: InfinibandLimits) -> str:
    rate = "" if limits.rate_gbps is None or port.rate_gbps is None else f" {port.rate_gbps:g} Gb/s"
    return f"{port.name} {port.state} {port.phys_state}{rate}"


def _of_rate(port: Port, limits: InfinibandLimits) -> list[str]:
    wrong = []
    if limits.min_rate_gbps is not None and port.rate_gbps is not None and port.rate_gbps < limits.min_rate_gbps:
        wrong.append(f"{port.name} runs at {port.rate_gbps:g} Gb/s (limit {limits.min_rate_gbps:g} Gb/s)")
    if limits.min_width is not None and port.width is not None and port.width < limits.min_width:
        wrong.append(f"{port.name} runs on {port.width} lanes (limit {limits.min_width})")
    return wrong


def _of_counters(port: Port, limits: InfinibandLimits) -> list[str]:
    return [
        f"{port.name} counts {port.counters[name]} {name} (limit {most})"
        for name, most in limits.max_counters.items()
        if port.counters.get(name, 0) > most
    ]


def _untold(port: Port, limits: InfinibandLimits) -> list[str]:
    unread = []
    if port.rate_gbps is None and (limits.min_rate_gbps is not None or limits.min_width is not None):
        unread.append(f"{port.name} does not tell its rate")
    missing = [name for name in limits.max_counters if name not in port.counters]
    return [*unread, *(f"{port.name} has no counter {name}" for name in missing)]


def wakes(limits: InfinibandLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: adapters, and the links of IP over InfiniBand."""
    return (DeviceChange("infiniband"), LinkChange("ib*"))


async def look(facts: Facts, limits: InfinibandLimits, name: str) -> Finding:
    """Read the ports; those who ask for the same counters share what was read."""
    counters = sorted(limits.max_counters)
    source = " ".join(("InfiniBand ports and counters", *counters))
    if limits.umad and (await hardware.infiniband(facts)).mad_abi == 0:
        return failed(name, "the interface for tools is not there: is the module ib_umad of these drivers loaded?")
    return judge(await facts.read(source, lambda: read(facts.roots, counters)), limits, name)
