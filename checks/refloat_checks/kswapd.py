# SPDX-License-Identifier: Apache-2.0
"""Check the kernel threads that reclaim memory: one that runs far more than the others tells of a NUMA imbalance."""

from collections.abc import Sequence

from pydantic import Field

from refloat_checks import hardware, process_table
from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.load import is_unbalanced, reclaimers
from refloat_checks.process_table import ProcessUse
from refloat_checks.verdicts import verdict


class KswapdLimits(Limits):
    """How much processor time `kswapd` threads may have had since boot. One NUMA node alone is always good.

    ```toml
    [[check]]
    name = "numa-balance"
    type = "kswapd"
    max_cpu_s = 3600
    max_ratio = 10
    severity = "warn"
    ```
    """

    max_cpu_s: int = Field(
        gt=0, description="No thread may have had more; where another had nothing, half of it is too much."
    )
    max_ratio: int = Field(gt=0, description="None may have had more than so many times what the least busy one had.")


def judge(processes: Sequence[ProcessUse], limits: KswapdLimits, name: str) -> Finding:
    """Compare the threads' processor times with the limits, and with each other."""
    threads = reclaimers(processes)
    seconds = [each.cpu_s for each in threads]
    said = f"{len(threads)} kswapd threads had {', '.join(map(str, seconds)) or 'no'} s of processor time"
    measures = {"threads": len(threads), "most_cpu_s": max(seconds, default=0)}
    is_bad = len(threads) > 1 and is_unbalanced(seconds, limits.max_cpu_s, limits.max_ratio)
    limit = f"limits: {limits.max_cpu_s} s, {limits.max_ratio} times"
    return verdict(name, said, [f"{said} ({limit})"] if is_bad else (), measures=measures)


async def look(facts: Facts, limits: KswapdLimits, name: str) -> Finding:
    """Look at the process table, once per pass."""
    memory = await hardware.memory(facts)
    return judge(await process_table.uses(facts, memory.ram_kb), limits, name)
