# SPDX-License-Identifier: Apache-2.0
"""Check for processes that are stuck: zombies that nobody takes, and sleepers that nothing wakes."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import Field

from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.proc import Roots, parse_stat, read_text
from refloat_checks.verdicts import a_few, verdict
from refloat_checks.wakes import Pressure, Wake

_ZOMBIE: Final = "Z"
_BLOCKED: Final = "D"
_UTIME: Final = 11  # places behind the state, from proc(5): state is field 3, utime 14, stime 15, starttime 22
_STARTTIME: Final = 19


class StuckLimits(Limits):
    """How many processes may be stuck.

    The process table is looked at twice, `watch_s` apart. A process counts as blocked if it is in uninterruptible sleep
    both times and did not run between: one that waits for a busy disk moves on. For longer spans use `fail_after`.

    ```toml
    [[check]]
    name = "stuck"
    type = "stuck"
    max_blocked = 4
    max_zombies = 100
    fail_after = 3
    ```
    """

    max_blocked: int | None = Field(0, ge=0, description="Largest number of processes in uninterruptible sleep.")
    max_zombies: int | None = Field(None, ge=0, description="Largest number of zombies.")
    min_age_s: float = Field(60.0, ge=0, description="Only processes that were started so long ago count.")
    watch_s: float = Field(2.0, ge=0, description="Time between the two looks; less than `deadline_s`.")
    ignore: MatchString | None = Field(None, description="Match string for names of processes that do not count.")


@dataclass(frozen=True, slots=True)
class Sleeper:
    """A process at one look: its name, state, start and processor time, both in clock ticks."""

    pid: int
    name: str
    state: str
    started: int
    ran: int


def parse(pid: int, text: str) -> Sleeper:
    """Parse `/proc/PID/stat` (proc(5))."""
    name, state, _ = parse_stat(text)
    fields = text[text.rindex(")") + 2 :].split()
    return Sleeper(pid, name, state, int(fields[_STARTTIME]), int(fields[_UTIME]) + int(fields[_UTIME + 1]))


def read(roots: Roots, pids: Collection[int] | None = None) -> tuple[Sleeper, ...]:
    """Read the zombies and blocked processes, all or of these numbers; it takes no process's memory lock."""
    found = []
    for pid in pids if pids is not None else (int(name) for name in os.listdir(roots.proc) if name.isdigit()):  # noqa: PTH208 - names alone
        # It ended between the listing and the reading.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            sleeper = parse(pid, read_text(roots.proc / str(pid) / "stat"))
            if sleeper.state in {_ZOMBIE, _BLOCKED}:
                found.append(sleeper)
    return tuple(found)


def still(before: Collection[Sleeper], after: Collection[Sleeper]) -> tuple[Sleeper, ...]:
    """Give those that are at the second look as they were at the first, without having run between."""
    return tuple(set(before) & set(after))


def judge(sleepers: Collection[Sleeper], ages_s: Mapping[int, float], limits: StuckLimits, name: str) -> Finding:
    """Count the stuck processes that are old enough; `ages_s` by their numbers."""
    counted = [
        each
        for each in sleepers
        if ages_s[each.pid] >= limits.min_age_s and not (limits.ignore and matches(limits.ignore, each.name))
    ]
    blocked, zombies = ([each for each in counted if each.state == state] for state in (_BLOCKED, _ZOMBIE))
    wrong = []
    if limits.max_blocked is not None and len(blocked) > limits.max_blocked:
        wrong.append(f"{len(blocked)} processes are blocked (limit {limits.max_blocked}): {_names(blocked)}")
    if limits.max_zombies is not None and len(zombies) > limits.max_zombies:
        wrong.append(f"{len(zombies)} zombies (limit {limits.max_zombies}): {_names(zombies)}")
    fine = f"{len(blocked)} processes are blocked, {len(zombies)} are zombies"
    return verdict(name, fine, wrong, measures={"blocked": len(blocked), "zombies": len(zombies)})


def _names(sleepers: Collection[Sleeper]) -> str:
    counts = Counter(each.name for each in sleepers)
    return a_few([f"{name} ({count})" if count > 1 else name for name, count in counts.most_common()])


def _ages(roots: Roots, sleepers: Collection[Sleeper]) -> dict[int, float]:
    uptime_s = float(read_text(roots.proc / "uptime").split()[0])
    tick = os.sysconf("SC_CLK_TCK")
    return {each.pid: uptime_s - each.started / tick for each in sleepers}


def wakes(limits: StuckLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: I/O that stands still."""
    return (Pressure("io"),)


async def look(facts: Facts, limits: StuckLimits, name: str) -> Finding:
    """Look at the process table, wait, and look again at those that seemed stuck."""
    before = await facts.read("stuck processes", lambda: read(facts.roots))
    if before:
        await asyncio.sleep(limits.watch_s)
    pids = [each.pid for each in before]
    after = await facts.read(f"stuck processes again for {name}", lambda: read(facts.roots, pids))
    stuck = still(before, after)
    ages_s = await facts.read(f"ages of stuck processes for {name}", lambda: _ages(facts.roots, stuck))
    return judge(stuck, ages_s, limits, name)
