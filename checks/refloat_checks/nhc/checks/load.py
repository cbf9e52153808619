# SPDX-License-Identifier: Apache-2.0
"""check_ps_loadavg and check_ps_kswapd: how busy the machine is, and its memory's reclaim threads are."""

from collections.abc import Sequence
from typing import Final

from refloat_checks import hardware, process_table
from refloat_checks.nhc.checks.acting import react
from refloat_checks.nhc.checks.numbers import whole
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed
from refloat_checks.process_table import ProcessUse

_LOADAVG: Final = "check_ps_loadavg"
_KSWAPD: Final = "check_ps_kswapd"
_KTHREADD: Final = 2


def judge_loadavg(text: str, words: Sequence[str], *, strict: bool = False) -> NhcOutcome:
    """Compare the whole parts of the three averages with their limits; an empty one is not compared."""
    averages = [int(word.partition(".")[0]) for word in text.split()[:3]]
    for minutes, average, limit_text in zip((1, 5, 15), averages, words, strict=False):
        limit = whole(limit_text, "load limit", strict=strict) if limit_text else None
        if limit is not None and average >= limit:
            return failed(_LOADAVG, f"{minutes}-minute load average too high:  {average} >= {limit_text}")
    return PASSED


def judge_kswapd(processes: Sequence[ProcessUse], words: Sequence[str], *, strict: bool = False) -> NhcOutcome:
    """Compare the CPU times of the reclaim threads of the NUMA nodes with a limit, and with each other."""
    threshold_text, ratio_text, *actions = [*words, "", ""] if len(words) < 2 else words  # noqa: PLR2004 - two limits
    # Anybody may call a process so; kernel threads alone have brackets round their names and kthreadd for a parent.
    threads = [each for each in processes if "kswapd" in each.title and (strict or _is_kernel_thread(each))]
    if len(threads) <= 1:
        return PASSED
    threshold = whole(threshold_text, "number of seconds", strict=strict)
    ratio = whole(ratio_text, "ratio", strict=strict)
    if _is_unbalanced([each.cpu_s for each in threads], threshold, ratio):
        pids = " ".join(str(each.pid) for each in threads)
        return react(_KSWAPD, f"NUMA imbalance detected among PIDs {pids}.", actions)
    return PASSED


def _is_kernel_thread(process: ProcessUse) -> bool:
    return process.ppid == _KTHREADD and process.title.startswith("[")


def _is_unbalanced(seconds: Sequence[int], threshold: int | None, ratio: int | None) -> bool:
    least, most = min(seconds), max(seconds)
    if threshold is not None and most > threshold:
        return True
    if least == 0:
        return threshold is not None and most > threshold // 2
    return ratio is not None and most // least > ratio


async def _loadavg(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return judge_loadavg(await run.facts.proc_text("loadavg"), words, strict=run.strict)


async def _kswapd(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    memory = await hardware.memory(run.facts)
    return judge_kswapd(await process_table.uses(run.facts, memory.ram_kb), words, strict=run.strict)


CHECKS: Final = (NativeCheck(_LOADAVG, _loadavg), NativeCheck(_KSWAPD, _kswapd))
