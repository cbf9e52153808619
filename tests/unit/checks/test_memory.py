# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from pydantic import ValidationError

from refloat_checks.facts import Facts
from refloat_checks.memory import Memory, MemoryLimits, judge, look
from refloat_contract.words import Status

GB = 1 << 20
HAS = Memory(100 * GB, 10 * GB, 8 * GB, 2 * GB, 2048, {2048: (512, 100), GB: (0, 0)}, {0: 60 * GB, 1: 40 * GB}, 12 * GB)
FINE = "10 GB of 100 GB memory are available"


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({}, Status.OK, FINE),
        ({"min_total": "100G", "min_available": "10%", "min_swap_free": "25%"}, Status.OK, FINE),
        ({"min_total": "101G"}, Status.FAILED, "only 100 GB memory (limit 101G)"),
        ({"min_available": "11%"}, Status.FAILED, "only 10 GB memory available (limit 11%)"),
        ({"min_swap_free": "3G"}, Status.FAILED, "only 2 GB swap free (limit 3G)"),
        ({"max_total": "99G"}, Status.FAILED, "100 GB memory (limit 99G)"),
        ({"min_total": "104G", "max_total": "96G", "tolerance": "4%"}, Status.OK, FINE),
        ({"min_total": "104G", "tolerance": "3G"}, Status.FAILED, "only 100 GB memory (limit 104G)"),
        ({"min_swap": "8G", "max_swap": "8G"}, Status.OK, FINE),
        ({"max_swap": "0"}, Status.FAILED, "8 GB swap (limit 0)"),
        ({"min_with_swap": "109G"}, Status.FAILED, "only 108 GB memory and swap (limit 109G)"),
        ({"max_with_swap": "107G"}, Status.FAILED, "108 GB memory and swap (limit 107G)"),
        ({"min_free": "12G", "min_with_swap_free": "14G"}, Status.OK, FINE),
        ({"min_free": "13%"}, Status.FAILED, "only 12 GB memory free (limit 13%)"),
        ({"min_with_swap_free": "15G"}, Status.FAILED, "only 14 GB memory and swap free (limit 15G)"),
        ({"numa_nodes": 2, "max_numa_spread_percent": 34}, Status.OK, FINE),
        ({"numa_nodes": 4}, Status.FAILED, "2 NUMA nodes have memory (should be 4)"),
        ({"max_numa_spread_percent": 33}, Status.FAILED, "NUMA node 1 has only 40 GB, others have 60 GB"),
        ({"min_hugepages": 512, "max_hugepages": 512, "min_hugepages_free": 100}, Status.OK, FINE),
        ({"min_hugepages": 513}, Status.FAILED, "only 512 huge pages of 2048 kB (limit 513)"),
        ({"max_hugepages": 0}, Status.FAILED, "512 huge pages of 2048 kB are set aside (limit 0)"),
        ({"min_hugepages_free": 101}, Status.FAILED, "only 100 huge pages of 2048 kB are free (limit 101)"),
        ({"hugepage_kb": GB, "min_hugepages": 1}, Status.FAILED, f"only 0 huge pages of {GB} kB (limit 1)"),
        ({"hugepage_kb": 64, "max_hugepages": 0}, Status.UNKNOWN, "this kernel has no huge pages of 64 kB"),
    ],
)
def test_memory_is_judged(limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(HAS, MemoryLimits(**limits), "m")

    assert (finding.status, finding.message) == (status, message)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="cannot be a percentage"):
        MemoryLimits(min_total="50%")


async def test_the_given_tables_are_read(facts: Facts) -> None:
    (facts.roots.proc / "meminfo").write_text(
        "MemTotal:  2048 kB\nMemAvailable: 1024 kB\nActive(anon): 5 kB\nHugepagesize:  2048 kB\n"
    )
    node = facts.roots.sys / "devices" / "system" / "node"
    for number, kb in ((0, 2048), (1, 0)):
        (node / f"node{number}").mkdir(parents=True)
        (node / f"node{number}" / "meminfo").write_text(
            f"Node {number} MemTotal: {kb} kB\nNode {number} MemFree: 1 kB\n"
        )
    pages = facts.roots.sys / "kernel" / "mm" / "hugepages" / "hugepages-2048kB"
    pages.mkdir(parents=True)
    (pages / "nr_hugepages").write_text("3\n")
    (pages / "free_hugepages").write_text("2\n")

    finding = await look(facts, MemoryLimits(min_available="50%", numa_nodes=1, min_hugepages=4), "m")

    assert (finding.status, finding.message) == (Status.FAILED, "only 3 huge pages of 2048 kB (limit 4)")
    assert finding.measures == {"total_kb": 2048, "available_kb": 1024, "swap_free_kb": 0, "numa_nodes": 1}
