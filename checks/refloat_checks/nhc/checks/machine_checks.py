# SPDX-License-Identifier: Apache-2.0
"""check_hw_mcelog: how many memory errors mcelog's daemon has counted within a day."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from refloat_checks.nhc import deviations
from refloat_checks.nhc.checks.launching import Ended, once
from refloat_checks.nhc.checks.numbers import whole
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed, otherwise, passed

NAME: Final = "check_hw_mcelog"
_REFUSED: Final = "Connection refused"
_KINDS: Final = {"corrected memory errors:": "corrected", "uncorrected memory errors:": "UNcorrected"}
_DAY_LINE: Final = 2  # behind the heading and the total


def judge(done: Ended, most_corrected: str, most_uncorrected: str, *, strict: bool = False) -> NhcOutcome:
    """Compare each DIMM's counts of the last day with the limits; without limits anything said is a failure."""
    said = done.output + done.error
    if not said.strip("\n"):
        return PASSED
    if not most_corrected or not most_uncorrected:
        return replace(failed(NAME, "MCEs detected in log."), log=(f"{NAME}:  MCEs detected:  {said.rstrip()}",))
    lines = [line for line in said.split("\n") if line]
    limits = {"corrected": most_corrected, "UNcorrected": most_uncorrected}
    for number, line in enumerate(lines):
        kind = _KINDS.get(line, "")
        if not kind or number + _DAY_LINE >= len(lines):
            continue
        count = (lines[number + _DAY_LINE].split() or ["0"])[0]
        limit = whole(limits[kind], "limit of errors", strict=strict)
        if limit is not None and (whole(count, "count of errors", strict=strict) or 0) > limit:
            text = f"MCEs detected - {count} {kind} memory errors detected (limit of {limits[kind]}/day)."
            wrong = failed(NAME, text)
            return replace(wrong, log=(wrong.message,))
    return PASSED


async def _look(words: Sequence[str], run: NhcRun) -> NhcOutcome:  # noqa: ARG001 - it takes none
    argv = (*run.variable("MCELOG", "mcelog").split(), *run.variable("MCELOG_ARGS", "--client").split())
    done = await once(argv, run)
    limits = [
        run.variables.get(f"MCELOG_MAX_{kind}_RATE", most) for kind, most in (("CORRECTED", "9"), ("UNCORRECTED", "0"))
    ]
    said = done.output + done.error
    if _REFUSED in said:
        line = f"{NAME}:  No mcelog daemon running on {run.variable('HOSTNAME')}"
        return otherwise(
            run, deviations.NO_MCELOG, NAME, "No mcelog daemon is running", passed(log=(line,), syslog=(line,))
        )
    if done.rc != 0 and not any(heading in said for heading in _KINDS):
        nhc = judge(done, *limits, strict=run.strict)
        return otherwise(run, deviations.NO_MCELOG, NAME, f"{argv[0]} gives no counts: {said.strip() or done.rc}", nhc)
    return judge(done, *limits, strict=run.strict)


CHECKS: Final = (NativeCheck(NAME, _look),)
