# SPDX-License-Identifier: Apache-2.0
"""The faults that lines of the kernel log tell of: folded line by line, and which of them stand now."""

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
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
    patterns: list[tuple[Rule, re.Pattern[str], re.Pattern[str] | None]] = []
    for text, at_s, rules in lines:
        if "]: " in text and _OF_PROGRAM.match(text):
            continue
        if rules is not known:
            # A storm's lines come with the same rules.
            known, patterns = rules, [(each, compiled(each.pattern), _good(each)) for each in rules]
        for rule, bad, good in patterns:
            if found := bad.search(text):
                _tally(folded, (rule.id, _subject(found)), rule).add(text, at_s)
                changed = True
            elif good is not None and (found := good.search(text)):
                changed |= folded.pop((rule.id, _subject(found)), None) is not None
    if not changed:
        return faults
    return MappingProxyType({key: each.fault() if isinstance(each, _Tally) else each for key, each in folded.items()})


def _good(rule: Rule) -> re.Pattern[str] | None:
    return None if rule.good is None else compiled(rule.good)


def _subject(found: re.Match[str]) -> str:
    return (found["of"] or "") if "of" in found.re.groupindex else ""


def _tally(folded: dict[Key, Fault | _Tally], key: Key, rule: Rule) -> _Tally:
    known = folded.get(key)
    if isinstance(known, _Tally):
        return known
    if known is None and sum(each == rule.id for each, _ in folded) >= _MOST_SUBJECTS and key[1] != _OTHERS:
        return _tally(folded, (rule.id, _OTHERS), rule)
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
