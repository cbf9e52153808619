# SPDX-License-Identifier: Apache-2.0
"""Check what Moab and TORQUE say of themselves."""

from enum import StrEnum
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from refloat_checks.api import Finding, Limits, failed, passed, unknown
from refloat_checks.commands import valid_program
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.launching import CANNOT_RUN, Ended, once
from refloat_checks.nhc.checks.moab import rm_fault, sched_fault, torque_fault
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.nhc.native import NhcRun


class Asked(StrEnum):
    """Who is asked."""

    SCHEDULER = "scheduler"
    RESOURCE_MANAGERS = "resource_managers"
    TORQUE = "torque"


_ARGV: Final = {
    Asked.SCHEDULER: ("mdiag", "-S", "-v"),
    Asked.RESOURCE_MANAGERS: ("mdiag", "-R", "-v"),
    Asked.TORQUE: ("qmgr", "-c", "print server"),
}
_NAMES: Final = {
    Asked.SCHEDULER: "Moab's scheduler",
    Asked.RESOURCE_MANAGERS: "Moab",
    Asked.TORQUE: "TORQUE",
}


class MoabLimits(Limits):
    """What must be well: the scheduler, the resource managers that it uses, or TORQUE's own scheduling.

    ```toml
    [[check]]
    name = "moab"
    type = "moab"
    ask = "scheduler"
    version = "9.1.*"
    alert = "*"
    ```
    """

    ask: Asked = Field(description='`"scheduler"`, `"resource_managers"` or `"torque"`.')
    version: MatchString | None = Field(None, description="Match string for the scheduler's version.")
    alert: MatchString | None = Field(None, description="Match string for alerts of the scheduler that count.")
    argv: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="What is run instead of `mdiag -S -v`, `mdiag -R -v` or `qmgr -c 'print server'`.",
    )

    @field_validator("argv")
    @classmethod
    def _is_a_program(cls, argv: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return argv and valid_program(argv)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.ask is not Asked.SCHEDULER and (self.version is not None or self.alert is not None):
            raise ValueError('version and alert are of ask = "scheduler"')
        return self


def judge(done: Ended, limits: MoabLimits, name: str) -> Finding:
    """Judge what was said; who does not answer proves nothing of this node."""
    asked = _NAMES[limits.ask]
    if done.rc in CANNOT_RUN:
        return unknown(name, f"{asked} cannot be asked: {done.error.strip() or done.rc}")
    if done.rc != 0:
        return failed(name, f"{asked} gives no answer: {done.error.strip() or done.rc}")
    match limits.ask:
        case Asked.SCHEDULER:
            fault = sched_fault(done.lines, limits.version or "", limits.alert or "")
        case Asked.RESOURCE_MANAGERS:
            fault = rm_fault(done.lines)
        case Asked.TORQUE:
            fault = torque_fault(done.lines)
    return failed(name, fault) if fault else passed(name, f"{asked} is as it should be")


async def look(facts: Facts, limits: MoabLimits, name: str) -> Finding:
    """Ask, once per pass."""
    return judge(await once(limits.argv or _ARGV[limits.ask], NhcRun(facts, {})), limits, name)
