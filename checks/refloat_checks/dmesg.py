# SPDX-License-Identifier: Apache-2.0
"""Check what stands in the kernel's log, as dmesg prints it."""

from pydantic import Field, field_validator

from refloat_checks.api import Finding, Limits, failed, passed, unknown
from refloat_checks.commands import run, valid_program
from refloat_checks.facts import Facts
from refloat_checks.lines import compare
from refloat_checks.nhc.match_string import MatchString
from refloat_service.completed import Completed


class DmesgLimits(Limits):
    """Which lines must, or must not, stand in the kernel's log.

    The log is a ring: what is old is lost from it, so a line that must be there will be missed one day.

    ```toml
    [[check]]
    name = "kernel-log"
    type = "dmesg"
    lines = ["!*Machine check events logged*", "!*I/O error, dev sd*"]
    ```
    """

    lines: tuple[MatchString, ...] = Field(
        min_length=1, description="Match strings: some line must match each, and with `!` before it none may."
    )
    argv: tuple[str, ...] = Field(("dmesg",), min_length=1, description="What prints the log, as in `dmesg -T`.")

    @field_validator("argv")
    @classmethod
    def _is_a_program(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        return valid_program(argv)


def judge(done: Completed, limits: DmesgLimits, name: str) -> Finding:
    """Compare the log's lines with what is asked for; a log that may not be read proves nothing."""
    if done.returncode != 0:
        return unknown(name, f"{limits.argv[0]} gives no log: {done.complaint}")
    found = compare(done.stdout.splitlines(), limits.lines)
    if found.unwanted is not None:
        return failed(name, f"the kernel's log says: {found.unwanted.line.strip()}")
    if found.missing:
        missing = ", ".join(limits.lines[place] for place in found.missing)
        return failed(name, f"the kernel's log has no line like {missing}")
    return passed(name, "the kernel's log is as it should be")


async def look(facts: Facts, limits: DmesgLimits, name: str) -> Finding:
    """Run dmesg; one that cannot be run raises Refused, which the runner finds UNKNOWN."""
    facts.require_running()
    return judge(await run(limits.argv), limits, name)
