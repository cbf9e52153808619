# SPDX-License-Identifier: Apache-2.0
"""Check NVIDIA GPUs: count, memory errors, links, clocks and settings, as NVML tells them."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from refloat_checks import commands
from refloat_checks.api import Finding, Limits, failed, unknown
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.verdicts import a_few, verdict
from refloat_checks.wakes import DeviceChange, Wake
from refloat_contract.errors import Transient

LOCK: Final = "/run/refloat/gpu.lock"
PROBE: Final = (sys.executable, "-I", "-X", "utf8", str(Path(__file__).with_name("gpu_probe.py")), LOCK)


class Throttle(StrEnum):
    """Why a GPU may run slower than it could."""

    SW_POWER_CAP = "sw_power_cap"
    HW_SLOWDOWN = "hw_slowdown"
    SW_THERMAL = "sw_thermal"
    HW_THERMAL = "hw_thermal"
    HW_POWER_BRAKE = "hw_power_brake"


_BITS: Final[Mapping[Throttle, int]] = {
    Throttle.SW_POWER_CAP: 0x04,
    Throttle.HW_SLOWDOWN: 0x08,
    Throttle.SW_THERMAL: 0x20,
    Throttle.HW_THERMAL: 0x40,
    Throttle.HW_POWER_BRAKE: 0x80,
}


class GpuLimits(Limits):
    """What must be true of each NVIDIA GPU. It needs the package `nvidia-ml-py` (the extra `gpu`).

    A GPU that is lost or wants a reset, and a driver that is not loaded, find FAILED. What a GPU does not tell (many
    have no ECC or NVLink) finds UNKNOWN if its key is given.

    ```toml
    [[check]]
    name = "gpus"
    type = "gpu"
    count = 8
    min_nvlinks = 18
    min_pcie_width = 16
    persistence = true
    not_throttled_by = ["hw_slowdown", "hw_thermal", "hw_power_brake"]
    answer_within_s = 30
    deadline_s = 60
    ```
    """

    count: int | None = Field(None, ge=0, description="So many GPUs must be there, no more and no less.")
    model: MatchString | None = Field(None, description="Match string for their name, as in `NVIDIA H100*`.")
    ecc: bool | None = Field(None, description="true: ECC must be on; false: off.")
    max_ecc_volatile: int | None = Field(
        0, ge=0, description="Largest number of uncorrected memory errors of one GPU since its driver was loaded."
    )
    max_ecc_aggregate: int | None = Field(
        None, ge=0, description="Largest number of uncorrected memory errors of one GPU in its life."
    )
    pending: bool = Field(
        default=False, description="true: a retired page or remapped row may wait for the GPU's reset."
    )
    max_retired_pages: int | None = Field(None, ge=0, description="Largest number of retired pages of one GPU.")
    max_remapped_rows: int | None = Field(
        None, ge=0, description="Largest number of rows of one GPU that were remapped for uncorrected errors."
    )
    min_nvlinks: int | None = Field(None, ge=1, description="Least number of NVLinks of each GPU that are up.")
    min_pcie_width: int | None = Field(None, ge=1, description="Least number of PCIe lanes.")
    min_pcie_generation: int | None = Field(
        None, ge=1, description="Least PCIe generation; many GPUs fall back while they have nothing to do."
    )
    persistence: bool | None = Field(None, description="true: persistence mode must be on; false: off.")
    not_throttled_by: tuple[Throttle, ...] = Field((), description="None of these may slow a GPU down at the moment.")
    max_temperature_c: float | None = Field(None, gt=0, description="Largest temperature of a GPU.")
    answer_within_s: float | None = Field(
        None,
        gt=0,
        description="NVML must answer in this time, or the check has FAILED; less than `deadline_s`. "
        "Without it, one that does not answer finds UNKNOWN.",
    )


class Gpu(BaseModel):
    """What NVML told of one GPU; None: it does not tell. `errors`: what it could not tell, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    broken: str = ""
    errors: Mapping[str, str] = Field(default_factory=dict)
    uuid: str | None = None
    name: str | None = None
    ecc: int | None = None
    ecc_volatile: int | None = None
    ecc_aggregate: int | None = None
    retired_pages: int | None = None
    retirement_pending: int | None = None
    remapped_rows: tuple[int, int, int, int] | None = None  # for corrected, uncorrected errors; pending; failed
    nvlinks: int | None = None
    pcie_width: int | None = None
    pcie_generation: int | None = None
    persistence: int | None = None
    throttle_reasons: int | None = None
    temperature_c: float | None = None

    @property
    def remapped_uncorrected(self) -> int | None:
        """Rows that were remapped for uncorrected errors."""
        return self.remapped_rows[1] if self.remapped_rows is not None else None


