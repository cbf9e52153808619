# SPDX-License-Identifier: Apache-2.0
"""What the TOML form of a check is, and what the readers of its words share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from refloat_checks.nhc import units
from refloat_checks.nhc.checks.options import Options, getopts
from refloat_checks.nhc.native import NhcOutcome

T = TypeVar("T")
Table = dict[str, Any]


class NoForm(Exception):
    """What these words ask has no TOML form; says why."""


@dataclass(frozen=True, slots=True)
class Converted:
    """The tables, without their names, and which options are left out: what they would do is not looked at."""

    tables: tuple[Table, ...]
    left_out: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Form:
    """How one of NHC's checks is written in TOML; `example` is such a check of an nhc.conf."""

    check: str
    example: str
    convert: Callable[[Sequence[str]], Converted]


def one(table: Table, left_out: Iterable[str] = ()) -> Converted:
    """Give a single table, without the keys that are None or hold nothing."""
    return Converted((given(table),), tuple(left_out))


def given(table: Table) -> Table:
    """Leave out keys that are None, or empty texts or lists."""
    return {key: value for key, value in table.items() if value is not None and value not in ("", (), [])}


def options(name: str, spec: str, words: Sequence[str]) -> Options:
    """Read options. Raises NoForm for those that NHC refuses."""
    return accepted(getopts(name, spec, words))


def accepted(read: T | NhcOutcome) -> T:
    """Give what was read of the words. Raises NoForm where NHC refuses them."""
    if isinstance(read, NhcOutcome):
        raise NoForm(f"NHC refuses it: {read.message.partition(':  ')[2]}")
    return read


def size(text: str) -> str | None:
    """Spell one of NHC's sizes in TOML's units; percentages are the same in both. Raises BadUnit."""
    if not text or text.endswith("%"):
        return text or None
    return _spelled(units.parse_size(text), 1024, "kMGTPE")


def count(text: str) -> str | None:
    """Spell one of NHC's counts. Raises BadUnit."""
    if not text or text.endswith("%"):
        return text or None
    return _spelled(units.parse_count(text), 1000, ("", *"kMGTPE"))


def _spelled(amount: int, step: int, names: Sequence[str]) -> str:
    # With the largest unit that loses nothing.
    if amount == 0:
        return "0"
    place = 0
    while amount % step == 0 and place < len(names) - 1:
        amount, place = amount // step, place + 1
    return f"{amount}{names[place]}"


def whole(text: str) -> int | None:
    """Read a whole number; None where there is none. Raises NoForm for what is not one."""
    if not text:
        return None
    if not text.isdigit():
        raise NoForm(f"{text!r} is not a whole number")
    return int(text)


def plain_user(text: str) -> str | None:
    """Give a user's name; None where there is none. Raises NoForm for a match string of several."""
    if text and not text.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise NoForm(f"{text!r} matches several users, and a check is of one")
    return text or None


def severity(*, is_fatal: bool) -> str | None:
    """Give the severity: only reported, where it is not fatal."""
    return None if is_fatal else "warn"
