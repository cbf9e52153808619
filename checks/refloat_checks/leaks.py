# SPDX-License-Identifier: Apache-2.0
"""Check for memory that the kernel keeps and never gives back: slab caches, and control groups that cannot die."""

from dataclasses import dataclass
from typing import Final, Self

from pydantic import Field, model_validator

from refloat_checks import sysfs
from refloat_checks.amounts import Size, least_size_kb, size_text
from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.memory import parse_table
from refloat_checks.proc import Roots, read_text
from refloat_checks.verdicts import verdict
from refloat_checks.wakes import JOBS, CgroupEmpty, Wake

_OF_V1: Final = "memory"


class LeakLimits(Limits):
    """How much the kernel may keep. Percentages are of all memory.

    ```toml
    [[check]]
    name = "kernel-memory"
    type = "leak"
    max_slab_unreclaimable = "10%"
    max_dying_cgroups = 5000
    severity = "warn"
    ```
    """

    max_slab: Size | None = Field(None, description="Largest amount of memory in slab caches.")
    max_slab_unreclaimable: Size | None = Field(
        None, description="Largest amount of it that cannot be given back: what grows for ever here is a leak."
    )
    max_per_cpu: Size | None = Field(None, description="Largest amount of per-processor memory; control groups use it.")
    max_cgroups: int | None = Field(None, ge=0, description="Largest number of control groups.")
    max_dying_cgroups: int | None = Field(
        None, ge=0, description="Largest number of control groups that are removed but still hold memory (cgroup v2)."
    )

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("at least one of the keys must say how much the kernel may keep")
        return self


@dataclass(frozen=True, slots=True)
class Kept:
    """What the kernel keeps, in kB, and its control groups; None: this kernel does not tell."""

    total_kb: int
    slab_kb: int
    unreclaimable_kb: int
    per_cpu_kb: int
    cgroups: int | None
    dying: int | None


def read(roots: Roots) -> Kept:
    """Read what the kernel keeps. Raises KeyError for one that does not tell."""
    table = parse_table(read_text(roots.proc / "meminfo"))
    cgroups, dying = _cgroups(roots)
    return Kept(table["MemTotal"], table["Slab"], table["SUnreclaim"], table.get("Percpu", 0), cgroups, dying)


def _cgroups(roots: Roots) -> tuple[int | None, int | None]:
    if text := sysfs.value(roots.sys / "fs" / "cgroup" / "cgroup.stat"):
        said = dict(line.split() for line in text.splitlines())
        return int(said["nr_descendants"]), int(said["nr_dying_descendants"])
    # Version 1: /proc/cgroups counts those of each controller, the dying ones among them.
    lines = (line.split() for line in (sysfs.value(roots.proc / "cgroups") or "").splitlines())
    return next((int(fields[2]) for fields in lines if fields[0] == _OF_V1), None), None


def judge(kept: Kept, limits: LeakLimits, name: str) -> Finding:
    """Compare what the kernel keeps with what it may."""
    wrong = _of_memory(kept, limits)
    unread = []
    for what, count, most in (
        ("control groups", kept.cgroups, limits.max_cgroups),
        ("dying control groups", kept.dying, limits.max_dying_cgroups),
    ):
        if most is not None and count is None:
            unread.append(f"this kernel does not count {what}")
        elif most is not None and count is not None and count > most:
            wrong.append(f"{count} {what} (limit {most})")
    measures = {"slab_kb": kept.slab_kb, "slab_unreclaimable_kb": kept.unreclaimable_kb, "per_cpu_kb": kept.per_cpu_kb}
    if kept.cgroups is not None:
        measures["cgroups"] = kept.cgroups
    if kept.dying is not None:
        measures["dying_cgroups"] = kept.dying
    fine = f"the kernel keeps {size_text(kept.slab_kb)} in slabs, {size_text(kept.unreclaimable_kb)} of it for good"
    return verdict(name, fine, wrong, unread, measures)


def _of_memory(kept: Kept, limits: LeakLimits) -> list[str]:
    asked = (
        ("slab memory", kept.slab_kb, limits.max_slab),
        ("unreclaimable slab memory", kept.unreclaimable_kb, limits.max_slab_unreclaimable),
        ("per-processor memory", kept.per_cpu_kb, limits.max_per_cpu),
    )
    return [
        f"{size_text(kb)} {what} (limit {most})"
        for what, kb, most in asked
        if most is not None and kb > least_size_kb(most, kept.total_kb)
    ]


def wakes(limits: LeakLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: a job that began or ended."""
    return (CgroupEmpty(JOBS),)


async def look(facts: Facts, limits: LeakLimits, name: str) -> Finding:
    """Read what the kernel keeps, once per pass."""
    return judge(await facts.read("kernel memory", lambda: read(facts.roots)), limits, name)
