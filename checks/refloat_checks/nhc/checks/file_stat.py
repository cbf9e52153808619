# SPDX-License-Identifier: Apache-2.0
"""check_file_stat: owners, permissions, device numbers and times of files; of links themselves, not their targets."""

from __future__ import annotations

from refloat_checks.file_faults import Seen, Wanted, faults
from refloat_checks.nhc.checks.numbers import whole
from refloat_checks.nhc.checks.options import Options, absolute, getopts
from refloat_checks.nhc.native import PASSED, Aborted, NativeCheck, NhcOutcome, NhcRun, failed
from refloat_contract.records import record, replace

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from refloat_checks.probed import Attributes

NAME: Final = "check_file_stat"
_ANYTHING: Final = Wanted()


_NUMBER: Final = "device number"
_SECONDS: Final = "number of seconds"


@record
class _Test:
    """What an option compares, how its argument is read (a text, if not as a number), and what a fault is called."""

    part: str
    said: str
    number: str = ""


# In NHC's order, which decides what is reported of several faults.
_TESTS: Final = {
    "N": _Test("changed_within_s", "ctime is not newer than {text}s", _SECONDS),
    "O": _Test("changed_before_s", "ctime is not older than {text}s", _SECONDS),
    "D": _Test("device", "device number is {seen:#x}; should be {text}", _NUMBER),
    "g": _Test("gid", 'GID is "{seen}"; should be "{text}"'),
    "u": _Test("uid", 'UID is "{seen}"; should be "{text}"'),
    "G": _Test("group", 'groupname is "{seen}"; should be "{text}"'),
    "t": _Test("major", "has device major number {seen:#x}; should be {text}", _NUMBER),
    "T": _Test("minor", "has device minor number {seen:#x}; should be {text}", _NUMBER),
    "m": _Test("mode", "has permissions 0{seen:o}; should be {text}", "mode"),
    "M": _Test("mode_has", "has permissions 0{seen:o}; should be at least {text}", "mode"),
    "n": _Test("written_within_s", "mtime is not newer than {text}s", _SECONDS),
    "o": _Test("written_before_s", "mtime is not older than {text}s", _SECONDS),
    "U": _Test("user", 'username is "{seen}"; should be "{text}"'),
}
# With these the shell calculates, and gives up at what is no number; with the others it only compares.
_CALCULATED: Final = frozenset("NOnoM")


def judge(name: str, seen: Seen, given: Options, now: float, *, strict: bool = False) -> NhcOutcome:
    """Apply the tests up to the first that is not true."""
    for letter, test in _TESTS.items():
        text = given.last(letter) or (given.last("d") if letter == "D" else "")
        if not text:
            continue
        value = whole(text, test.number, strict=strict) if test.number else text
        if value is None and letter in _CALCULATED:
            raise Aborted
        asked: dict[str, Any] = {test.part: value}
        for fault in faults(seen, replace(_ANYTHING, **asked), now):
            return failed(NAME, f'File "{name}" {test.said.format(seen=fault.seen, text=text)}')
    return PASSED


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


async def _seen(attributes: Attributes, given: Options, run: NhcRun) -> Seen:
    user = await run.facts.user_name(attributes.uid) if given.has("U") else ""
    group = await run.facts.group_name(attributes.gid) if given.has("G") else ""
    nameless = "UNKNOWN"  # as stat(1) shows an owner without a name
    return Seen(attributes, nameless if user.isdigit() else user, nameless if group.isdigit() else group)


CHECKS: Final = (NativeCheck(NAME, _look),)
