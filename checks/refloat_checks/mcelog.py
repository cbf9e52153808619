# SPDX-License-Identifier: Apache-2.0
"""Check how many memory errors mcelog's daemon has counted within a day."""

from pydantic import Field, field_validator

from refloat_checks.api import Finding, Limits, unknown
from refloat_checks.commands import valid_program
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.launching import Ended, once
from refloat_checks.nhc.checks.machine_checks import daily_counts, refuses, tells
from refloat_checks.nhc.native import NhcRun
from refloat_checks.verdicts import verdict


class McelogLimits(Limits):
    """How many errors each memory module may have had in 24 hours. Without mcelog's daemon see `type = "edac"`.

    ```toml
    [[check]]
    name = "mcelog"
    type = "mcelog"
    max_corrected_per_day = 9
    max_uncorrected_per_day = 0
    ```
    """

    max_corrected_per_day: int | None = Field(9, ge=0, description="Largest number of errors that were corrected.")
    max_uncorrected_per_day: int | None = Field(0, ge=0, description="Largest number of those that were not.")
    argv: tuple[str, ...] = Field(("mcelog", "--client"), min_length=1, description="How mcelog's daemon is asked.")

    @field_validator("argv")
    @classmethod
    def _is_a_program(cls, argv: tuple[str, ...]) -> tuple[str, ...]:
        return valid_program(argv)


def judge(said: str, limits: McelogLimits, name: str) -> Finding:
    """Compare each module's counts of the last day with the limits."""
    most = {"corrected": limits.max_corrected_per_day, "UNcorrected": limits.max_uncorrected_per_day}
    totals = dict.fromkeys(most, 0)
    wrong, unread = [], []
    for kind, text in daily_counts(said):
        if not text.isdigit():
            unread.append(f"mcelog counts {text!r} {kind.lower()} errors")
            continue
        totals[kind] += int(text)
        limit = most[kind]
        if limit is not None and int(text) > limit:
            wrong.append(f"a memory module had {text} {kind.lower()} errors in a day (limit {limit})")
    fine = f"{totals['corrected']} corrected and {totals['UNcorrected']} uncorrected memory errors in a day"
    return verdict(name, fine, wrong, unread, {f"{kind.lower()}_per_day": count for kind, count in totals.items()})


async def look(facts: Facts, limits: McelogLimits, name: str) -> Finding:
    """Ask mcelog's daemon, once per pass; without one nothing is known."""
    done: Ended = await once(limits.argv, NhcRun(facts, {}))
    said = done.output + done.error
    if refuses(said):
        return unknown(name, "no mcelog daemon is running")
    if done.rc != 0 and not tells(said):
        return unknown(name, f"{limits.argv[0]} gives no counts: {said.strip() or done.rc}")
    return judge(said, limits, name)
