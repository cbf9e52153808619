# SPDX-License-Identifier: Apache-2.0
"""Check what processes of users use: processor, memory, processor time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Self

from pydantic import Field, model_validator

from refloat_checks.amounts import Kilobytes, Size, size_bound, size_text
from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.owners import owner_named
from refloat_checks.nhc.checks.resources import Which, cpu_percent, over, ram_percent, seen
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.process_table import ProcessUse
from refloat_checks.verdicts import a_few, verdict

_LIMITS: Final = ("cpu_percent_below", "cpu_s_below", "ram_below", "virtual_below")
SYSTEM_UIDS: Final = 999


class UsageLimits(Limits):
    """What each of the processes that are meant must stay below. Nothing is done to those that do not.

    ```toml
    [[check]]
    name = "no-work-on-login-nodes"
    type = "usage"
    cpu_percent_below = 90
    cpu_s_below = 3600
    ram_below = "25%"
    severity = "warn"
    ```
    """

    cpu_percent_below: float | None = Field(
        None, gt=0, description="Share of one CPU since it was started, as ps shows it."
    )
    cpu_s_below: float | None = Field(None, gt=0, description="Processor time in seconds.")
    ram_below: Size | None = Field(None, description='Resident memory: `"64G"`, or `"25%"` of all.')
    virtual_below: Kilobytes | None = Field(None, description='Virtual memory: `"128G"`.')
    program: MatchString = Field("*", description="Match string for the first word of its title, as in `*/java`.")
    pattern: MatchString | None = Field(None, description="Match string for its whole command line, instead.")
    user: MatchString | None = Field(None, description="Match string for its owner's name; a number stands for a user.")
    system_users: bool = Field(default=False, description="true: the system's own users are looked at too.")
    max_system_uid: int = Field(SYSTEM_UIDS, ge=0, description="Users of numbers up to this are the system's own.")

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if all(getattr(self, key) is None for key in _LIMITS):
            raise ValueError(f"one of the keys {', '.join(_LIMITS[:-1])} or {_LIMITS[-1]} must set a limit")
        if self.pattern is not None and self.program != "*":
            raise ValueError("program and pattern cannot both be given: the one is a part of the other")
        return self


def judge(
    processes: Sequence[ProcessUse], users: Mapping[int, str], limits: UsageLimits, which: Which, name: str
) -> Finding:
    """Find the processes that have reached a limit; `which` are those that are meant."""
    wrong = []
    for of, limit, said in _asked(limits):
        heavy = [
            f"{each.word} ({each.pid}) of {users[each.uid]} {said(each)}"
            for each in over(processes, users, which, of, limit)
        ]
        if heavy:
            wrong.append(a_few(heavy))
    count = sum(1 for each in processes if which.has(each, users))
    return verdict(name, f"none of {count} processes uses too much", wrong, measures={"processes": count})


def _asked(
    limits: UsageLimits,
) -> Iterator[tuple[Callable[[ProcessUse], float], float, Callable[[ProcessUse], str]]]:
    """Give each limit with what of a process is held against it, and how it is said."""
    percent, seconds, ram, virtual = (getattr(limits, key) for key in _LIMITS)
    if percent is not None:
        yield cpu_percent, percent, lambda each: f"uses {cpu_percent(each):g}% CPU (must be below {percent:g}%)"
    if seconds is not None:
        yield (
            lambda each: each.cpu_s,
            seconds,
            lambda each: f"has had {each.cpu_s} s of processor time (must be below {seconds:g} s)",
        )
    if (bound := size_bound(ram)) is not None:
        of = ram_percent if bound.is_percent else lambda each: float(each.rss_kb)
        yield of, bound.value, lambda each: f"uses {size_text(each.rss_kb)} RAM (must be below {ram})"
    if (bound := size_bound(virtual)) is not None:
        said = f"of virtual memory (must be below {virtual})"
        yield lambda each: each.vsz_kb, bound.value, lambda each: f"uses {size_text(each.vsz_kb)} {said}"


async def look(facts: Facts, limits: UsageLimits, name: str) -> Finding:
    """Look at the process table, once per pass."""
    owner = await owner_named(facts, limits.user or "")
    pattern = limits.program if limits.pattern is None else limits.pattern
    which = Which(pattern, owner, limits.pattern is not None, limits.system_users, limits.max_system_uid)
    return judge(*await seen(facts, which), limits, which, name)
