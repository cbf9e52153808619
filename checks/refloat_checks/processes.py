# SPDX-License-Identifier: Apache-2.0
"""Check that a process runs: by name, first argument or whole command line, and by owner."""

from collections.abc import Iterable
from typing import Final, Self

from pydantic import Field, model_validator

from refloat_checks import titles
from refloat_checks.api import Finding, Limits, failed, passed, unknown
from refloat_checks.facts import Facts
from refloat_checks.nhc.match_string import Glob, MatchString
from refloat_checks.proc import Process
from refloat_checks.titles import Fits
from refloat_checks.wakes import ProcessExit, Wake

_COMM_BYTES: Final = 15  # the kernel cuts a thread's name here (TASK_COMM_LEN)


class ProcessLimits(Limits):
    """Which process must run; what is given of `process`, `argv0`, `pattern`, `contains` and `user` must all fit.

    ```toml
    [[check]]
    name = "munged"
    type = "process"
    process = "munged"
    user = "munge"
    ```
    """

    process: str | None = Field(None, description="Program name, as in `slurmd`: what pgrep or ps -C would find.")
    argv0: MatchString | None = Field(
        None, description="Match string for the first word of its title, as in `*/slurmd`."
    )
    pattern: MatchString | None = Field(
        None, description="Match string for its whole command line, as in `*-Dname=x*`."
    )
    contains: Glob | None = Field(
        None, description="Glob that stands somewhere in its command line, as in `java*-Dname=x`."
    )
    user: str | None = Field(None, description="Its owner, by name or number. Without it anybody's process counts.")
    min_count: int = Field(1, ge=0, description="Least number of such processes.")
    max_count: int | None = Field(None, ge=0, description="Largest number of such processes; 0: none may run.")

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not any((self.process, self.argv0, self.pattern, self.contains)):
            raise ValueError("one of the keys process, argv0, pattern or contains must say which process is meant")
        if self.max_count is not None and self.max_count < self.min_count:
            raise ValueError("max_count must not be less than min_count (to forbid a process: min_count = 0)")
        return self


def judge(processes: Iterable[Process], limits: ProcessLimits, uid: int | None, name: str) -> Finding:
    """Count the processes that fit; `uid` is the number of `limits.user`, None if any owner will do."""
    tests = _tests(limits)
    count = sum(1 for process in processes if _fits(process, limits, uid, tests))
    what = _what(limits)
    if count < limits.min_count:
        least = f" ({count} of at least {limits.min_count})" if limits.min_count > 1 else ""
        return failed(name, f"{what} is not running{least}", processes=count)
    if limits.max_count is not None and count > limits.max_count:
        return failed(name, f"{what} runs {count} times (at most {limits.max_count})", processes=count)
    return passed(name, f"{what} is running" if count else f"{what} is not running, as it should be", processes=count)


def _tests(limits: ProcessLimits) -> list[Fits]:
    given = ((limits.argv0, titles.by_word), (limits.pattern, titles.by_line), (limits.contains, titles.by_part))
    return [make(pattern) for pattern, make in given if pattern is not None]


def _fits(process: Process, limits: ProcessLimits, uid: int | None, tests: Iterable[Fits]) -> bool:
    return (
        process.is_alive
        and (uid is None or process.uid == uid)
        and (limits.process is None or _is_named(process, limits.process))
        and all(fits(process.cmdline) for fits in tests)
    )


def _is_named(process: Process, wanted: str) -> bool:
    if titles.is_session(process.cmdline, wanted):
        return False
    if process.comm == wanted:
        return True
    # Daemons that rewrite their title put a colon behind their name, and all of it into the first word:
    # "sshd: /usr/sbin/sshd -D".
    if _program(process.argv0.split(" ", 1)[0].rstrip(":")) == wanted:
        return True
    # A script has its own name in the kernel, cut there, and its interpreter's in the title's first word.
    script = process.argv[1] if len(process.argv) > 1 else ""
    return process.comm == wanted[:_COMM_BYTES] and _program(script) == wanted


def _program(word: str) -> str:
    return word.rpartition("/")[2]


def _what(limits: ProcessLimits) -> str:
    what = limits.process or limits.argv0 or limits.pattern or limits.contains or ""
    return f"{what} (of {limits.user})" if limits.user else what


def wakes(limits: ProcessLimits) -> tuple[Wake, ...]:
    """Tell what wakes it: the end of a process that fits, whoever owns it."""
    tests = _tests(limits)
    given = (limits.process, limits.argv0, limits.pattern, limits.contains)
    return (ProcessExit(" ".join(filter(None, given)), lambda process: _fits(process, limits, None, tests)),)


async def look(facts: Facts, limits: ProcessLimits, name: str) -> Finding:
    """Look at the process table."""
    uid = None
    if limits.user is not None:
        try:
            uid = await facts.uid(limits.user)
        except OSError as error:
            return unknown(name, f"user {limits.user} cannot be looked up: {error.strerror}")
    return judge(await facts.processes(), limits, uid, name)
