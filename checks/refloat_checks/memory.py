# SPDX-License-Identifier: Apache-2.0
"""Check memory: how much there is and is left, huge pages, and how it is spread over NUMA nodes."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field

from refloat_checks import hardware, sysfs
from refloat_checks.amounts import Kilobytes, Size, least_size_kb, size_text
from refloat_checks.api import Finding, Limits
from refloat_checks.bounds import Breach, breach
from refloat_checks.facts import Facts
from refloat_checks.proc import Roots, read_text
from refloat_checks.verdicts import verdict
from refloat_checks.wakes import Pressure, Wake

_LINE: Final = re.compile(r"^(?:Node \d+ )?(\w+(?:\(\w+\))?):\s+(\d+)", re.MULTILINE)


class MemoryLimits(Limits):
    """How much memory there must be. Sizes are in binary units; percentages are of what there is.

    ```toml
    [[check]]
    name = "memory"
    type = "memory"
    min_total = "500G"
    min_available = "5%"
    numa_nodes = 8
    max_numa_spread_percent = 10
    ```
    """

    min_total: Kilobytes | None = Field(None, description='Least memory that the kernel can use: `"500G"`.')
    max_total: Kilobytes | None = Field(None, description="Largest: a node with more is another model.")
    min_available: Size | None = Field(
        None, description='Least memory that programs can still get without swapping: `"4G"`, `"5%"`.'
    )
    min_free: Size | None = Field(
        None, description="Least memory that is unused, or only buffers and page cache (`min_available` knows better)."
    )
    min_swap: Kilobytes | None = Field(None, description="Least size of the swap.")
    max_swap: Kilobytes | None = Field(None, description='Largest size of the swap; `"0"`: there must be none.')
    min_swap_free: Size | None = Field(None, description='Least free swap: `"1G"`, `"50%"`.')
    min_with_swap: Kilobytes | None = Field(None, description="Least size of memory and swap together.")
    max_with_swap: Kilobytes | None = Field(None, description="Largest size of both.")
    min_with_swap_free: Size | None = Field(None, description="Least of both that is free as in `min_free`.")
    tolerance: Size | None = Field(
        None, description='How far all sizes of `_total`, `_swap` and `_with_swap` may be off: `"1G"`, `"5%"`.'
    )
    numa_nodes: int | None = Field(None, ge=1, description="So many NUMA nodes must have memory.")
    max_numa_spread_percent: float | None = Field(
        None,
        ge=0,
        le=100,
        description="The NUMA node with the least memory may have so much less than the one with the most: "
        "more says that a module is missing.",
    )
    hugepage_kb: int | None = Field(
        None, gt=0, description="Size of the huge pages that are meant; without it the kernel's default size."
    )
    min_hugepages: int | None = Field(None, ge=0, description="Least number of huge pages that are set aside.")
    max_hugepages: int | None = Field(
        None, ge=0, description="Largest number of huge pages that are set aside: some jobs leave theirs behind."
    )
    min_hugepages_free: int | None = Field(None, ge=0, description="Least number of huge pages that are free.")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in kB. Huge pages by their size in kB, as (all, free); NUMA nodes with memory, by their number."""

    total_kb: int
    available_kb: int
    swap_kb: int
    swap_free_kb: int
    default_hugepage_kb: int
    hugepages: dict[int, tuple[int, int]]
    numa_kb: dict[int, int]
    free_kb: int = 0


def parse_table(text: str) -> dict[str, int]:
    """Read the numbers of a meminfo table, of the machine or of a NUMA node."""
    return {name: int(number) for name, number in _LINE.findall(text)}


def read(roots: Roots) -> Memory:
    """Read all that is told of memory. Raises KeyError for a kernel that does not tell how much there is."""
    text = read_text(roots.proc / "meminfo")
    table = parse_table(text)
    pages = sysfs.places(roots.sys / "kernel" / "mm" / "hugepages", "hugepages-*kB")
    nodes = sysfs.places(roots.sys / "devices" / "system" / "node", "node[0-9]*")
    numa = {int(node.name[4:]): parse_table(read_text(node / "meminfo")).get("MemTotal", 0) for node in nodes}
    return Memory(
        table["MemTotal"],
        table["MemAvailable"],
        table.get("SwapTotal", 0),
        table.get("SwapFree", 0),
        table.get("Hugepagesize", 0),
        {int(place.name[10:-2]): _pages(place) for place in pages},
        {number: kb for number, kb in numa.items() if kb},
        hardware.parse_meminfo(text).ram_free_kb,
    )


def _pages(place: Path) -> tuple[int, int]:
    return sysfs.number(place / "nr_hugepages") or 0, sysfs.number(place / "free_hugepages") or 0


