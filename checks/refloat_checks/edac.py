# SPDX-License-Identifier: Apache-2.0
"""Check the errors of memory modules that the kernel's EDAC drivers have counted since boot."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from refloat_checks import sysfs
from refloat_checks.api import Finding, Limits, unknown
from refloat_checks.facts import Facts
from refloat_checks.proc import Roots
from refloat_checks.verdicts import a_few, verdict


class EdacLimits(Limits):
    """How many errors of memory are too many. They are counted since boot, or since the driver was loaded.

    ```toml
    [[check]]
    name = "memory-errors"
    type = "edac"
    max_uncorrected = 0
    max_corrected = 1000
    ```
    """

    max_uncorrected: int | None = Field(0, ge=0, description="Largest number of errors that were not corrected.")
    max_corrected: int | None = Field(None, ge=0, description="Largest number of corrected errors, of all modules.")
    max_corrected_per_module: int | None = Field(
        None, ge=0, description="Largest number of corrected errors of one module: the one to replace is named."
    )
    min_controllers: int = Field(1, ge=1, description="Fewer memory controllers that count errors find UNKNOWN.")


@dataclass(frozen=True, slots=True)
class Module:
    """A memory module that has counted errors, by its label, or by its place if it has none."""

    label: str
    corrected: int
    uncorrected: int


@dataclass(frozen=True, slots=True)
class Controller:
    """A memory controller: its counts (those of no known module among them), and its modules."""

    corrected: int
    uncorrected: int
    modules: tuple[Module, ...]


def read(roots: Roots) -> tuple[Controller, ...]:
    """Read all memory controllers that count errors."""
    places = sysfs.places(roots.sys / "devices" / "system" / "edac" / "mc", "mc[0-9]*")
    return tuple(_controller(place) for place in places)


def _controller(place: Path) -> Controller:
    # Modules are called dimm* or, by some drivers, rank*.
    modules = [*sysfs.places(place, "dimm[0-9]*"), *sysfs.places(place, "rank[0-9]*")]
    return Controller(
        sysfs.number(place / "ce_count") or 0,
        sysfs.number(place / "ue_count") or 0,
        tuple(_module(module) for module in modules),
    )


def _module(place: Path) -> Module:
    return Module(
        sysfs.value(place / "dimm_label") or f"{place.parent.name}/{place.name}",
        sysfs.number(place / "dimm_ce_count") or 0,
        sysfs.number(place / "dimm_ue_count") or 0,
    )


def judge(controllers: Collection[Controller], limits: EdacLimits, name: str) -> Finding:
    """Compare the counts with what is asked for."""
    if len(controllers) < limits.min_controllers:
        return unknown(name, f"{len(controllers)} memory controllers count errors (should be {limits.min_controllers})")
    corrected = sum(each.corrected for each in controllers)
    uncorrected = sum(each.uncorrected for each in controllers)
    modules = [module for each in controllers for module in each.modules]
    wrong = []
    if limits.max_uncorrected is not None and uncorrected > limits.max_uncorrected:
        culprits = _culprits({module.label: module.uncorrected for module in modules})
        wrong.append(f"{uncorrected} uncorrected memory errors (limit {limits.max_uncorrected}){culprits}")
    if limits.max_corrected is not None and corrected > limits.max_corrected:
        culprits = _culprits({module.label: module.corrected for module in modules})
        wrong.append(f"{corrected} corrected memory errors (limit {limits.max_corrected}){culprits}")
    wrong += [
        f"{module.label} has {module.corrected} corrected errors (limit {limits.max_corrected_per_module})"
        for module in modules
        if limits.max_corrected_per_module is not None and module.corrected > limits.max_corrected_per_module
    ]
    fine = f"{corrected} corrected and {uncorrected} uncorrected memory errors"
    return verdict(name, fine, wrong, measures={"corrected": corrected, "uncorrected": uncorrected})


def _culprits(counts: dict[str, int]) -> str:
    labels = [f"{label} ({count})" for label, count in counts.items() if count]
    return f": {a_few(labels)}" if labels else ""


async def look(facts: Facts, limits: EdacLimits, name: str) -> Finding:
    """Read the counts, once per pass."""
    return judge(await facts.read("memory controllers", lambda: read(facts.roots)), limits, name)
