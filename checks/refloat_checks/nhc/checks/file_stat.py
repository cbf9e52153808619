# SPDX-License-Identifier: Apache-2.0
"""check_file_stat: owners, permissions, device numbers and times of files; of links themselves, not their targets."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from refloat_checks.nhc.checks.numbers import whole
from refloat_checks.nhc.checks.options import Options, absolute, getopts
from refloat_checks.nhc.native import PASSED, Aborted, NativeCheck, NhcOutcome, NhcRun, failed
from refloat_checks.probes import Attributes

NAME: Final = "check_file_stat"


@dataclass(frozen=True, slots=True)
class FileSeen:
    """A file's attributes, with its owners' names."""

    attributes: Attributes
    user: str
    group: str


def judge(name: str, seen: FileSeen, given: Options, now: float, *, strict: bool = False) -> NhcOutcome:
    """Apply the tests in NHC's order, which decides what is reported of several faults."""
    for letter in ("N", "O", "D", "g", "u", "G", "t", "T", "m", "M", "n", "o", "U"):
        text = given.last(letter) or (given.last("d") if letter == "D" else "")
        complaint = _complaint(letter, text, seen, int(now), strict=strict) if text else ""
        if complaint:
            return failed(NAME, f'File "{name}" {complaint}')
    return PASSED


def _complaint(letter: str, text: str, seen: FileSeen, now: int, *, strict: bool) -> str:
    if letter in {"N", "O", "n", "o"}:
        return _of_time(letter, text, seen.attributes, now, strict=strict)
    if letter in {"m", "M"}:
        return _of_mode(letter, text, seen.attributes.mode, strict=strict)
    if letter in _NAMES:
        what, value = _NAMES[letter]
        return f'{what} is "{value(seen)}"; should be "{text}"' if value(seen) != text else ""
    what, number = _NUMBERS[letter]
    actual = number(seen.attributes)
    wanted = whole(text, "device number", strict=strict)
    return f"{what} {actual:#x}; should be {text}" if wanted is not None and wanted != actual else ""


_NAMES: Final[dict[str, tuple[str, Callable[[FileSeen], str]]]] = {
    "g": ("GID", lambda seen: str(seen.attributes.gid)),
    "u": ("UID", lambda seen: str(seen.attributes.uid)),
    "G": ("groupname", lambda seen: seen.group),
    "U": ("username", lambda seen: seen.user),
}
_NUMBERS: Final[dict[str, tuple[str, Callable[[Attributes], int]]]] = {
    "D": ("device number is", lambda seen: seen.device),
    "t": ("has device major number", lambda seen: os.major(seen.special)),
    "T": ("has device minor number", lambda seen: os.minor(seen.special)),
}


def _of_time(letter: str, text: str, seen: Attributes, now: int, *, strict: bool) -> str:
    age = whole(text, "number of seconds", strict=strict)
    if age is None:
        raise Aborted
    what, when = ("ctime", seen.ctime) if letter.isupper() else ("mtime", seen.mtime)
    is_older = int(when) < now - age
    if letter in "Nn":
        return f"{what} is not newer than {text}s" if is_older else ""
    return "" if is_older else f"{what} is not older than {text}s"


def _of_mode(letter: str, text: str, mode: int, *, strict: bool) -> str:
    wanted = whole(text, "mode", strict=strict)
    if letter == "m":
        wrong = wanted is not None and wanted != mode
        return f"has permissions 0{mode:o}; should be {text}" if wrong else ""
    if wanted is None:
        raise Aborted
    return f"has permissions 0{mode:o}; should be at least {text}" if mode & wanted != wanted else ""


async def _look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    given = getopts(NAME, ":D:G:M:N:O:T:U:d:g:m:n:o:t:u:", words)
    if isinstance(given, NhcOutcome):
        return given
    for name in given.rest:
        examined = await run.facts.examine(absolute(name))
        if examined.itself is None:
            return failed(NAME, f"stat({name}) returned 1:  ")
        outcome = judge(name, await _seen(examined.itself, given, run), given, run.clock(), strict=run.strict)
        if outcome is not PASSED:
            return outcome
    return PASSED


async def _seen(attributes: Attributes, given: Options, run: NhcRun) -> FileSeen:
    user = await run.facts.user_name(attributes.uid) if given.has("U") else ""
    group = await run.facts.group_name(attributes.gid) if given.has("G") else ""
    nameless = "UNKNOWN"  # as stat(1) shows an owner without a name
    return FileSeen(attributes, nameless if user.isdigit() else user, nameless if group.isdigit() else group)


CHECKS: Final = (NativeCheck(NAME, _look),)
