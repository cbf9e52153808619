# SPDX-License-Identifier: Apache-2.0
"""Follows a kernel log by a set of rules: one reader of the log, whoever asks it to go on reading.

A check reads on when it looks; between looks the agent's source of events does, and so learns at once what has changed.
What was found outlives the open file: opened again, it goes on behind the last record that was read.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from refloat_checks.kernel_faults import NOTHING, Faults, fold
from refloat_checks.kernel_lines import is_from_kernel, logged_at_s, message, number, written
from refloat_checks.kernel_rules import Rule

# The longest record that the kernel makes (PRINTKRB_RECORD_MAX and its prefix) is shorter.
_RECORD_BYTES: Final = 8192
BATCH: Final = 2000
"""So many records at once: with a rest of 50 ms behind them, more than a kernel gone mad logs."""
_DIGITS: Final = b"0123456789"
Needles = Mapping[bytes, tuple[Rule, ...]]


def by_needle(rules: Iterable[Rule]) -> Needles:
    """The rules by the text that their lines must contain: most are told apart from most lines by that alone."""
    found: dict[bytes, tuple[Rule, ...]] = {}
    for rule in rules:
        needle = written(rule.contains)
        found[needle] = (*found.get(needle, ()), rule)
    return found


def suspects(records: Sequence[bytes], needles: Needles) -> list[tuple[bytes, Sequence[Rule]]]:
    """The records of the kernel that a rule may be about, with those rules."""
    near = _near(records, needles)
    if not near:
        return []
    if len(near) == 1:
        # As in most storms.
        needle, rules = near[0]
        return [(record, rules) for record in records if needle in record and is_from_kernel(record)]
    return [
        (record, those)
        for record in records
        if is_from_kernel(record)
        and (those := tuple(rule for needle, rules in near if needle in record for rule in rules))
    ]


def _near(records: Sequence[bytes], needles: Needles) -> list[tuple[bytes, tuple[Rule, ...]]]:
    """The needles that are in any of these records, and perhaps some that are not."""
    # Of all records at once, and but once of those that differ in digits only, as most lines of a storm do.
    kinds = b"\n".join(set(b"\n".join(records).translate(None, _DIGITS).split(b"\n")))
    return [(needle, rules) for needle, rules in needles.items() if needle.translate(None, _DIGITS) in kinds]


@dataclass(slots=True, weakref_slot=True, eq=False)
class Follower:
    """Follows one log, each read of which gives one record, by these rules. Reading raises OSError."""

    path: Path
    needles: Needles
    faults: Faults = field(default_factory=lambda: NOTHING)
    records: int = 0
    """How many were read."""
    lost: int = 0
    """How many were overwritten before they were read."""
    on_change: Callable[[], None] | None = None
    """Called whenever what was read has changed the faults, whoever read it."""
    _file: int | None = field(default=None, repr=False)
    _last: int = -1
    _is_abreast: bool = False

    def open(self) -> int:
        """Open the log unless it is open; the descriptor is readable when there are new records."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._is_abreast = False
        return self._file

    def close(self) -> None:
        """Close the log; what was found stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Have the log open meanwhile."""
        was_open = self._file is not None
        self.open()
        try:
            yield
        finally:
            if not was_open:
                self.close()

    def read_new(self, now_s: float) -> bool:
        """Read the next records, up to a batch; true if more may be there."""
        records = _read(self.open())
        more = len(records) == BATCH
        records = self._numbered(records)
        self.records += len(records)
        # The kernel's log clock is nobody's to set, and drifts: of what comes while we look, we know when.
        abreast, self._is_abreast = self._is_abreast, self._is_abreast or not more
        before = self.faults
        self.faults = fold(
            before,
            (
                (message(record), now_s if abreast else min(logged_at_s(record), now_s), rules)
                for record, rules in suspects(records, self.needles)
            ),
        )
        if self.faults is not before and self.on_change is not None:
            self.on_change()
        return more

    def _numbered(self, records: list[bytes]) -> list[bytes]:
        """The records that were not read before. Each gap in the numbers is one that was overwritten."""
        if records and number(records[0]) <= self._last:
            records = [record for record in records if number(record) > self._last]
        if records:
            first, last = number(records[0]), number(records[-1])
            before = self._last if self._last >= 0 else first - 1
            self.lost += last - before - len(records)
            self._last = last
        return records


def _read(file: int) -> list[bytes]:
    """Read the next records, up to a batch."""
    records: list[bytes] = []
    while len(records) < BATCH:
        try:
            record = os.read(file, _RECORD_BYTES)
        except BlockingIOError:
            break
        except OSError as error:
            # Records were overwritten before we read them; the next read gives the oldest that is left.
            if error.errno != errno.EPIPE:
                raise
            continue
        if not record:
            if not records:
                raise OSError(errno.ENODATA, "the log has ended")
            break
        records.append(record)
    return records


# Whoever has a check, or its wake-up, has its follower: with the last of them it goes.
_followers: Final[WeakValueDictionary[tuple[Path, tuple[Rule, ...]], Follower]] = WeakValueDictionary()


def follower(path: Path, rules: tuple[Rule, ...]) -> Follower:
    """Give the follower of this log by these rules: the same one for all who ask."""
    found = _followers.get((path, rules))
    if found is None:
        found = _followers[path, rules] = Follower(path, by_needle(rules))
    return found
