# SPDX-License-Identifier: Apache-2.0
"""Check the load averages."""

from typing import Self

from pydantic import Field, model_validator

from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.load import overloads
from refloat_checks.verdicts import verdict


class LoadLimits(Limits):
    """What the load averages must stay below.

    ```toml
    [[check]]
    name = "load"
    type = "load"
    below_5m = 512
    below_15m = 384
    fail_after = 3
    ```
    """

    below_1m: float | None = Field(None, gt=0, description="The average of one minute must be below this.")
    below_5m: float | None = Field(None, gt=0, description="The average of five minutes.")
    below_15m: float | None = Field(None, gt=0, description="The average of fifteen minutes.")

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if (self.below_1m, self.below_5m, self.below_15m) == (None, None, None):
            raise ValueError("one of the keys below_1m, below_5m or below_15m must set a limit")
        return self


def judge(text: str, limits: LoadLimits, name: str) -> Finding:
    """Compare what `/proc/loadavg` holds with the limits."""
    over = overloads(text, (limits.below_1m, limits.below_5m, limits.below_15m))
    wrong = [f"load average of {each.minutes} min is {each.average:g} (must be below {each.limit:g})" for each in over]
    one, five, fifteen = (float(word) for word in text.split()[:3])
    measures = {"load_1m": one, "load_5m": five, "load_15m": fifteen}
    return verdict(name, f"load averages are {one:g}, {five:g}, {fifteen:g}", wrong, measures=measures)


async def look(facts: Facts, limits: LoadLimits, name: str) -> Finding:
    """Read the averages, once per pass."""
    return judge(await facts.proc_text("loadavg"), limits, name)
