# SPDX-License-Identifier: Apache-2.0
"""Check the kernel log for lines that tell of a fault of the node, from the beginning of this boot."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, model_validator

from refloat_checks.api import Finding, Limits, Severity
from refloat_checks.facts import Facts
from refloat_checks.kernel_faults import Fault, Faults, standing
from refloat_checks.kernel_follower import follower
from refloat_checks.kernel_rules import RULES, Rule
from refloat_checks.verdicts import a_few, verdict
from refloat_checks.wakes import KernelLog, Wake
from refloat_contract.errors import Transient


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

    path: str = Field(
        "/dev/kmsg",
        pattern="^/",
        description="The log: each read of it gives one record. Another one is for tests and containers.",
    )
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
    asked = severities.get(rule.id, rule.severity)
    return rule if asked is rule.severity else rule.model_copy(update={"severity": asked})


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


def wakes(limits: KernelLogLimits) -> tuple[Wake, ...]:
    """What wakes it: a line of the log that its rules are about."""
    return (KernelLog(limits.path, follower(Path(limits.path), limits.chosen())),)


async def look(facts: Facts, limits: KernelLogLimits, name: str) -> Finding:
    """Read what is new in the log since the last look."""
    facts.require_running()
    log = follower(facts.roots.root / limits.path.lstrip("/"), limits.chosen())
    try:
        with log.reading():
            while log.read_new(time.monotonic()):  # noqa: ASYNC110 - more to read; others get their turn between
                await asyncio.sleep(0)
    except OSError as error:
        raise Transient(f"the kernel log cannot be read: {log.path}: {error.strerror}") from error
    return judge(log.faults, time.monotonic(), limits, name, log.lost)
