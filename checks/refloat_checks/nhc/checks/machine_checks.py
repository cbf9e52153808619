# SPDX-License-Identifier: Apache-2.0
"""check_hw_mcelog: how many memory errors mcelog's daemon has counted within a day."""

from __future__ import annotations

from refloat_checks.nhc import deviations
from refloat_checks.nhc.checks.launching import Ended, once
from refloat_checks.nhc.checks.numbers import whole
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed, otherwise, passed
from refloat_contract.records import replace

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

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
    texts = {"corrected": most_corrected, "UNcorrected": most_uncorrected}
    for kind, count_text in daily_counts(said):
        limit = whole(texts[kind], "limit of errors", strict=strict)
        if limit is not None and (whole(count_text, "count of errors", strict=strict) or 0) > limit:
            text = f"MCEs detected - {count_text} {kind} memory errors detected (limit of {texts[kind]}/day)."
            wrong = failed(NAME, text)
            return replace(wrong, log=(wrong.message,))
    return PASSED


def daily_counts(said: str) -> Iterator[tuple[str, str]]:
    """Give, for each DIMM in turn, `corrected` or `UNcorrected` and the count of the last day."""
    lines = [line for line in said.split("\n") if line]
    for number, line in enumerate(lines):
        if line in _KINDS and number + _DAY_LINE < len(lines):
            yield _KINDS[line], (lines[number + _DAY_LINE].split() or ["0"])[0]


def refuses(said: str) -> bool:
    """Tell whether mcelog has no daemon to ask."""
    return _REFUSED in said


def tells(said: str) -> bool:
    """Tell whether there are counts at all."""
    return any(heading in said for heading in _KINDS)


async def _look(words: Sequence[str], run: NhcRun) -> NhcOutcome:  # noqa: ARG001 - it takes none
    argv = (*run.variable("MCELOG", "mcelog").split(), *run.variable("MCELOG_ARGS", "--client").split())
    done = await once(argv, run)
    limits = [
        run.variables.get(f"MCELOG_MAX_{kind}_RATE", most) for kind, most in (("CORRECTED", "9"), ("UNCORRECTED", "0"))
    ]
    said = done.output + done.error
    if refuses(said):
        line = f"{NAME}:  No mcelog daemon running on {run.variable('HOSTNAME')}"
        return otherwise(
            run, deviations.NO_MCELOG, NAME, "No mcelog daemon is running", passed(log=(line,), syslog=(line,))
        )
    if done.rc != 0 and not tells(said):
        nhc = judge(done, *limits, strict=run.strict)
        return otherwise(run, deviations.NO_MCELOG, NAME, f"{argv[0]} gives no counts: {said.strip() or done.rc}", nhc)
    return judge(done, *limits, strict=run.strict)


CHECKS: Final = (NativeCheck(NAME, _look),)
