# SPDX-License-Identifier: Apache-2.0
import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from refloat_checks import gpu
from refloat_checks.facts import Facts
from refloat_checks.gpu import Answer, Gpu, GpuLimits, judge, look
from refloat_contract.errors import Transient
from refloat_contract.words import Status

GOOD: dict[str, Any] = {
    "uuid": "GPU-1",
    "name": "NVIDIA H100 80GB HBM3",
    "ecc": 1,
    "ecc_volatile": 0,
    "ecc_aggregate": 2,
    "retired_pages": 1,
    "retirement_pending": 0,
    "remapped_rows": [1, 2, 0, 0],
    "nvlinks": 18,
    "pcie_width": 16,
    "pcie_generation": 5,
    "persistence": 1,
    "throttle_reasons": 0x1,
    "temperature_c": 40,
}
FINE = "1 GPUs are as they should be"


@pytest.mark.parametrize(
    ("change", "limits", "status", "message"),
    [
        ({}, {}, Status.OK, FINE),
        (
            {},
            {
                "count": 1,
                "model": "NVIDIA H100*",
                "ecc": True,
                "max_ecc_aggregate": 2,
                "max_retired_pages": 1,
                "max_remapped_rows": 2,
                "min_nvlinks": 18,
                "min_pcie_width": 16,
                "min_pcie_generation": 5,
                "persistence": True,
                "not_throttled_by": ["hw_slowdown"],
                "max_temperature_c": 40,
            },
            Status.OK,
            FINE,
        ),
        ({}, {"count": 8}, Status.FAILED, "1 GPUs (should be 8)"),
        ({}, {"count": 0}, Status.FAILED, "1 GPUs (should be 0)"),
        ({}, {"model": "*A100*"}, Status.FAILED, "GPU 0 is a NVIDIA H100 80GB HBM3 (should be *A100*)"),
        ({}, {"ecc": False}, Status.FAILED, "GPU 0 has ECC on"),
        ({"ecc_volatile": 1}, {}, Status.FAILED, "GPU 0 has 1 uncorrected memory errors (limit 0)"),
        ({"ecc_volatile": 1}, {"max_ecc_volatile": None}, Status.OK, FINE),
        ({}, {"max_ecc_aggregate": 1}, Status.FAILED, "GPU 0 has 2 uncorrected memory errors ever (limit 1)"),
        ({}, {"max_retired_pages": 0}, Status.FAILED, "GPU 0 has 1 retired pages (limit 0)"),
        ({}, {"max_remapped_rows": 1}, Status.FAILED, "GPU 0 has 2 remapped rows (limit 1)"),
        ({"remapped_rows": [0, 1, 1, 0]}, {}, Status.FAILED, "GPU 0 must be reset to remap a row of its memory"),
        ({"remapped_rows": [0, 1, 1, 0]}, {"pending": True}, Status.OK, FINE),
        (
            {"remapped_rows": [0, 1, 0, 1]},
            {"pending": True},
            Status.FAILED,
            "GPU 0 could not remap a row of its memory",
        ),
        ({"retirement_pending": 1}, {}, Status.FAILED, "GPU 0 must be reset to retire a page of its memory"),
        ({"nvlinks": 17}, {"min_nvlinks": 18}, Status.FAILED, "GPU 0 has 17 NVLinks up (limit 18)"),
        ({"pcie_width": 8}, {"min_pcie_width": 16}, Status.FAILED, "GPU 0 has 8 PCIe lanes (limit 16)"),
        ({}, {"min_pcie_generation": 6}, Status.FAILED, "GPU 0 has 5 as PCIe generation (limit 6)"),
        ({"persistence": 0}, {"persistence": True}, Status.FAILED, "GPU 0 has persistence mode off"),
        (
            {"throttle_reasons": 0x48},
            {"not_throttled_by": ["hw_thermal", "sw_power_cap"]},
            Status.FAILED,
            "GPU 0 is slowed down by hw_thermal",
        ),
        ({}, {"max_temperature_c": 39}, Status.FAILED, "GPU 0 has 40 °C (limit 39)"),
        ({"ecc_volatile": None, "remapped_rows": None, "ecc": None}, {}, Status.OK, FINE),
        ({"ecc_volatile": None}, {"max_ecc_volatile": 0}, Status.UNKNOWN, "GPU 0 does not tell max_ecc_volatile"),
        ({"nvlinks": None}, {"min_nvlinks": 1}, Status.UNKNOWN, "GPU 0 does not tell min_nvlinks"),
        ({"errors": {"ecc": "Timeout"}}, {}, Status.UNKNOWN, "GPU 0 does not tell ecc (Timeout)"),
        ({"broken": "GPU is lost"}, {"min_nvlinks": 99}, Status.FAILED, "GPU 0 cannot be used: GPU is lost"),
    ],
)
def test_gpus_are_judged(change: dict[str, Any], limits: dict[str, Any], status: Status, message: str) -> None:
    answer = Answer(gpus=(Gpu.model_validate({"index": 0, **GOOD, **change}),))

    finding = judge(answer, GpuLimits(**limits), "g")

    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    ("answer", "limits", "status"),
    [
        (Answer(), {"count": 1}, Status.FAILED),
        (Answer(), {}, Status.OK),
        (Answer(broken="Driver Not Loaded"), {}, Status.FAILED),
        (Answer(error="nvidia-ml-py is not installed"), {"count": 1}, Status.UNKNOWN),
        (Answer(busy=True), {"count": 1}, Status.UNKNOWN),
        (Answer(busy=True), {"answer_within_s": 1}, Status.FAILED),
    ],
)
def test_an_nvml_that_tells_of_no_gpu_is_judged(answer: Answer, limits: dict[str, Any], status: Status) -> None:
    assert judge(answer, GpuLimits(**limits), "g").status is status