class Answer(BaseModel):
    """What the probe printed: GPUs, or why there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: tuple[Gpu, ...] = ()
    broken: str = ""
    error: str = ""
    busy: bool = False


def judge(answer: Answer, limits: GpuLimits, name: str) -> Finding:
    """Compare what NVML told with what is asked for."""
    if answer.busy:
        return _silent(limits, name, "an earlier look at the GPUs has not returned")
    if answer.error:
        return unknown(name, f"the GPUs cannot be looked at: {answer.error}")
    if answer.broken:
        return failed(name, f"the GPUs cannot be used: {answer.broken}", gpus=0)
    wrong, unread = [], []
    if limits.count is not None and len(answer.gpus) != limits.count:
        wrong.append(f"{len(answer.gpus)} GPUs (should be {limits.count})")
    for gpu in answer.gpus:
        wrong += [f"GPU {gpu.index} {complaint}" for complaint in _complaints(gpu, limits)]
        unread += [f"GPU {gpu.index} does not tell {key}" for key in _untold(gpu, limits)]
    told = [a_few(unread)] if unread else []
    return verdict(name, f"{len(answer.gpus)} GPUs are as they should be", wrong, told, _measures(answer.gpus))


def _silent(limits: GpuLimits, name: str, why: str) -> Finding:
    return unknown(name, why) if limits.answer_within_s is None else failed(name, why)


def _complaints(gpu: Gpu, limits: GpuLimits) -> list[str]:
    if gpu.broken:
        return [f"cannot be used: {gpu.broken}"]
    return [*_of_memory(gpu, limits), *_of_amounts(gpu, limits), *_of_settings(gpu, limits)]


def _of_memory(gpu: Gpu, limits: GpuLimits) -> list[str]:
    wrong = []
    if gpu.remapped_rows is not None and gpu.remapped_rows[3]:
        wrong.append("could not remap a row of its memory")
    if not limits.pending and gpu.remapped_rows is not None and gpu.remapped_rows[2]:
        wrong.append("must be reset to remap a row of its memory")
    if not limits.pending and gpu.retirement_pending:
        wrong.append("must be reset to retire a page of its memory")
    return wrong


def _asked(gpu: Gpu, limits: GpuLimits) -> Sequence[tuple[str, str, float | None, float | None, float | None]]:
    # Key, what it is, what was found, the least, the most.
    return (
        ("max_ecc_volatile", "uncorrected memory errors", gpu.ecc_volatile, None, limits.max_ecc_volatile),
        ("max_ecc_aggregate", "uncorrected memory errors ever", gpu.ecc_aggregate, None, limits.max_ecc_aggregate),
        ("max_retired_pages", "retired pages", gpu.retired_pages, None, limits.max_retired_pages),
        ("max_remapped_rows", "remapped rows", gpu.remapped_uncorrected, None, limits.max_remapped_rows),
        ("min_nvlinks", "NVLinks up", gpu.nvlinks, limits.min_nvlinks, None),
        ("min_pcie_width", "PCIe lanes", gpu.pcie_width, limits.min_pcie_width, None),
        ("min_pcie_generation", "as PCIe generation", gpu.pcie_generation, limits.min_pcie_generation, None),
        ("max_temperature_c", "°C", gpu.temperature_c, None, limits.max_temperature_c),
    )


def _of_amounts(gpu: Gpu, limits: GpuLimits) -> list[str]:
    wrong = []
    for _, what, found, least, most in _asked(gpu, limits):
        limit = least if least is not None else most
        if found is None or limit is None:
            continue
        if (least is not None and found < least) or (most is not None and found > most):
            wrong.append(f"has {found:g} {what} (limit {limit:g})")
    return wrong


def _of_settings(gpu: Gpu, limits: GpuLimits) -> list[str]:
    wrong = []
    if limits.model is not None and gpu.name is not None and not matches(limits.model, gpu.name):
        wrong.append(f"is a {gpu.name} (should be {limits.model})")
    for what, found, wanted in (
        ("ECC", gpu.ecc, limits.ecc),
        ("persistence mode", gpu.persistence, limits.persistence),
    ):
        if wanted is not None and found is not None and bool(found) is not wanted:
            wrong.append(f"has {what} {'on' if found else 'off'}")
    wrong += [
        f"is slowed down by {reason}"
        for reason in limits.not_throttled_by
        if gpu.throttle_reasons is not None and gpu.throttle_reasons & _BITS[reason]
    ]
    return wrong


def _untold(gpu: Gpu, limits: GpuLimits) -> list[str]:
    if gpu.broken:
        return []
    asked = {key: found for key, _, found, _, _ in _asked(gpu, limits)}
    asked |= {"model": None if gpu.name is None else 0, "ecc": gpu.ecc, "persistence": gpu.persistence}
    asked["not_throttled_by"] = gpu.throttle_reasons
    missing = [
        key
        for key, found in asked.items()
        if found is None and key in limits.model_fields_set and getattr(limits, key) is not None
    ]
    return [*missing, *(f"{key} ({why})" for key, why in gpu.errors.items())]


def _measures(gpus: Sequence[Gpu]) -> dict[str, float]:
    measures: dict[str, float] = {"gpus": len(gpus)}
    for key in ("ecc_volatile", "ecc_aggregate", "retired_pages", "temperature_c", "remapped_uncorrected"):
        found: list[Any] = [getattr(gpu, key) for gpu in gpus if getattr(gpu, key) is not None]
        if found:
            measures[f"most_{key}"] = max(found)
    if links := [gpu.nvlinks for gpu in gpus if gpu.nvlinks is not None]:
        measures["least_nvlinks"] = min(links)
    return measures


async def _ask() -> Answer:
    done = await commands.run(PROBE)
    if done.returncode != 0:
        raise Transient(f"the GPU probe ended with {done.returncode}: {done.complaint}")
    return Answer.model_validate(json.loads(done.stdout))


def wakes(limits: GpuLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: a PCI device that comes or goes."""
    return (DeviceChange("pci"),)


async def look(facts: Facts, limits: GpuLimits, name: str) -> Finding:
    """Ask NVML in a process of its own, once per pass: where a GPU fell off the bus it may never answer."""
    facts.require_running()
    deadline = asyncio.timeout(limits.answer_within_s)
    try:
        async with deadline:
            return judge(await facts.remember(("GPUs",), _ask), limits, name)
    except TimeoutError:
        if not deadline.expired():
            raise
        return failed(name, f"NVML did not answer within {limits.answer_within_s:g} s")
