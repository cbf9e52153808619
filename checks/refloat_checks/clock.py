# SPDX-License-Identifier: Apache-2.0
"""Check that the clock is synchronised and near the true time, as chrony tells."""

from dataclasses import dataclass
from typing import Final

from pydantic import Field

from refloat_checks import commands
from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.verdicts import verdict
from refloat_checks.wakes import ClockSet, Wake
from refloat_contract.errors import Transient

# -c: comma-separated, -n: no lookups of names.
_TRACKING: Final = ("chronyc", "-c", "-n", "tracking")
_FIELDS: Final = 14
_UNSYNCHRONISED: Final = "Not synchronised"


class ClockLimits(Limits):
    """How near the true time the clock must be; chrony must run.

    ```toml
    [[check]]
    name = "clock"
    type = "clock"
    max_offset_s = 0.01
    max_stratum = 5
    ```
    """

    max_offset_s: float | None = Field(None, gt=0, description="Largest offset from the true time, either way.")
    max_error_s: float | None = Field(
        None,
        gt=0,
        description="Largest error that is possible: the offset, the root dispersion and half the root delay.",
    )
    max_stratum: int | None = Field(None, ge=1, le=15, description="So many steps at most from a reference clock.")
    synchronised: bool = Field(default=True, description="false: it need not be synchronised at all.")


@dataclass(frozen=True, slots=True)
class Tracking:
    """What chrony tells of the clock; seconds."""

    source: str
    stratum: int
    offset_s: float
    root_delay_s: float
    root_dispersion_s: float
    leap: str

    @property
    def error_s(self) -> float:
        """The largest error that is possible, as chronyc(1) bounds it."""
        return abs(self.offset_s) + self.root_dispersion_s + self.root_delay_s / 2


def parse(text: str) -> Tracking:
    """Parse what `chronyc -c tracking` prints. Raises ValueError for anything else."""
    fields = text.strip().split(",")
    if len(fields) < _FIELDS:
        raise ValueError(f"chronyc said {text.strip()[:80]!r}")
    return Tracking(
        fields[1] or fields[0],
        int(fields[2]),
        float(fields[4]),
        float(fields[10]),
        float(fields[11]),
        fields[13],
    )


def judge(clock: Tracking, limits: ClockLimits, name: str) -> Finding:
    """Compare the clock with what is asked for."""
    offset_s = abs(clock.offset_s)
    if clock.leap == _UNSYNCHRONISED:
        # What it says beside that is of no meaning.
        wrong = ["the clock is not synchronised"] if limits.synchronised else []
        return verdict(name, "the clock is not synchronised, and need not be", wrong)
    wrong = []
    if limits.max_offset_s is not None and offset_s > limits.max_offset_s:
        wrong.append(f"the clock is off by {offset_s:.3g} s (limit {limits.max_offset_s:g} s)")
    if limits.max_error_s is not None and clock.error_s > limits.max_error_s:
        wrong.append(f"the clock may be off by {clock.error_s:.3g} s (limit {limits.max_error_s:g} s)")
    if limits.max_stratum is not None and clock.stratum > limits.max_stratum:
        wrong.append(f"the clock has stratum {clock.stratum} (limit {limits.max_stratum})")
    fine = f"the clock follows {clock.source}, off by {offset_s:.3g} s"
    measures = {"offset_s": clock.offset_s, "error_s": clock.error_s, "stratum": clock.stratum}
    return verdict(name, fine, wrong, measures=measures)


async def _tracking() -> Tracking:
    done = await commands.run(_TRACKING)
    if done.returncode != 0:
        raise Transient(f"chronyc cannot tell: {done.complaint}")
    return parse(done.stdout)


def wakes(limits: ClockLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: the clock being set."""
    return (ClockSet(),)


async def look(facts: Facts, limits: ClockLimits, name: str) -> Finding:
    """Ask chrony, once per pass; where it does not run, the runner finds UNKNOWN."""
    facts.require_running()
    return judge(await facts.remember(("clock",), _tracking), limits, name)
