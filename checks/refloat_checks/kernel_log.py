# SPDX-License-Identifier: Apache-2.0
"""Check the kernel log for lines that tell of a fault of the node, from the beginning of this boot."""

import asyncio
import errno
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import Field, model_validator

from refloat_checks.api import Finding, Limits, Severity
from refloat_checks.facts import Facts
from refloat_checks.kernel_lines import Record, compiled, parse_record
from refloat_checks.kernel_rules import RULES, Rule
from refloat_checks.verdicts import a_few, verdict
from refloat_checks.wakes import KernelLog, Wake
from refloat_contract.errors import Transient

_RECORD_BYTES: Final = 8192
_BATCH: Final = 500
# What the kernel tells of a program begins with a name that its user chose (`a.out[7]: segfault at …`).
_OF_PROGRAM: Final = re.compile(r".{0,15}\[\d+\]: ", re.DOTALL)
# Faults of one rule that are told apart: names in a log must not fill the memory.
_MOST_SUBJECTS: Final = 64


class KernelLogLimits(Limits):
    """Which lines of the kernel log are faults: the shipped rules (below), less some, and the site's own.

    All of this boot counts that the kernel still has, also from before the agent's start; with `sticky` a fault is kept
    for this boot when its line is overwritten, too. Only lines of the kernel count, not what programs write into
    /dev/kmsg, nor those that begin with a program's name and number; so what the daemons of GPFS and BeeGFS write to
    syslog is not seen here (see types `gpfs`, `beegfs`). All shipped rules: kernel-log.md.
    A pattern sees the first 1,024 characters of a line; Python's regular expressions can be slow on those, too, if one
    repetition stands in another.

    ```toml
    [[check]]
    name = "kernel-log"
    type = "kernel-log"
    disable = ["hung-task"]
    severities = { nfs-away = "drain" }
    rules = [{ id = "megaraid", pattern = '^megaraid_sas .*Adapter is dead', meaning = "the RAID adapter is dead" }]

    [[check]]
    name = "kernel-warnings"
    type = "kernel-log"
    fails_on = "warn"
    severity = "warn"
    ```
    """

    fails_on: Severity = Field(
        Severity.DRAIN,
        description="Faults by rules of this severity find FAILED; an OK tells of the others.",
    )
    rules: tuple[Rule, ...] = Field((), description="The site's own rules; one with a shipped one's id replaces it.")
    disable: frozenset[str] = Field(frozenset(), description="Ids of shipped rules that do not count.")
    severities: Mapping[str, Severity] = Field({}, description="Another severity for shipped rules, by their ids.")

    @model_validator(mode="after")
    def _names_rules(self) -> "KernelLogLimits":
        known = {rule.id for rule in RULES}
        if unknown := sorted((self.disable | set(self.severities)) - known):
            raise ValueError(f"no shipped rule is called {unknown[0]!r} (they are: {', '.join(sorted(known))})")
        own = [rule.id for rule in self.rules]
        if twice := sorted({each for each in own if own.count(each) > 1}):
            raise ValueError(f"two rules are called {twice[0]!r}")
        return self

    def chosen(self) -> tuple[Rule, ...]:
        """The rules that count."""
        own = {rule.id for rule in self.rules}
        shipped = (rule for rule in RULES if rule.id not in own | self.disable)
        return (*(_as_asked(rule, self.severities) for rule in shipped), *self.rules)


def _as_asked(rule: Rule, severities: Mapping[str, Severity]) -> Rule:
    return rule.model_copy(update={"severity": severities.get(rule.id, rule.severity)})


@dataclass(frozen=True, slots=True)
class Fault:
    """What a rule has found on one subject: how often, when lately (seconds of this boot), and the last line."""

    rule: Rule
    count: int
    times: tuple[float, ...]
    line: str


Faults = Mapping[tuple[str, str], Fault]
NOTHING: Final[Faults] = MappingProxyType({})


def fold(faults: Faults, record: Record, rules: Iterable[Rule], at_s: float) -> Faults:
    """The faults with one more record, that was logged then."""
    if not record.is_from_kernel or _OF_PROGRAM.match(record.message):
        return faults
    for rule in rules:
        if found := compiled(rule.pattern).search(record.message):
            faults = _with(faults, rule, _subject(found), record.message, at_s)
        elif rule.good is not None and (found := compiled(rule.good).search(record.message)):
            faults = _without(faults, rule, _subject(found))
    return faults


def _subject(found: re.Match[str]) -> str:
    return found.groupdict().get("of") or ""


def _with(faults: Faults, rule: Rule, subject: str, line: str, at_s: float) -> Faults:
    if (rule.id, subject) not in faults and sum(known == rule.id for known, _ in faults) >= _MOST_SUBJECTS:
        subject = "others"
    before = faults.get((rule.id, subject)) or Fault(rule, 0, (), line)
    times = (*before.times, at_s)[-(rule.more_than + 1) :]
    after = replace(before, count=before.count + 1, times=times, line=line)
    return MappingProxyType({**faults, (rule.id, subject): after})


