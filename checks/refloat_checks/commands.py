# SPDX-License-Identifier: Apache-2.0
"""Check a command's exit status and output."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field, field_validator

from refloat_checks.api import Finding, Limits, failed, passed, unknown
from refloat_checks.facts import Facts
from refloat_checks.lines import compare
from refloat_checks.nhc.match_string import MatchString
from refloat_service import commands
from refloat_service.completed import Completed

# The words of shells and other launchers for "cannot": a wrapper script says so for what it could not run.
_CANNOT_RUN: Final = frozenset({126, 127})
OUTPUT_CAP_BYTES: Final = 1 << 20
DEADLINE_S: Final = 3600.0  # a backstop: the check's own deadline cancels the command, which kills its process group


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class CommandLimits(Limits):
    """What a command must answer.

    ```toml
    [[check]]
    name = "selinux"
    type = "command"
    argv = ["getenforce"]
    output = "@(Disabled|Permissive)"
    ```
    """

    argv: tuple[str, ...] = Field(min_length=1, description="The program and its arguments; never a shell line.")
    exit_status: int = Field(0, ge=0, le=255, description="The exit status that means all is well.")
    output: Annotated[tuple[MatchString, ...], BeforeValidator(_several)] = Field(
        (),
        description="One match string or several: some line of its standard output must match each, "
        "and with `!` before it none may.",
    )

    @field_validator("argv")
    @classmethod
    def _is_a_program(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        return valid_program(argv)


def valid_program(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what the launcher would take for something else than a program."""
    if not argv[0] or "=" in argv[0] or any("\0" in word for word in argv):
        raise ValueError(f"{argv[0]!r} is not a program's name")
    return argv


def judge(done: Completed, limits: CommandLimits, name: str) -> Finding:
    """Compare how a command ended and what it said with what is asked for."""
    program = limits.argv[0]
    if done.returncode != limits.exit_status:
        if reason := not_run(done):
            return unknown(name, f"{program} {reason}")
        said = f": {done.complaint}" if (done.stdout + done.stderr).strip() else ""
        return failed(name, f"{program} ended with {done.returncode} (should be {limits.exit_status}){said}")
    found = compare(done.stdout.splitlines(), limits.output)
    if found.unwanted is not None:
        return failed(name, f"{program} printed: {found.unwanted.line.strip()} (should not)")
    if found.missing:
        missing = ", ".join(limits.output[place] for place in found.missing)
        return failed(name, f"{program} printed no line like {missing}")
    return passed(name, f"{program} ended with {done.returncode}")


def not_run(done: Completed) -> str:
    """Say why a command gave no answer of its own, or nothing if it did."""
    if done.returncode < 0:
        return f"was killed by signal {-done.returncode}"
    return f"cannot be run: {done.complaint}" if done.returncode in _CANNOT_RUN else ""


async def run(argv: tuple[str, ...]) -> Completed:
    """Run a check's command to its end; whoever cancels this kills it with all its children."""
    return await commands.run(argv, deadline_s=DEADLINE_S, cap_bytes=OUTPUT_CAP_BYTES)


async def look(facts: Facts, limits: CommandLimits, name: str) -> Finding:
    """Run the command; one that cannot be run raises Refused, which the runner finds UNKNOWN.

    For an offline tree none is: this system's program would answer for this system, and the tree's own is not trusted.
    """
    facts.require_running()
    return judge(await run(limits.argv), limits, name)
