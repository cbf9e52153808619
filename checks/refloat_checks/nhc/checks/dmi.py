# SPDX-License-Identifier: Apache-2.0
"""check_dmi_data_match and check_dmi_raw_data_match: what the firmware tells of the machine, as dmidecode prints it."""

from __future__ import annotations

import re

from refloat_checks.nhc import deviations
from refloat_checks.nhc.arithmetic import evaluate
from refloat_checks.nhc.checks.launching import once
from refloat_checks.nhc.checks.options import getopts
from refloat_checks.nhc.checks.patterns import require_meaning
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed, otherwise
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Final

_DATA: Final = "check_dmi_data_match"
_RAW: Final = "check_dmi_raw_data_match"
_HANDLE: Final = re.compile(r"Handle ([A-Fa-fXx0-9]+), DMI type ([0-9]+), ")
_INDENTED: Final = re.compile(r"(\s+)(\S.*)$")


@record
class Structure:
    """One DMI structure; each of its lines with the headings that it stands under: `Section: Sub: text`."""

    handle: int
    type_number: str
    type_name: str
    lines: tuple[str, ...]


def parse(raw: Iterable[str]) -> tuple[Structure, ...]:
    """Read dmidecode's output."""
    found: list[Structure] = []
    block: list[str] = []
    heading: re.Match[str] | None = None
    for line in raw:
        at_handle = _HANDLE.match(line)
        if at_handle is None:
            block.append(line)
            continue
        if heading is not None:
            found.append(_structure(heading, block))
        heading, block = at_handle, []
    if heading is not None:
        found.append(_structure(heading, block))
    return tuple(found)


def _structure(heading: re.Match[str], block: Sequence[str]) -> Structure:
    tags: list[str] = []
    lines = []
    type_name = ""
    for line in block:
        indented = _INDENTED.match(line)
        if indented is None:
            type_name = text = line
        else:
            text = indented[2]
            tags = tags[: len(indented[1])]
            lines.append(" ".join((*tags, text)))
        tags.append(text if text.endswith(":") else f"{text}:")
    return Structure(evaluate(heading[1]) or 0, heading[2], type_name, tuple(lines))


def judge_data(
    structures: Sequence[Structure], pattern: str, handles: str, of_type: str, *, negated: bool
) -> NhcOutcome:
    """Look for a line among the structures of these handles or this type, or that there is none."""
    wanted = frozenset(evaluate(handle) for handle in handles.split())
    found = chosen(structures, wanted, of_type)
    if not found and not wanted:
        return failed(_DATA, "No valid DMI handles found")
    return _judge(_DATA, (line for each in found for line in each.lines), pattern, negated=negated)


def chosen(structures: Iterable[Structure], handles: Collection[int | None], of_type: str) -> list[Structure]:
    """Give the structures of these handles, or of all if none are given, and of this type, by number or name."""
    return [
        each
        for each in structures
        if (not handles or each.handle in handles) and of_type in {"", each.type_number, each.type_name}
    ]


def first_match(lines: Iterable[str], pattern: str) -> str | None:
    """Find the first line that matches."""
    return next((line for line in lines if matches(pattern, line)), None)


def _judge(name: str, lines: Iterable[str], pattern: str, *, negated: bool) -> NhcOutcome:
    found = first_match(lines, pattern)
    if found is not None:
        return failed(name, f"Match found for {pattern}:  {found}") if negated else PASSED
    return PASSED if negated else failed(name, f"No match found for {pattern}")


async def dmidecode(run: NhcRun) -> list[str] | None:
    """Give the lines that dmidecode prints, once per pass; None if it cannot be run."""
    done = await once(("dmidecode",), run)
    return done.lines if done.rc == 0 else None


async def _data(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    given = getopts(_DATA, ":!h:nt:", words)
    if isinstance(given, NhcOutcome):
        return given
    is_marked = given.rest[:1] == ("!",)
    pattern = " ".join(given.rest[1:] if is_marked else given.rest)
    negated = is_marked or given.has("!") or given.has("n")
    require_meaning(run, pattern)
    raw = await dmidecode(run)
    structures = parse(raw or ())
    outcome = judge_data(structures, pattern, given.last("h"), given.last("t"), negated=negated)
    return outcome if raw is not None else otherwise(run, deviations.NO_DMI, _DATA, "dmidecode gives no data", outcome)


async def _raw(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    negated = words[:1] == ["!"]
    pattern = " ".join(words[1:] if negated else words)
    require_meaning(run, pattern)
    raw = await dmidecode(run)
    outcome = _judge(_RAW, raw or (), pattern, negated=negated)
    return outcome if raw is not None else otherwise(run, deviations.NO_DMI, _RAW, "dmidecode gives no data", outcome)


CHECKS: Final = (NativeCheck(_DATA, _data), NativeCheck(_RAW, _raw))
