# SPDX-License-Identifier: Apache-2.0
"""The faults that lines of the kernel log tell of: folded line by line, and which of them stand now."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from refloat_checks.kernel_lines import compiled
from refloat_checks.kernel_rules import Rule

# What the kernel tells of a program begins with a name that its user chose (`a.out[7]: segfault at …`).
_OF_PROGRAM: Final = re.compile(r".{0,15}\[\d+\]: ", re.DOTALL)
# Faults of one rule that are told apart: names in a log must not fill the memory.
_MOST_SUBJECTS: Final = 64
_OTHERS: Final = "others"


Line = tuple[str, float, Sequence[Rule]]
"""A line of the kernel, when it was logged (seconds of this boot), and the rules that it may be about."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a rule has found on one subject: how often, when lately (seconds of this boot), and the last line."""

    rule: Rule
    count: int
    times: tuple[float, ...]
    line: str


Key = tuple[str, str]
"""The id of a rule, and the subject."""
Faults = Mapping[Key, Fault]
NOTHING: Final[Faults] = MappingProxyType({})


_Finder = Callable[[str], str | None]
"""Gives the subject of a line that fits a pattern, empty if that names none; None for a line that does not fit."""


class _Tally:
    """A fault while it is counted: a storm of lines makes one new fault, not one for each line."""

    __slots__ = ("before", "count", "line", "rule", "times")

    def __init__(self, rule: Rule, before: Fault | None) -> None:
        self.rule = rule
        self.count = before.count if before else 0
        self.times = deque(before.times if before else (), maxlen=rule.more_than + 1)
        self.line = ""

    def add(self, line: str, at_s: float) -> None:
        self.count += 1
        self.times.append(at_s)
        self.line = line

    def fault(self) -> Fault:
        return Fault(self.rule, self.count, tuple(self.times), self.line)


def fold(faults: Faults, lines: Iterable[Line]) -> Faults:
    """The faults with some more lines, in their order; the same object if none of them changes anything."""
    folded: dict[Key, Fault | _Tally] = dict(faults)
    changed = False
    known: Sequence[Rule] = ()
    finders: list[tuple[Rule, _Finder, _Finder | None]] = []
    for text, at_s, rules in lines:
        if "]: " in text and _OF_PROGRAM.match(text):
            continue
        if rules is not known:
            # A storm's lines come with the same rules.
            known, finders = rules, [(each, _finder(each.pattern), _good(each)) for each in rules]
        for rule, bad, good in finders:
            if (subject := bad(text)) is not None:
                _tally(folded, rule, subject).add(text, at_s)
                changed = True
            elif good is not None and (subject := good(text)) is not None:
                changed |= folded.pop((rule.id, subject), None) is not None
    if not changed:
        return faults
    return MappingProxyType({key: each.fault() if isinstance(each, _Tally) else each for key, each in folded.items()})


def _finder(pattern: str) -> _Finder:
    search, of = compiled(pattern).search, compiled(pattern).groupindex.get("of")
    if of is None:
        return lambda line: "" if search(line) else None

    def find(line: str) -> str | None:
        found = search(line)
        return None if found is None else found[of] or ""

    return find


def _good(rule: Rule) -> _Finder | None:
    return None if rule.good is None else _finder(rule.good)


def _tally(folded: dict[Key, Fault | _Tally], rule: Rule, subject: str) -> _Tally:
    key = rule.id, subject
    known = folded.get(key)
    if isinstance(known, _Tally):
        return known
    if known is None and sum(each == rule.id for each, _ in folded) >= _MOST_SUBJECTS and subject != _OTHERS:
        return _tally(folded, rule, _OTHERS)
    tally = folded[key] = _Tally(rule, known)
    return tally


def standing(faults: Faults, now_s: float) -> tuple[Fault, ...]:
    """The faults that count now: often enough, and not ended by time."""
    return tuple(fault for fault in faults.values() if _stands(fault, now_s))


def _stands(fault: Fault, now_s: float) -> bool:
    rule = fault.rule
    if len(fault.times) <= rule.more_than:
        return False
    if rule.more_than and fault.times[-1] - fault.times[0] > rule.after_s:
        return False
    return rule.clears != "time" or now_s - fault.times[-1] < rule.after_s