FAKE = """\
import time
NVML_NVLINK_MAX_LINKS = 4
class NVMLError(Exception):
    def __init__(self, value):
        self.value = value
    def __str__(self):
        return f"error {self.value}"
def answer(value):
    if isinstance(value, int) and value < 0:
        raise NVMLError(-value)
    return value
def nvmlInit():
    time.sleep(SILENT)
    answer(INIT)
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return answer(HANDLES[index])
def nvmlDeviceGetUUID(gpu): return b"GPU-1"
def nvmlDeviceGetName(gpu): return "H200"
def nvmlDeviceGetEccMode(gpu): return (1, 1)
def nvmlDeviceGetTotalEccErrors(gpu, kind, counter): return answer(3 if counter == 0 else -999 if LOST else 7)
def nvmlDeviceGetRetiredPages(gpu, cause): raise NVMLError(3)
def nvmlDeviceGetRetiredPagesPendingStatus(gpu): raise NVMLError(10)
def nvmlDeviceGetRemappedRows(gpu): return (1, 2, 0, 0)
def nvmlDeviceGetNvLinkState(gpu, link): return answer([1, 0, 1, -2][link])
def nvmlDeviceGetCurrPcieLinkWidth(gpu): return 16
def nvmlDeviceGetCurrPcieLinkGeneration(gpu): return 5
def nvmlDeviceGetPersistenceMode(gpu): return 1
def nvmlDeviceGetCurrentClocksThrottleReasons(gpu): return 1
def nvmlDeviceGetTemperature(gpu, sensor): return 33
"""


@pytest.fixture
def add_nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Add a pynvml that answers as a test has it answer; the probe's lock is given back."""
    lock = tmp_path / "lock"
    program = (sys.executable, *gpu.PROBE[2:-1], str(lock))  # without -I, so that it finds the fake library
    # The library that it talks to cannot be had without a GPU.
    monkeypatch.setattr(gpu, "PROBE", program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "library"))
    (tmp_path / "library").mkdir()

    def add(init: int = 0, handles: tuple[int, int] = (1, 2), silent: int = 0, *, lost: bool = False) -> Path:
        known = f"INIT = {init}\nHANDLES = {handles}\nSILENT = {silent}\nLOST = {lost}\n"
        (tmp_path / "library" / "pynvml.py").write_text(known + FAKE)
        return lock

    return add


async def test_all_that_nvml_tells_is_read(facts: Facts, add_nvml: Callable[..., Path]) -> None:
    add_nvml(handles=(1, -15))

    finding = await look(facts, GpuLimits(count=2, min_nvlinks=3, max_retired_pages=0), "g")

    assert finding.message == (
        "GPU 0 has 3 uncorrected memory errors (limit 0); GPU 0 has 2 NVLinks up (limit 3); "
        "GPU 1 cannot be used: error 15"
    )
    assert finding.measures == {
        "gpus": 2,
        "most_ecc_volatile": 3,
        "most_ecc_aggregate": 7,
        "most_temperature_c": 33,
        "most_remapped_uncorrected": 2,
        "least_nvlinks": 2,
    }


async def test_what_a_gpu_does_not_know_and_what_it_fails_to_tell_are_two_things(
    facts: Facts, add_nvml: Callable[..., Path]
) -> None:
    add_nvml()

    finding = await look(facts, GpuLimits(max_ecc_volatile=3, max_retired_pages=0), "g")

    assert finding.status is Status.UNKNOWN
    assert finding.message.startswith(
        "GPU 0 does not tell max_retired_pages, GPU 0 does not tell retirement_pending (error 10), "
    )


async def test_a_gpu_that_is_lost_between_two_answers_has_failed(facts: Facts, add_nvml: Callable[..., Path]) -> None:
    add_nvml(lost=True)

    finding = await look(facts, GpuLimits(max_ecc_volatile=None), "g")

    assert finding.message == "GPU 0 cannot be used: error 999; GPU 1 cannot be used: error 999"


@pytest.mark.parametrize(("init", "status"), [(-9, Status.FAILED), (-12, Status.UNKNOWN)])
async def test_a_driver_that_is_not_loaded_is_a_fault_and_a_missing_library_is_not(
    facts: Facts, add_nvml: Callable[..., Path], init: int, status: Status
) -> None:
    add_nvml(init=init)

    assert (await look(facts, GpuLimits(), "g")).status is status


async def test_an_nvml_that_never_answers_is_given_up(facts: Facts, add_nvml: Callable[..., Path]) -> None:
    add_nvml(silent=600)

    finding = await look(facts, GpuLimits(answer_within_s=0.3), "g")

    assert (finding.status, finding.message) == (Status.FAILED, "NVML did not answer within 0.3 s")


def hold(lock: Path) -> IO[str]:
    holder = lock.open("w")
    fcntl.flock(holder, fcntl.LOCK_EX)
    return holder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's looks take the lock")
async def test_no_second_look_joins_one_that_hangs(facts: Facts, add_nvml: Callable[..., Path]) -> None:
    lock = add_nvml()
    holder = hold(lock)
    try:
        finding = await look(facts, GpuLimits(), "g")
    finally:
        holder.close()

    assert (finding.status, finding.message) == (Status.UNKNOWN, "an earlier look at the GPUs has not returned")


async def test_a_probe_that_breaks_is_no_finding(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    # What else would make it end so cannot be had.
    monkeypatch.setattr(gpu, "PROBE", ("sh", "-c", "echo Segmentation fault >&2; exit 139"))

    with pytest.raises(Transient, match="ended with 139: Segmentation fault"):
        await look(facts, GpuLimits(), "g")
