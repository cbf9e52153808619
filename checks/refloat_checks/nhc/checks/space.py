# SPDX-License-Identifier: Apache-2.0
"""check_fs_size, _free, _used, _inodes, _ifree, _iused: how large a filesystem is, and how full."""

from __future__ import annotations

from refloat_checks.bounds import Bound, Breach, breach
from refloat_checks.filling import Filling, inodes, space
from refloat_checks.nhc import deviations, units
from refloat_checks.nhc.checks.numbers import count, percent, size_kb
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed, otherwise, passed
from refloat_checks.probed import Usage, is_broken
from refloat_checks.proc import mount_at
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from refloat_checks.nhc.native import Look


@record
class _Unit:
    """How an amount is read and spelled: sizes in kB, or counts."""

    read: Callable[..., int | None]
    spell: Callable[[int], str]


_SIZE: Final = _Unit(size_kb, units.unparse_size)
_COUNT: Final = _Unit(count, units.unparse_count)


def judge_total(amount: Filling, words: Sequence[str], unit: _Unit, name: str, *, strict: bool = False) -> NhcOutcome:
    """Compare the whole with a least and a most; either may be empty."""
    point, least_text, most_text = [*words, "", "", ""][:3]
    least, most = (unit.read(text, strict=strict) if text else None for text in (least_text, most_text))
    what = f"{point} size {unit.spell(amount.total)}" if unit is _SIZE else f"{point} inodes {amount.total}"
    wrong = breach(amount.total, least, most)
    if wrong is Breach.TOO_LITTLE:
        return failed(name, f"{what} less than minimum of {unit.spell(least or 0)}")
    if wrong is Breach.TOO_MUCH:
        return failed(name, f"{what} exceeds maximum of {unit.spell(most or 0)}")
    return PASSED


def judge_free(amount: Filling, words: Sequence[str], unit: _Unit, name: str, *, strict: bool = False) -> NhcOutcome:
    """Compare what is free with the least that must be, or its share."""
    point, text = [*words, "", ""][:2]
    least = _bound(text, unit, strict=strict)
    if least is None or not amount.is_short(least):
        return PASSED
    spelled = unit.spell(amount.free) if unit is _SIZE else str(amount.free)
    if least.is_percent:
        of_inodes = "" if unit is _SIZE else " of inodes"
        text = f"{point} has only {100 - amount.used_percent}%{of_inodes} free ({spelled}), minimum is {text}"
        return failed(name, text)
    free = f"{spelled} free" if unit is _SIZE else f"{spelled} inodes free"
    return failed(name, f"{point} has only {free}, minimum is {unit.spell(int(least.value))}")


def judge_used(amount: Filling, words: Sequence[str], unit: _Unit, name: str, *, strict: bool = False) -> NhcOutcome:
    """Compare what is used with a threshold that must not be reached, or its share."""
    point, text = [*words, "", ""][:2]
    limit = _bound(text, unit, strict=strict)
    if limit is None or not amount.is_full(limit):
        return PASSED
    spelled = unit.spell(amount.used) if unit is _SIZE else str(amount.used)
    if limit.is_percent:
        verb, used = ("is", f"% full ({spelled})") if unit is _SIZE else ("has", f"% of inodes used ({spelled})")
        return failed(name, f"{point} {verb} {amount.used_percent}{used}, threshold is {text}")
    used = f"{spelled} used" if unit is _SIZE else f"{spelled} inodes used"
    return failed(name, f"{point} has {used}, threshold is {unit.spell(int(limit.value))}")


def _bound(text: str, unit: _Unit, *, strict: bool) -> Bound | None:
    if not text:
        return None
    is_percent = text.endswith("%")
    value = percent(text, strict=strict) if is_percent else unit.read(text, strict=strict)
    return None if value is None else Bound(value, is_percent)


def _check(name: str, of: Callable[[Usage], Filling], judge: Callable[..., NhcOutcome]) -> NativeCheck:
    return NativeCheck(name, _look(name, of, judge, _SIZE if of is space else _COUNT))


def _look(name: str, of: Callable[[Usage], Filling], judge: Callable[..., NhcOutcome], unit: _Unit) -> Look:
    async def look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
        point = words[0] if words else ""
        if mount_at(await run.facts.mounts(), point) is None:
            return otherwise(run, deviations.NOT_MOUNTED, name, f"Nothing is mounted on {point}")
        try:
            amount = of(await run.facts.usage(point))
        except OSError as error:
            return _broken(error, point, name, run)
        if amount.total == 0:
            syslog = (f"WARNING:  Possible bogus check:  {name} on pseudofilesystem {point}",)
            nhc = passed(syslog=syslog)
            # Some filesystems make inodes as they need them and report none: nothing can be wrong with them there.
            is_normal = unit is _COUNT
            return nhc if is_normal else otherwise(run, deviations.NO_SIZE, name, f"{point} has no size at all", nhc)
        return judge(amount, words, unit, name, strict=run.strict)

    return look


def _broken(error: OSError, point: str, name: str, run: NhcRun) -> NhcOutcome:
    if is_broken(error) and not run.strict:
        return failed(name, f"{point} is broken: {error.strerror}")
    return otherwise(run, deviations.NO_ANSWER, name, f"{point} cannot be measured: {error.strerror}")


CHECKS: Final = (
    _check("check_fs_size", space, judge_total),
    _check("check_fs_free", space, judge_free),
    _check("check_fs_used", space, judge_used),
    _check("check_fs_inodes", inodes, judge_total),
    _check("check_fs_ifree", inodes, judge_free),
    _check("check_fs_iused", inodes, judge_used),
)