def _without(faults: Faults, rule: Rule, subject: str) -> Faults:
    return MappingProxyType({key: fault for key, fault in faults.items() if key != (rule.id, subject)})


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


def judge(faults: Faults, now_s: float, limits: KernelLogLimits, name: str, lost: int = 0) -> Finding:
    """Tell the faults of the severity asked for as wrong, the others beside."""
    found = standing(faults, now_s)
    wrong = [_tell(fault) for fault in found if fault.rule.severity is limits.fails_on]
    other = [_tell(fault) for fault in found if fault.rule.severity is not limits.fails_on]
    fine = f"the kernel log tells of no fault to {limits.fails_on}" + (f"; but: {a_few(other)}" if other else "")
    measures: dict[str, float] = {"faults": len(wrong), "others": len(other), "lost_records": lost}
    return verdict(name, fine, [a_few(wrong)] if wrong else [], measures=measures)


def _tell(fault: Fault) -> str:
    often = f", {fault.count} times" if fault.count > 1 else ""
    repair = "; a reboot does not mend it" if fault.rule.clears == "never" else ""
    return f"{fault.rule.meaning} ({fault.rule.id}{often}: {fault.line}){repair}"


def sift(block: bytes, needles: Mapping[bytes, tuple[Rule, ...]]) -> dict[bytes, tuple[Rule, ...]]:
    """The rules that may fit a line in this block, by the text that such a line must contain."""
    return {needle: rules for needle, rules in needles.items() if needle in block}


def by_needle(rules: Iterable[Rule]) -> dict[bytes, tuple[Rule, ...]]:
    """The rules by the text that their lines must contain: most are told apart from most lines by that alone."""
    found: dict[bytes, tuple[Rule, ...]] = {}
    for rule in rules:
        needle = rule.contains.encode()
        found[needle] = (*found.get(needle, ()), rule)
    return found


@dataclass(slots=True)
class Follower:
    """Follows one open kernel log, each read of which gives one record, by these rules."""

    file: int
    needles: Mapping[bytes, tuple[Rule, ...]]
    faults: Faults = field(default_factory=lambda: NOTHING)
    lost: int = 0
    """Records that were overwritten before they were read."""
    is_abreast: bool = False
    """All that was there has been read once."""
    _sequence: int = field(default=-1)

    def fileno(self) -> int:
        """What is readable when there are new records."""
        return self.file

    def read_new(self, now_s: float) -> bool:
        """Read a batch; true if more may be there."""
        records = self._batch()
        # Of all records at once: most texts are in none of them.
        needles = sift(b"\n".join(records), self.needles)
        for data in records if needles else ():
            if near := [rule for rules in sift(data, needles).values() for rule in rules]:
                record = parse_record(data)
                # The kernel's log clock is nobody's to set, and drifts: of what comes while we look, we know when.
                at_s = now_s if self.is_abreast else min(record.at_s, now_s)
                self.faults = fold(self.faults, record, near, at_s)
        self.is_abreast |= len(records) < _BATCH
        return len(records) == _BATCH

    def _batch(self) -> list[bytes]:
        records: list[bytes] = []
        while len(records) < _BATCH:
            try:
                data = os.read(self.file, _RECORD_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise
                continue  # overwritten: the next read gives the oldest that is left, whose number tells how many
            if not data:
                break
            self._count(data)
            records.append(data)
        return records

    def _count(self, data: bytes) -> None:
        sequence = int(data.split(b",", 2)[1])
        if self._sequence >= 0:
            self.lost += sequence - self._sequence - 1
        self._sequence = sequence


# Each set of rules reads the log once, whatever the number of looks and of checks.
_followers: Final[dict[tuple[Path, tuple[str, ...]], Follower]] = {}


def follower(path: Path, rules: tuple[Rule, ...]) -> Follower:
    """Give the follower of this log by these rules, opened at the first call; raises OSError."""
    key = (path, tuple(rule.model_dump_json() for rule in rules))
    if key not in _followers:
        _followers[key] = Follower(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), by_needle(rules))
    return _followers[key]


def matters(records: Sequence[bytes]) -> bool:
    """Whether one of these records may change what a check of this kind finds, so that it is to be looked at now."""
    block = b"\n".join(records)
    return any(needle in block for each in _followers.values() for needle in each.needles)


def wakes(limits: KernelLogLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - whatever the rules
    """A line of the kernel log."""
    return (KernelLog(),)


async def look(facts: Facts, limits: KernelLogLimits, name: str) -> Finding:
    """Read what is new in the log since the last look."""
    facts.require_running()
    path = facts.roots.root / "dev" / "kmsg"
    try:
        log = follower(path, limits.chosen())
        while log.read_new(_now_s()):  # noqa: ASYNC110 - there is more to read; the others get their turn between
            await asyncio.sleep(0)
    except OSError as error:
        raise Transient(f"the kernel log cannot be read: {path}: {error.strerror}") from error
    return judge(log.faults, _now_s(), limits, name, log.lost)


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_MONOTONIC)
