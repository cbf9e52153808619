# SPDX-License-Identifier: Apache-2.0
"""Check what the firmware tells of the machine, as dmidecode prints it."""

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from refloat_checks.api import Finding, Limits, failed, passed, unknown
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.dmi import chosen, dmidecode, first_match, parse
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.nhc.native import NhcRun


class DmiLimits(Limits):
    """Which line dmidecode must print, or must not.

    Each line stands behind its headings: `BIOS Information: Version: 2.19.1`.

    ```toml
    [[check]]
    name = "bios"
    type = "dmi"
    structure = "BIOS Information"
    line = "*: Version: 2.19.1"
    ```
    """

    line: MatchString = Field(description="Match string for a line.")
    exists: bool = Field(default=True, description="false: no line may match.")
    structure: str | int | None = Field(
        None, description='Type of the structures that are looked at, by name or number: `"Memory Device"`, `17`.'
    )
    handles: tuple[int, ...] = Field((), description="Handles of the structures that are looked at, as in `0x0011`.")
    raw: bool = Field(default=False, description="true: lines as dmidecode prints them, without their headings.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.raw and (self.structure is not None or self.handles):
            raise ValueError("raw lines are of no structure: structure and handles cannot be given with raw = true")
        return self


def judge(raw: Sequence[str], limits: DmiLimits, name: str) -> Finding:
    """Look for the line in what dmidecode printed."""
    of_type = "" if limits.structure is None else str(limits.structure)
    lines: Sequence[str] = raw
    if not limits.raw:
        structures = chosen(parse(raw), limits.handles, of_type)
        if not structures:
            return failed(name, "the firmware tells of no such structure")
        lines = [line for each in structures for line in each.lines]
    found = first_match(lines, limits.line)
    if found is None:
        message = f"the firmware tells nothing like {limits.line}"
        return failed(name, message) if limits.exists else passed(name, message)
    message = f"the firmware tells: {found.strip()}"
    return passed(name, message) if limits.exists else failed(name, f"{message} (should not)")


async def look(facts: Facts, limits: DmiLimits, name: str) -> Finding:
    """Run dmidecode, once per pass; without it nothing is known."""
    raw = await dmidecode(NhcRun(facts, {}))
    return unknown(name, "dmidecode gives no data") if raw is None else judge(raw, limits, name)
