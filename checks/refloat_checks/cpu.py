# SPDX-License-Identifier: Apache-2.0
"""Check how many processors, cores and hardware threads are online."""

from typing import Self

from pydantic import Field, model_validator

from refloat_checks import hardware
from refloat_checks.api import Finding, Limits
from refloat_checks.cpu_counts import Counts, miscounts
from refloat_checks.facts import Facts
from refloat_checks.hardware import Processors
from refloat_checks.verdicts import verdict
from refloat_checks.wakes import DeviceChange, Wake


class CpuLimits(Limits):
    """How many of them there must be, exactly.

    ```toml
    [[check]]
    name = "cpu"
    type = "cpu"
    sockets = 2
    cores = 128
    threads = 256
    ```
    """

    sockets: int | None = Field(None, ge=1, description="Processors, as in sockets of the board.")
    cores: int | None = Field(None, ge=1, description="Cores, of all sockets.")
    threads: int | None = Field(None, ge=1, description="Hardware threads, of all cores: what nproc counts.")

    @model_validator(mode="after")
    def _counts_something(self) -> Self:
        if (self.sockets, self.cores, self.threads) == (None, None, None):
            raise ValueError("one of the keys sockets, cores or threads must say what is counted")
        return self


def judge(seen: Processors, limits: CpuLimits, name: str) -> Finding:
    """Compare what is online with what should be."""
    wanted = Counts(limits.sockets, limits.cores, limits.threads)
    wrong = [f"{each.seen} {each.what}s (should be {each.wanted})" for each in miscounts(seen, wanted)]
    fine = f"{seen.sockets} sockets, {seen.cores} cores, {seen.threads} threads"
    return verdict(name, fine, wrong, measures={"sockets": seen.sockets, "cores": seen.cores, "threads": seen.threads})


def wakes(limits: CpuLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: a processor that goes online or offline."""
    return (DeviceChange("cpu"),)


async def look(facts: Facts, limits: CpuLimits, name: str) -> Finding:
    """Count the processors, once per pass."""
    return judge(await hardware.processors(facts), limits, name)
