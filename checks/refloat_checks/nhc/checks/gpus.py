# SPDX-License-Identifier: Apache-2.0
"""check_nv_healthmon and check_nvsmi_healthmon: how NVIDIA's own tools end."""

from __future__ import annotations

from refloat_checks.nhc.checks.launching import NOT_FOUND, Ended, once
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed
from refloat_contract.records import replace

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

_HEALTHMON: Final = "check_nv_healthmon"
_SMI: Final = "check_nvsmi_healthmon"
_MEANINGS: Final = {
    2: "Invalid argument or flag",
    4: "Permission denied",
    8: "Power cables not attached",
    9: "NVIDIA driver not loaded",
    10: "Interrupt issue with a GPU",
    12: "NVML shared library could not be found",
    14: "InfoROM is corrupted",
    15: "The GPU has fallen off the bus or has otherwise become inaccessible",
}


def healthmon_fault(rc: int, *, strict: bool = False) -> str:
    """Say what nvidia-healthmon's exit status means, or nothing if all is well; NHC's signals are one too high."""
    if rc == NOT_FOUND:
        return "not found or not runnable."
    if rc > NOT_FOUND:
        return f"caught fatal signal {rc - NOT_FOUND - (not strict)}"
    return f"returned failure code {rc}" if rc else ""


def smi_fault(rc: int) -> str:
    """Say what nvidia-smi's exit status means, or nothing if all is well."""
    if rc in _MEANINGS:
        return _MEANINGS[rc]
    if rc > NOT_FOUND:
        return f"Caught fatal signal {rc & NOT_FOUND}"
    return f"Returned failure code {rc}" if rc else ""


def judge_healthmon(done: Ended, program: str, *, strict: bool = False) -> NhcOutcome:
    """Translate how nvidia-healthmon ended."""
    fault = healthmon_fault(done.rc, strict=strict)
    if not fault:
        return PASSED
    wrong = failed(_HEALTHMON, f"{program} {fault}")
    return wrong if done.rc >= NOT_FOUND else replace(wrong, log=(done.output.rstrip("\n"),))


def judge_smi(done: Ended, program: str) -> NhcOutcome:
    """Translate how nvidia-smi ended."""
    fault = smi_fault(done.rc)
    if not fault:
        return PASSED
    wrong = failed(_SMI, f"{program}:  {fault}")
    if done.rc in _MEANINGS or done.rc > NOT_FOUND:
        return wrong
    said = done.output.rstrip("\n")
    return replace(wrong, log=(f'{_SMI}:  {program}:  "{said}"',))


async def _healthmon(words: Sequence[str], run: NhcRun) -> NhcOutcome:  # noqa: ARG001 - it takes none
    program = run.variable("NVIDIA_HEALTHMON", "nvidia-healthmon")
    done = await once((*program.split(), *run.variable("NVIDIA_HEALTHMON_ARGS", "-e -v").split()), run)
    return judge_healthmon(done, program, strict=run.strict)


async def _smi(words: Sequence[str], run: NhcRun) -> NhcOutcome:  # noqa: ARG001 - it takes none
    program = run.variable("NVIDIA_SMI_HEALTHMON", "nvidia-smi")
    done = await once((*program.split(), *run.variable("NVIDIA_SMI_HEALTHMON_ARGS").split()), run)
    return judge_smi(done, program)


CHECKS: Final = (NativeCheck(_HEALTHMON, _healthmon), NativeCheck(_SMI, _smi))
