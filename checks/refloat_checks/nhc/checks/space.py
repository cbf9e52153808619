# SPDX-License-Identifier: Apache-2.0
"""check_fs_size, _free, _used, _inodes, _ifree, _iused: how large a filesystem is, and how full."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from refloat_checks.nhc import deviations, units
from refloat_checks.nhc.checks.numbers import below, count, percent, size_kb
from refloat_checks.nhc.native import PASSED, Look, NativeCheck, NhcOutcome, NhcRun, failed, otherwise, passed
from refloat_checks.probes import Usage, is_broken
from refloat_checks.proc import mount_at


@dataclass(frozen=True, slots=True)
class _Amount:
    """Space or inodes of a filesystem: how much in all, how much of it used and free."""

    total: int
    used: int
    free: int

    @property
    def used_percent(self) -> int:
        """The share that is used of what ordinary users see, rounded up as df rounds."""
        seen = self.used + self.free
        return -(-100 * self.used // seen) if seen else 0


@dataclass(frozen=True, slots=True)
class _Unit:
    """How an amount is read and spelled: sizes in kB, or counts."""

    read: Callable[..., int | None]
    spell: Callable[[int], str]


_SIZE: Final = _Unit(size_kb, units.unparse_size)
_COUNT: Final = _Unit(count, units.unparse_count)


def space(usage: Usage) -> _Amount:
    """Give a filesystem's space in kB."""
    return _Amount(usage.size_kb, usage.used_kb, usage.free_kb)


def inodes(usage: Usage) -> _Amount:
    """Give a filesystem's inodes."""
    return _Amount(usage.inodes, usage.inodes - usage.inodes_free, usage.inodes_free)


def judge_total(amount: _Amount, words: Sequence[str], unit: _Unit, name: str, *, strict: bool = False) -> NhcOutcome:
    """Compare the whole with a least and a most; either may be empty."""
    point, least_text, most_text = [*words, "", "", ""][:3]
    least, most = (unit.read(text, strict=strict) if text else None for text in (least_text, most_text))
    what = f"{point} size {unit.spell(amount.total)}" if unit is _SIZE else f"{point} inodes {amount.total}"
    if least is not None and below(amount.total, least):
        return failed(name, f"{what} less than minimum of {unit.spell(least)}")
    if most is not None and below(most, amount.total):
        return failed(name, f"{what} exceeds maximum of {unit.spell(most)}")
    return PASSED


def judge_free(amount: _Amount, words: Sequence[str], unit: _Unit, name: str, *, strict: bool = False) -> NhcOutcome:
    """Compare what is free with the least that must be, or its share."""
    point, text = [*words, "", ""][:2]
    if text.endswith("%"):
        free_percent = 100 - amount.used_percent
        if below(free_percent, percent(text, strict=strict)):
            of_inodes = "" if unit is _SIZE else " of inodes"
            free = unit.spell(amount.free) if unit is _SIZE else amount.free
            return failed(name, f"{point} has only {free_percent}%{of_inodes} free ({free}), minimum is {text}")
        return PASSED
    least = unit.read(text, strict=strict) if text else None
    if least is not None and below(amount.free, least):
        free = f"{unit.spell(amount.free)} free" if unit is _SIZE else f"{amount.free} inodes free"
        return failed(name, f"{point} has only {free}, minimum is {unit.spell(least)}")
    return PASSED


def judge_used(amount: _Amount, words: Sequence[str], unit: _Unit, name: str, *, strict: bool = False) -> NhcOutcome:
    """Compare what is used with a threshold that must not be reached, or its share."""
    point, text = [*words, "", ""][:2]
    if text.endswith("%"):
        most = percent(text, strict=strict)
        if most is not None and amount.used_percent >= most:
            used = f"% full ({unit.spell(amount.used)})" if unit is _SIZE else f"% of inodes used ({amount.used})"
            verb = "is" if unit is _SIZE else "has"
            return failed(name, f"{point} {verb} {amount.used_percent}{used}, threshold is {text}")
        return PASSED
    most = unit.read(text, strict=strict) if text else None
    if most is not None and amount.used >= most:
        used = f"{unit.spell(amount.used)} used" if unit is _SIZE else f"{amount.used} inodes used"
        return failed(name, f"{point} has {used}, threshold is {unit.spell(most)}")
    return PASSED


def _check(name: str, of: Callable[[Usage], _Amount], judge: Callable[..., NhcOutcome]) -> NativeCheck:
    return NativeCheck(name, _look(name, of, judge, _SIZE if of is space else _COUNT))


def _look(name: str, of: Callable[[Usage], _Amount], judge: Callable[..., NhcOutcome], unit: _Unit) -> Look:
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
