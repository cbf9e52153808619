# SPDX-License-Identifier: Apache-2.0
"""NHC's sizes (kB), counts and times, with its own idea of each: `1b` is a kilobyte, and 1.5 GB are `1536MB`.

Where NHC's own parser gives no number (`1.5G`, `1GiB`, `010`) its checks compare nothing and pass; here that is
BadUnit.
"""

from __future__ import annotations

from refloat_checks.nhc.arithmetic import evaluate, is_plain, wrap
from refloat_contract.errors import Misconfigured

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

_UNITS: Final = "kmgtpe"
_SECONDS: Final = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_TIME_PART: Final = r"(?s)([0-9]*)(.?)"
_CPU_TIME: Final = frozenset("0123456789MmSs")
_SLACK_PERCENT: Final = 10


class BadUnit(Misconfigured):
    """An amount that cannot be read; says what would be right."""


def parse_size(text: str, mult: int = 1024) -> int:
    """Read a size such as `10G` or `512MB` as kB; a bare number is kB, and so is one with a lone `b`.

    Raises BadUnit where NHC gets no number.
    """
    body = text[:-1] if text[-1:] in {"b", "B"} else text
    unit = body[-1:].lower()
    if unit == "k":
        return _plain(body[:-1], text)
    if unit and unit in _UNITS:
        return _scaled(body[:-1], mult ** _UNITS.index(unit), text)
    return _plain(body, text)


def parse_count(text: str, mult: int = 1000) -> int:
    """Read a count such as `10k`; units are powers of 1000. Raises BadUnit where NHC gets no number."""
    unit = text[-1:].lower()
    if unit and unit in _UNITS:
        return _scaled(text[:-1], mult ** (_UNITS.index(unit) + 1), text)
    return _plain(text, text)


def _plain(number: str, text: str) -> int:
    # NHC hands these on as they are, so that 010 is read as octal or decimal depending on who uses it.
    digits = number.removeprefix("-")
    if not (digits.isdecimal() and digits.isascii() and (digits[0] != "0" or digits == "0")):
        raise BadUnit(f"{text!r} is not an amount that NHC can read: write a whole number and one unit, as in 10G")
    return int(number)


def _scaled(number: str, factor: int, text: str) -> int:
    # The shell's arithmetic scales these: it knows octal and hexadecimal numbers, blanks and signs.
    if is_plain(number):
        return wrap(int(number) * factor)
    value = evaluate(f"{number}*{factor}") if any(character.isdigit() for character in number) else None
    if value is None:
        raise BadUnit(f"{text!r} is not an amount that NHC can read: write a whole number and one unit, as in 10G")
    return value


def unparse_size(kb: int, mult: int = 1024) -> str:
    """Spell kB with the largest unit that is not more than 10 % wrong at any step up to it."""
    value, steps = _climb(kb, mult, len(_UNITS) - 1)
    return f"{value}{'kMGTPE'[steps]}B"


def unparse_count(count: int, mult: int = 1000) -> str:
    """Spell a count with the largest unit that is not more than 10 % wrong at any step up to it."""
    value, steps = _climb(count, mult, len(_UNITS))
    return f"{value}{('', *'kMGTPE')[steps]}"


def _climb(value: int, mult: int, most: int) -> tuple[int, int]:
    """Divide as often as it fits well; the last remainder alone decides about rounding."""
    steps = remainder = 0
    while value >= mult and steps < most:
        percent = wrap(value % mult * 100) // mult
        if min(percent, 100 - percent) > _SLACK_PERCENT:
            break
        value, remainder = divmod(value, mult)
        steps += 1
    return value + (remainder >= mult // 2), steps


def parse_timespec(text: str, *, strict: bool = False) -> int:
    """Read a time such as `1w2d3h4m5s` as seconds; a bare number at the end is seconds, and `10f` is no part of it.

    NHC stops where it cannot read on and keeps what it has so far, and takes `08` (bad octal) for nothing. With
    `strict` that is BadUnit.
    """
    import re  # noqa: PLC0415 - of the units this alone takes it

    part = re.compile(_TIME_PART)
    seconds = at = 0
    while at < len(text):
        found = part.match(text, at)
        if found is None:
            raise AssertionError("it matches everywhere")
        number, unit = found[1], found[2].lower()
        if not number or (unit and unit != "f" and unit not in _SECONDS):
            if strict:
                raise BadUnit(f"{text!r} is not a time at character {found.end()}: write it as in 1d12h30m")
            return seconds
        if unit != "f":
            seconds = wrap(seconds + _shell_number(number, text, strict=strict) * _SECONDS[unit or "s"])
        at = found.end()
    return seconds


def _shell_number(digits: str, text: str, *, strict: bool) -> int:
    value = evaluate(digits)
    if value is None and strict:
        raise BadUnit(f"{text!r}: {digits!r} is no number to the shell, which takes it for octal")
    return value or 0


def parse_cputime(text: str) -> int:
    """Read a limit of CPU time such as `60m`, `1m30s` or `90` as seconds.

    Raises BadUnit where NHC refuses it or gets no number, as with a capital S.
    """
    if not text or not _CPU_TIME.issuperset(text):
        raise BadUnit(f"{text!r} is not a CPU time: write it as in 60m30s")
    body = text.replace("s", "")
    parts = body.replace("M", "m").split("m")
    value = evaluate(f"{parts[0] or 0}*60+{parts[-1] or 0}" if len(parts) > 1 else body)
    if value is None or "S" in body:
        raise BadUnit(f"{text!r} is not a CPU time that NHC can read: write it as in 60m30s")
    return value
