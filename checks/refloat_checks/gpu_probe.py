# SPDX-License-Identifier: Apache-2.0
"""Ask NVML of all NVIDIA GPUs and print the answers as JSON: a program of its own, since NVML may never answer.

It is run by its path and imports nothing of ours. Its one argument is the lock that root's looks take, so that a look
which hangs in the driver, where no signal reaches it, is not joined by a next one.
"""

import fcntl
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

# What an answer of NVML means (nvml.h).
_UNTOLD: Final = frozenset({2, 3, 4, 6, 13, 25})  # no such thing here, or we may not know
_BROKEN: Final = frozenset({9, 11, 14, 15, 16, 18, 27, 29, 999})  # no driver, lost, wants a reset, unknown error
_UNCORRECTED, _VOLATILE, _AGGREGATE = 1, 0, 1
_GPU_SENSOR: Final = 0
_PAGES_SINGLE_BIT, _PAGES_DOUBLE_BIT = 0, 1


def _nvlinks(nvml: Any, gpu: Any) -> int:
    up = 0
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            up += nvml.nvmlDeviceGetNvLinkState(gpu, link)
        except nvml.NVMLError as error:
            if error.value not in _UNTOLD:
                raise
            if link == 0:
                raise  # a GPU without NVLink, and not one whose links are all down
            break
    return up


_READINGS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "uuid": lambda nvml, gpu: nvml.nvmlDeviceGetUUID(gpu),
    "name": lambda nvml, gpu: nvml.nvmlDeviceGetName(gpu),
    "ecc": lambda nvml, gpu: nvml.nvmlDeviceGetEccMode(gpu)[0],
    "ecc_volatile": lambda nvml, gpu: nvml.nvmlDeviceGetTotalEccErrors(gpu, _UNCORRECTED, _VOLATILE),
    "ecc_aggregate": lambda nvml, gpu: nvml.nvmlDeviceGetTotalEccErrors(gpu, _UNCORRECTED, _AGGREGATE),
    "retired_pages": lambda nvml, gpu: sum(
        len(nvml.nvmlDeviceGetRetiredPages(gpu, cause)) for cause in (_PAGES_SINGLE_BIT, _PAGES_DOUBLE_BIT)
    ),
    "retirement_pending": lambda nvml, gpu: nvml.nvmlDeviceGetRetiredPagesPendingStatus(gpu),
    "remapped_rows": lambda nvml, gpu: list(nvml.nvmlDeviceGetRemappedRows(gpu)),
    "nvlinks": _nvlinks,
    "pcie_width": lambda nvml, gpu: nvml.nvmlDeviceGetCurrPcieLinkWidth(gpu),
    "pcie_generation": lambda nvml, gpu: nvml.nvmlDeviceGetCurrPcieLinkGeneration(gpu),
    "persistence": lambda nvml, gpu: nvml.nvmlDeviceGetPersistenceMode(gpu),
    "throttle_reasons": lambda nvml, gpu: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu),
    "temperature_c": lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, _GPU_SENSOR),
}


def examine(nvml: Any) -> dict[str, Any]:
    """Ask of all GPUs; `broken` says that the driver itself or a GPU is, `error` that NVML cannot be asked."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return {"broken" if error.value in _BROKEN else "error": str(error)}
    try:
        return {"gpus": [_examine_one(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]}
    except nvml.NVMLError as error:
        return {"broken" if error.value in _BROKEN else "error": str(error)}
    finally:
        nvml.nvmlShutdown()


def _examine_one(nvml: Any, index: int) -> dict[str, Any]:
    said: dict[str, Any] = {"index": index}
    try:
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        return {**said, "broken": str(error)}
    for key, read in _READINGS.items():
        try:
            answer = read(nvml, gpu)
        except nvml.NVMLError as error:
            if error.value in _BROKEN:
                return {**said, "broken": str(error)}
            if error.value not in _UNTOLD:
                said.setdefault("errors", {})[key] = str(error)
        else:
            said[key] = answer.decode() if isinstance(answer, bytes) else answer
    return said


def _is_alone(lock: str) -> bool:
    # Root's alone: another user could hold a lock that he may open, and so keep the node from being checked.
    if os.geteuid() != 0:
        return True
    Path(lock).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # Never closed: a look that hangs holds it until it has really ended.
    place = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(lock: str) -> int:
    """Print what NVML says."""
    if not _is_alone(lock):
        said: dict[str, Any] = {"busy": True}
    else:
        try:
            said = examine(importlib.import_module("pynvml"))
        except ImportError as error:
            said = {"error": f"nvidia-ml-py is not installed ({error})"}
    sys.stdout.write(json.dumps(said) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