def judge(memory: Memory, limits: MemoryLimits, name: str) -> Finding:
    """Compare what there is with what there must be."""
    wrong = [*_of_amounts(memory, limits), *_of_numa(memory, limits)]
    wrong_pages, unread = _of_hugepages(memory, limits)
    fine = f"{size_text(memory.available_kb)} of {size_text(memory.total_kb)} memory are available"
    measures = {
        "total_kb": memory.total_kb,
        "available_kb": memory.available_kb,
        "swap_free_kb": memory.swap_free_kb,
        "numa_nodes": len(memory.numa_kb),
    }
    return verdict(name, fine, wrong + wrong_pages, unread, measures)


def _of_amounts(memory: Memory, limits: MemoryLimits) -> list[str]:
    both_kb, both_free_kb = memory.total_kb + memory.swap_kb, memory.free_kb + memory.swap_free_kb
    sizes = (
        ("memory", memory.total_kb, limits.min_total, limits.max_total),
        ("swap", memory.swap_kb, limits.min_swap, limits.max_swap),
        ("memory and swap", both_kb, limits.min_with_swap, limits.max_with_swap),
    )
    left = (
        ("memory available", memory.available_kb, memory.total_kb, limits.min_available),
        ("memory free", memory.free_kb, memory.total_kb, limits.min_free),
        ("swap free", memory.swap_free_kb, memory.swap_kb, limits.min_swap_free),
        ("memory and swap free", both_free_kb, both_kb, limits.min_with_swap_free),
    )
    wrong = [_of_size(what, kb, least, most, limits.tolerance) for what, kb, least, most in sizes]
    wrong += [_of_rest(what, kb, whole_kb, least) for what, kb, whole_kb, least in left]
    return [each for each in wrong if each]


def _of_size(what: str, kb: int, least: str | None, most: str | None, tolerance: str | None) -> str:
    least_kb, most_kb = (None if text is None else least_size_kb(text, 0) for text in (least, most))
    side = breach(kb, least_kb, most_kb, least_size_kb(tolerance or "0", kb))
    if side is None:
        return ""
    return (
        f"only {size_text(kb)} {what} (limit {least})"
        if side is Breach.TOO_LITTLE
        else f"{size_text(kb)} {what} (limit {most})"
    )


def _of_rest(what: str, kb: int, whole_kb: int, least: str | None) -> str:
    if least is None or breach(kb, least_size_kb(least, whole_kb), None) is None:
        return ""
    return f"only {size_text(kb)} {what} (limit {least})"


def _of_numa(memory: Memory, limits: MemoryLimits) -> list[str]:
    wrong = []
    if limits.numa_nodes is not None and len(memory.numa_kb) != limits.numa_nodes:
        wrong.append(f"{len(memory.numa_kb)} NUMA nodes have memory (should be {limits.numa_nodes})")
    if limits.max_numa_spread_percent is not None and memory.numa_kb:
        node, least_kb = min(memory.numa_kb.items(), key=lambda each: each[1])
        most_kb = max(memory.numa_kb.values())
        spread = 100 * (most_kb - least_kb) / most_kb
        if spread > limits.max_numa_spread_percent:
            wrong.append(f"NUMA node {node} has only {size_text(least_kb)}, others have {size_text(most_kb)}")
    return wrong


def _of_hugepages(memory: Memory, limits: MemoryLimits) -> tuple[list[str], list[str]]:
    asked = (limits.min_hugepages, limits.max_hugepages, limits.min_hugepages_free)
    if all(each is None for each in asked):
        return [], []
    size_kb = limits.hugepage_kb or memory.default_hugepage_kb
    if size_kb not in memory.hugepages:
        return [], [f"this kernel has no huge pages of {size_kb} kB"]
    pages, free = memory.hugepages[size_kb]
    wrong = []
    if limits.min_hugepages is not None and pages < limits.min_hugepages:
        wrong.append(f"only {pages} huge pages of {size_kb} kB (limit {limits.min_hugepages})")
    if limits.max_hugepages is not None and pages > limits.max_hugepages:
        wrong.append(f"{pages} huge pages of {size_kb} kB are set aside (limit {limits.max_hugepages})")
    if limits.min_hugepages_free is not None and free < limits.min_hugepages_free:
        wrong.append(f"only {free} huge pages of {size_kb} kB are free (limit {limits.min_hugepages_free})")
    return wrong, []


def wakes(limits: MemoryLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: memory running short."""
    return (Pressure("memory"),)


async def look(facts: Facts, limits: MemoryLimits, name: str) -> Finding:
    """Read the memory tables, once per pass."""
    return judge(await facts.read("memory and NUMA nodes", lambda: read(facts.roots)), limits, name)
