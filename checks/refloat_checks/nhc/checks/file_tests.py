# SPDX-License-Identifier: Apache-2.0
"""check_file_test: the tests of test(1) on files, all of which must be true."""

from __future__ import annotations

import os

from refloat_checks.file_faults import Seen, Wanted, faults
from refloat_checks.nhc import deviations
from refloat_checks.nhc.checks.options import absolute
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed, otherwise

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from refloat_checks.probed import Examination

NAME: Final = "check_file_test"
_FLAGS: Final = frozenset("abcdefghkprstuwxOGLSN")
_WANTED: Final = {
    "a": Wanted(),
    "b": Wanted(type="block"),
    "c": Wanted(type="char"),
    "d": Wanted(type="directory"),
    "e": Wanted(),
    "f": Wanted(type="file"),
    "g": Wanted(mode_has=0o2000),
    "h": Wanted(type="symlink"),
    "k": Wanted(mode_has=0o1000),
    "p": Wanted(type="fifo"),
    "r": Wanted(access="r"),
    "s": Wanted(min_size=1),
    "u": Wanted(mode_has=0o4000),
    "w": Wanted(access="w"),
    "x": Wanted(access="x"),
    "L": Wanted(type="symlink"),
    "N": Wanted(unread=True),
    "S": Wanted(type="socket"),
}
_SYNTAX: Final = 2


def judge(files: Mapping[str, Examination], words: Sequence[str]) -> NhcOutcome:
    """Apply each flag to each file, up to the first test that is false; with `-!` one of them must be."""
    flags, names, is_negated = _sorted(words)
    if isinstance(flags, NhcOutcome):
        return flags
    result, said = 0, ""
    for flag in flags:
        for name in names:
            result, said = _test(flag, name, files), f"-{flag} {name}"
            if result != 0:
                return PASSED if is_negated else failed(NAME, f"{said} returned {result}.")
    return failed(NAME, f"{said} returned {result}.") if is_negated else PASSED


def _sorted(words: Sequence[str]) -> tuple[tuple[str, ...] | NhcOutcome, tuple[str, ...], bool]:
    flags: list[str] = []
    names: list[str] = []
    for word in words:
        if word.startswith("-") and word[1:] in _FLAGS:
            flags.append(word[1:])
        elif word.startswith("-") and word != "-!":
            return failed(NAME, f'Syntax error:  Invalid/unsupported operator "{word}".'), (), False
        elif word != "-!":
            names.append(word)
    if not flags or not names:
        return failed(NAME, "Syntax error:  Missing parameters."), (), False
    return tuple(flags), tuple(names), "-!" in words


def _test(flag: str, name: str, files: Mapping[str, Examination]) -> int:
    # NHC hands the name to the shell once more: nothing left makes test(1) say yes, several words make it complain.
    if not name.strip():
        return 0
    if flag == "t":
        return 1 if name.isdigit() else _SYNTAX
    return 0 if _is_true(flag, files[name]) else 1


def _is_true(flag: str, seen: Examination) -> bool:
    found = seen.itself if flag in {"h", "L"} else seen.target
    return found is not None and not any(faults(Seen(found, access=seen.access), _wanted(flag), 0.0))


def _wanted(flag: str) -> Wanted:
    if flag == "O":
        return Wanted(uid=str(os.geteuid()))
    return Wanted(gid=str(os.getegid())) if flag == "G" else _WANTED[flag]


async def _look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    _, names, _ = _sorted(words)
    if not all(name.strip() for name in names):
        return otherwise(run, deviations.EMPTY_FILE_NAME, NAME, "The name of a file is empty", judge({}, words))
    if run.strict and (odd := next((name for name in names if len(name.split()) > 1), "")):
        flags = next(word for word in words if word.startswith("-"))
        return failed(NAME, f"{flags} {odd} returned {_SYNTAX}.")
    return judge({name: await run.facts.examine(absolute(name)) for name in names}, words)


CHECKS: Final = (NativeCheck(NAME, _look),)
