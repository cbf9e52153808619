# SPDX-License-Identifier: Apache-2.0
"""check_file_contents: match strings that some line of a file must match, or with `!` none may."""

from __future__ import annotations

from refloat_checks.lines import compare
from refloat_checks.nhc import conf, deviations
from refloat_checks.nhc.checks.options import absolute
from refloat_checks.nhc.checks.patterns import require_meaning
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed, otherwise, unknown

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

NAME: Final = "check_file_contents"
CAP_BYTES: Final = 4 << 20


def lines(text: str, *, strict: bool = False) -> list[str]:
    r"""Split a file as the shell's `read` does: blanks around a line go, and so do backslashes.

    In strict mode a last line without a line's end goes too.
    """
    if not strict and text and not text.endswith("\n"):
        text += "\n"
    if "\\" in text or "\0" in text:
        return [line for _, line in conf.logical_lines(text)]
    return [line.strip(" \t") for line in text.split("\n")[:-1]]


def judge(name: str, content: Iterable[str], patterns: Sequence[str]) -> NhcOutcome:
    """Go through the lines up to the first that must not be there, or until all that must be were seen."""
    found = compare(content, patterns)
    if found.unwanted is not None:
        pattern = patterns[found.unwanted.place][1:]
        return failed(NAME, f'File "{name}" line {found.unwanted.number} matches "{pattern}".')
    if not found.missing:
        return PASSED
    first = patterns[found.missing[0]]
    if len(patterns) == 1:
        return failed(NAME, f'File "{name}" failed to match "{first}".')
    matched = f"{len(patterns) - len(found.missing)}/{len(patterns)}"
    return failed(NAME, f'File "{name}" matched {matched} patterns.  First failed match:  "{first}".')


async def _look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    name, *patterns = words or [""]
    require_meaning(run, *(pattern.removeprefix("!") for pattern in patterns))
    try:
        data = await run.facts.content(absolute(name), CAP_BYTES)
    except OSError as error:
        without = judge(name, (), patterns)
        if without is not PASSED:
            return without
        return otherwise(run, deviations.UNREADABLE, NAME, f'File "{name}" cannot be read: {error.strerror}', without)
    if len(data) > CAP_BYTES:
        return unknown(NAME, f'File "{name}" is larger than {CAP_BYTES >> 20} MB')
    return judge(name, lines(data.decode(errors="surrogateescape"), strict=run.strict), patterns)


CHECKS: Final = (NativeCheck(NAME, _look),)
