# SPDX-License-Identifier: Apache-2.0
"""check_hw_physmem, _swap, _mem and their _free: how much memory there is, and how much of it is free."""

from __future__ import annotations

from refloat_checks import hardware
from refloat_checks.bounds import Breach, breach
from refloat_checks.hardware import Memory
from refloat_checks.nhc.arithmetic import wrap
from refloat_checks.nhc.checks.numbers import percent, size_kb
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from refloat_checks.nhc.native import Look


@record
class _Kind:
    """A kind of memory: its words in messages, and where it stands in the facts."""

    total_words: str
    free_words: str
    total: Callable[[Memory], int]
    free: Callable[[Memory], int]


_KINDS: Final = {
    "physmem": _Kind("RAM size", "RAM free", lambda m: m.ram_kb, lambda m: m.ram_free_kb),
    "swap": _Kind("SWAP size", "swap free", lambda m: m.swap_kb, lambda m: m.swap_free_kb),
    "mem": _Kind(
        "system memory", "free memory", lambda m: m.ram_kb + m.swap_kb, lambda m: m.ram_free_kb + m.swap_free_kb
    ),
}


def judge_total(total_kb: int, words: Sequence[str], what: str, name: str, *, strict: bool = False) -> NhcOutcome:
    """Compare an amount with `least most [fudge]`; a limit that is not given is zero, as in NHC."""
    least_text, most_text, fudge_text = [*words, "", "", ""][:3]
    least, most = _limit(least_text, strict=strict), _limit(most_text, strict=strict)
    fudge = _fudge(fudge_text, total_kb, strict=strict)
    wrong = breach(total_kb, least, most, fudge)
    if wrong is Breach.TOO_LITTLE:
        return failed(name, f"Actual {what} ({total_kb} kB) less than minimum allowed ({_shown(least_text)} kB).")
    if wrong is Breach.TOO_MUCH:
        return failed(name, f"Actual {what} ({total_kb} kB) greater than maximum allowed ({_shown(most_text)} kB).")
    return PASSED


def judge_free(free_kb: int, words: Sequence[str], what: str, name: str, *, strict: bool = False) -> NhcOutcome:
    """Compare what is free with the least that must be."""
    text = words[0] if words else ""
    if breach(free_kb, _limit(text, strict=strict), None):
        return failed(name, f"Not enough {what} ({free_kb} kB < {_shown(text)} kB).")
    return PASSED


def _limit(text: str, *, strict: bool) -> int | None:
    return size_kb(text, strict=strict) if text else 0


def _shown(text: str) -> str:
    # Only what compared true is shown, so in strict mode too it is a number.
    return str(size_kb(text, strict=True)) if text else ""


def _fudge(text: str, total_kb: int, *, strict: bool) -> int:
    if not text:
        return 0
    if text.endswith("%"):
        share = percent(text, strict=strict)
        return 0 if share is None else wrap(share * total_kb) // 100
    value = size_kb(text, strict=strict)
    return value or 0


def _total(name: str, kind: _Kind) -> Look:
    async def look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
        total_kb = kind.total(await hardware.memory(run.facts))
        return judge_total(total_kb, words, kind.total_words, name, strict=run.strict)

    return look


def _free(name: str, kind: _Kind) -> Look:
    async def look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
        free_kb = kind.free(await hardware.memory(run.facts))
        return judge_free(free_kb, words, kind.free_words, name, strict=run.strict)

    return look


CHECKS: Final = tuple(
    NativeCheck(name, make(name, kind))
    for key, kind in _KINDS.items()
    for name, make in ((f"check_hw_{key}", _total), (f"check_hw_{key}_free", _free))
)
