# SPDX-License-Identifier: Apache-2.0
"""check_ps_loadavg and check_ps_kswapd: how busy the machine is, and its memory's reclaim threads are."""

from __future__ import annotations

from refloat_checks import hardware, process_table
from refloat_checks.nhc.checks.acting import react
from refloat_checks.nhc.checks.numbers import whole
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed
from refloat_checks.process_table import ProcessUse
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

_LOADAVG: Final = "check_ps_loadavg"
_KSWAPD: Final = "check_ps_kswapd"
_KTHREADD: Final = 2
_MINUTES: Final = (1, 5, 15)


@record
class Overload:
    """A load average, by its minutes, that has reached its limit."""

    minutes: int
    average: float
    limit: float


def overloads(text: str, limits: Iterable[float | None]) -> Iterator[Overload]:
    """Compare the averages of `/proc/loadavg` with their limits, of 1, 5 and 15 minutes; None is not compared."""
    averages = (float(word) for word in text.split()[:3])
    for minutes, average, limit in zip(_MINUTES, averages, limits, strict=False):
        if limit is not None and average >= limit:
            yield Overload(minutes, average, limit)


def judge_loadavg(text: str, words: Sequence[str], *, strict: bool = False) -> NhcOutcome:
    """Compare the three averages with their limits; an empty one is not compared."""
    limits = (whole(word, "load limit", strict=strict) if word else None for word in words)
    over = next(overloads(text, limits), None)
    if over is None:
        return PASSED
    limit_text = words[_MINUTES.index(over.minutes)]
    return failed(_LOADAVG, f"{over.minutes}-minute load average too high:  {int(over.average)} >= {limit_text}")


def judge_kswapd(processes: Sequence[ProcessUse], words: Sequence[str], *, strict: bool = False) -> NhcOutcome:
    """Compare the CPU times of the reclaim threads of the NUMA nodes with a limit, and with each other."""
    threshold_text, ratio_text, *actions = [*words, "", ""] if len(words) < 2 else words  # noqa: PLR2004 - two limits
    threads = reclaimers(processes, any_title=strict)
    if len(threads) <= 1:
        return PASSED
    threshold = whole(threshold_text, "number of seconds", strict=strict)
    ratio = whole(ratio_text, "ratio", strict=strict)
    if is_unbalanced([each.cpu_s for each in threads], threshold, ratio):
        pids = " ".join(str(each.pid) for each in threads)
        return react(_KSWAPD, f"NUMA imbalance detected among PIDs {pids}.", actions)
    return PASSED


def reclaimers(processes: Iterable[ProcessUse], *, any_title: bool = False) -> list[ProcessUse]:
    """Give the threads that reclaim memory, one for each NUMA node."""
    # Anybody may call a process so; kernel threads alone have brackets round their names and kthreadd for a parent.
    return [each for each in processes if "kswapd" in each.title and (any_title or _is_kernel_thread(each))]


def _is_kernel_thread(process: ProcessUse) -> bool:
    return process.ppid == _KTHREADD and process.title.startswith("[")


def is_unbalanced(seconds: Sequence[int], threshold: int | None, ratio: int | None) -> bool:
    """Tell whether one of the CPU times is over the threshold, or so many times the least one.

    Where the least is nothing, half the threshold is too much.
    """
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
