# SPDX-License-Identifier: Apache-2.0
"""Check with a site's own executable: exit status 0 is OK, 1 FAILED, anything else UNKNOWN; its first line is why."""

from pydantic import Field, field_validator

from refloat_checks.api import Finding, Limits, failed, passed, unknown
from refloat_checks.commands import not_run, run, valid_program
from refloat_checks.facts import Facts
from refloat_service.completed import Completed


class PluginLimits(Limits):
    """Which executable: it ends with 0 for OK, 1 for FAILED, anything else for UNKNOWN; its first line is the message.

    ```toml
    [[check]]
    name = "licences"
    type = "plugin"
    argv = ["/usr/local/libexec/check-licences", "--quick"]
    interval_s = 600
    ```
    """

    argv: tuple[str, ...] = Field(min_length=1, description="The executable and its arguments; never a shell line.")

    @field_validator("argv")
    @classmethod
    def _is_a_program(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        return valid_program(argv)


def judge(done: Completed, limits: PluginLimits, name: str) -> Finding:
    """Translate an exit status and a first line."""
    line = next((line.strip() for line in done.stdout.splitlines() if line.strip()), "")
    match done.returncode:
        case 0:
            return passed(name, line or f"{limits.argv[0]} ended with 0")
        case 1:
            return failed(name, line or f"{limits.argv[0]} ended with 1")
        case status:
            return unknown(name, line or f"{limits.argv[0]} {not_run(done) or f'ended with {status}'}")


async def look(facts: Facts, limits: PluginLimits, name: str) -> Finding:
    """Run the executable; for an offline tree none is run."""
    facts.require_running()
    return judge(await run(limits.argv), limits, name)
