# SPDX-License-Identifier: Apache-2.0
"""check_hw_cpuinfo, _ib, _gm, _eth: processors, InfiniBand ports, and network devices that must be there."""

from __future__ import annotations

from refloat_checks import hardware
from refloat_checks.cpu_counts import Counts, miscounts
from refloat_checks.device_names import fitting, is_usable
from refloat_checks.hardware import Infiniband, Processors
from refloat_checks.nhc.checks.numbers import whole
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

_GM_MODULE: Final = "gm"


def judge_processors(seen: Processors, words: Sequence[str], name: str, *, strict: bool = False) -> NhcOutcome:
    """Compare the counts of sockets, cores and threads with those given; an empty one is not compared."""
    for what, text in zip(("socket", "core", "thread"), words, strict=False):
        wanted = whole(text, f"{what} count", strict=strict) if text else None
        for wrong in miscounts(seen, Counts(**{f"{what}s": wanted})):
            return failed(name, f"Actual CPU {what} count ({wrong.seen}) does not match expected ({text}).")
    return PASSED


def judge_infiniband(seen: Infiniband, words: Sequence[str], name: str) -> NhcOutcome:
    """Look for a port that is up, of this rate and name if they are given."""
    rate, device = [*words, "", ""][:2]
    if seen.mad_abi == 0:
        return failed(name, "Version mismatch between kernel OFED drivers and userspace OFED libraries.")
    for port in seen.ports:
        if device in {"", port.name} and is_usable(port.state, port.phys_state, port.rate, rate):
            return PASSED
    which = f" {device}" if device else ""
    how_fast = f" {rate} Gb/sec" if rate else ""
    return failed(name, f"No IB port{which} is ACTIVE (LinkUp{how_fast}).")


def judge_device(devices: Sequence[str], device: str, name: str) -> NhcOutcome:
    """Look for a network device; its name is a glob."""
    if fitting(devices, device):
        return PASSED
    return failed(name, f"Ethernet device {device} not detected.")


def judge_myrinet(devices: Sequence[str], modules: Sequence[str], device: str, name: str) -> NhcOutcome:
    """Look for a network device, and the module that drives it."""
    if fitting(devices, device) and _GM_MODULE in modules:
        return PASSED
    return failed(name, f"GM device {device} not active, either driver is not loaded, or interface not created.")


async def _processors(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return judge_processors(await hardware.processors(run.facts), words, "check_hw_cpuinfo", strict=run.strict)


async def _infiniband(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return judge_infiniband(await hardware.infiniband(run.facts), words, "check_hw_ib")


async def _device(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return judge_device(await hardware.network_devices(run.facts), words[0] if words else "", "check_hw_eth")


async def _myrinet(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    devices, modules = await hardware.network_devices(run.facts), await hardware.modules(run.facts)
    return judge_myrinet(devices, modules, words[0] if words else "", "check_hw_gm")


CHECKS: Final = (
    NativeCheck("check_hw_cpuinfo", _processors),
    NativeCheck("check_hw_ib", _infiniband),
    NativeCheck("check_hw_eth", _device),
    NativeCheck("check_hw_gm", _myrinet),
)
