# SPDX-License-Identifier: Apache-2.0
"""Check the errors of memory modules that the kernel's EDAC drivers have counted since boot, and rasdaemon's record."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from refloat_checks import sysfs
from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.proc import Roots
from refloat_checks.verdicts import a_few, verdict
from refloat_checks.wakes import FileChange, Wake
from refloat_contract.errors import Transient

if TYPE_CHECKING:
    from refloat_checks.rasdaemon import Recorded


class EdacLimits(Limits):
    """How many errors of memory are too many. They are counted since boot, or since the driver was loaded.

    With `database` what rasdaemon has recorded in this boot counts too: memory (`mc_event`), machine checks
    (`mce_record`), what firmware reported (`extlog_event`), pages that were lost (`memory_failure_event`), PCIe
    (`aer_event`), disks (`disk_errors`) and network adapters (`devlink_event`). Not corrected are: of memory, machine
    checks and firmware all that say so, PCIe errors that are fatal, media errors of disks, and pages of bad memory that
    are still in use. The file is copied and never locked, so that rasdaemon misses nothing.

    ```toml
    [[check]]
    name = "memory-errors"
    type = "edac"
    max_uncorrected = 0
    max_corrected = 1000
    database = "/var/lib/rasdaemon/ras-mc_event.db"
    ```
    """

    max_uncorrected: int | None = Field(0, ge=0, description="Largest number of errors that were not corrected.")
    max_corrected: int | None = Field(None, ge=0, description="Largest number of corrected errors, of all modules.")
    max_corrected_per_module: int | None = Field(
        None, ge=0, description="Largest number of corrected errors of one module: the one to replace is named."
    )
    min_controllers: int = Field(1, ge=0, description="Fewer memory controllers that count errors find UNKNOWN.")
    database: str | None = Field(None, pattern="^/", description="rasdaemon's database; not given: it is not asked.")
    max_recorded_uncorrected: int | None = Field(0, ge=0, description="Largest number of uncorrected errors in it.")
    max_recorded_corrected: int | None = Field(None, ge=0, description="Largest number of corrected errors in it.")
    earlier_boots: bool = Field(default=False, description="Count what it has of earlier boots, too.")


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


def judge(
    controllers: Collection[Controller],
    limits: EdacLimits,
    name: str,
    record: "Collection[Recorded]" = (),
    unread: Iterable[str] = (),
) -> Finding:
    """Compare the counts, and rasdaemon's record, with what is asked for."""
    unread = list(unread)
    if len(controllers) < limits.min_controllers:
        unread.append(f"{len(controllers)} memory controllers count errors (should be {limits.min_controllers})")
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
    bad = {f"{each.table} {each.subject}": each.uncorrected for each in record}
    good = {f"{each.table} {each.subject}": each.corrected for each in record}
    wrong += _too_many(bad, "uncorrected", limits.max_recorded_uncorrected)
    wrong += _too_many(good, "corrected", limits.max_recorded_corrected)
    fine = f"{corrected} corrected and {uncorrected} uncorrected memory errors"
    measures: dict[str, float] = {"corrected": corrected, "uncorrected": uncorrected}
    if limits.database is not None:
        measures |= {"recorded_corrected": sum(good.values()), "recorded_uncorrected": sum(bad.values())}
    return verdict(name, fine, wrong, unread, measures)


def _too_many(counts: dict[str, int], kind: str, limit: int | None) -> list[str]:
    total = sum(counts.values())
    if limit is None or total <= limit:
        return []
    return [f"rasdaemon recorded {total} {kind} errors (limit {limit}){_culprits(counts)}"]


def _culprits(counts: dict[str, int]) -> str:
    labels = [f"{label} ({count})" for label, count in counts.items() if count]
    return f": {a_few(labels)}" if labels else ""


def wakes(limits: EdacLimits) -> tuple[Wake, ...]:
    """What wakes it: rasdaemon's record of an event."""
    # SQLite makes a journal for each transaction, and takes it away when that is done.
    return () if limits.database is None else (FileChange(f"{limits.database}-journal"),)


async def look(facts: Facts, limits: EdacLimits, name: str) -> Finding:
    """Read the counts, once per pass, and the record."""
    controllers = await facts.read("memory controllers", lambda: read(facts.roots))
    if limits.database is None:
        return judge(controllers, limits, name)
    from refloat_checks.rasdaemon import recorded  # noqa: PLC0415 - SQLite, for those who ask for it

    facts.require_running()
    try:
        record = await recorded(facts, limits.database, earlier_boots=limits.earlier_boots)
    except OSError as error:
        return judge(controllers, limits, name, unread=[f"{limits.database} cannot be read: {error.strerror}"])
    except Transient as error:
        return judge(controllers, limits, name, unread=[str(error)])
    return judge(controllers, limits, name, record)
