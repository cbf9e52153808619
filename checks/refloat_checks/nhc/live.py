# SPDX-License-Identifier: Apache-2.0
"""An nhc.conf among the checks of a node: each line a check of its own, all of them looked at in one pass."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

import structlog

from refloat_checks.api import Finding, Limits, Profile
from refloat_checks.facts import NOTES, Asked, Facts
from refloat_checks.nhc import registry, sources, sysconfig, waking
from refloat_checks.nhc.driver import Deaf, Options, Pass
from refloat_checks.nhc.findings import LineFinding, PassResult, verdict
from refloat_checks.nhc.native import NativeCheck, NhcOutcome, NhcRun
from refloat_checks.nhc.plan import Plan, Step
from refloat_checks.nhc.variables import PATH, of_host
from refloat_checks.registry import NHC_LINE, NHC_SCRIPTS, CheckSpec, Found, Look, look_of, wakes_of
from refloat_checks.runner import boottime_s
from refloat_checks.wakes import Wake
from refloat_contract.errors import Misconfigured
from refloat_contract.words import Status

log = structlog.get_logger(__name__)
KIND: Final = NHC_LINE
_MARGIN_S: Final = 5.0
_RUNS_COMMANDS: Final = "check_cmd_"
_OF_A_TREE: Final = "check_file_"  # what these look at is in the files of an image, too


class NhcLimits(Limits):
    """Which line of the nhc.conf."""

    line: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """The last pass, and when it ended (seconds of this boot)."""

    result: PassResult
    at_s: float

    def with_news_of(self, result: PassResult) -> "Looked":
        """The same with what a look at some lines found since; it is as old as the rest."""
        news = {finding.number: finding for finding in result.findings}
        findings = tuple(news.get(finding.number, finding) for finding in self.result.findings)
        found = verdict(findings, check_all=True, whole=True)
        return Looked(PassResult(findings, found, self.result.variables), self.at_s)


@dataclass(slots=True, eq=False)
class _Telling(Deaf):
    """Tells of each line that is awaited when its finding is there."""

    facts: Facts
    plan: Plan
    awaited: dict[str, None]
    tell: Found

    def began(self, step: Step) -> None:
        if not _only_looks(step, self.plan):
            self.facts.forget_ahead()

    def found(self, finding: LineFinding) -> None:
        if finding.label in self.awaited:
            del self.awaited[finding.label]
            message = finding.message or f"{finding.check}: passed"
            self.tell(finding.label, Finding(finding.label, finding.status, message))


class NhcConf:
    """The lines of one nhc.conf as checks, which are looked at together in one pass."""

    def __init__(self, path: Path, plan: Plan, options: Options, *, clock: Callable[[], float] = boottime_s) -> None:
        self.path = path
        self.plan = plan
        self.last: Looked | None = None
        self._options = options
        self._clock = clock
        self._asked = Asked()
        self._wakes = waking.by_label(plan)

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        strict: bool = False,
        acts: bool = False,
        host: str | None = None,
        deadline_s: float = 45.0,
        clock: Callable[[], float] = boottime_s,
    ) -> "NhcConf":
        """Read the file, the scripts in the folder `scripts` beside it, and the site's settings for NHC. Blocks.

        Raises Misconfigured where they cannot be read, or where NHC would run nothing for a target that is broken.
        """
        host = host or sources.hostname()
        plan = sources.read(str(path), host, str(path.parent / NHC_SCRIPTS), strict=strict)
        if plan.aborted:
            raise Misconfigured(f"{path}: {plan.aborted}")
        # All lines are looked at, always: each of them is a check of its own here.
        exports = of_host(host)
        settings = dict(exports)
        env = {**os.environ, "PATH": PATH}
        sysconfig.load(sysconfig.path(), settings, env, lambda said: log.warning("nhc_settings", said=said))
        options = Options(
            strict=strict,
            acts=acts,
            every_line=True,
            deadline_s=deadline_s,
            variables=settings,
            exports=tuple(exports),
        )
        return cls(path, plan, options, clock=clock)

    def specs(self, interval_s: float = 60.0) -> list[CheckSpec]:
        """The checks: one for each line that applies here and finds something."""
        return [
            # A label may hold `:` and `/`, which a name in TOML may not.
            CheckSpec.model_construct(
                name=step.label,
                kind=KIND,
                limits=NhcLimits(line=step.number, text=step.text),
                deadline_s=self._options.deadline_s + _MARGIN_S,
                interval_s=interval_s,
                profiles=tuple(Profile) if step.text.startswith(_OF_A_TREE) else None,
            )
            for step in self.plan.checks
        ]

    def look_of(self, spec: CheckSpec) -> "Look | NhcConf":
        """What looks for a check, be it a line of this file or of another kind."""
        return self if spec.kind == KIND else look_of(spec)

    def wakes_of(self, spec: CheckSpec) -> tuple[Wake, ...]:
        """What wakes a check; a line is woken by what wakes its form in TOML."""
        return self._wakes.get(spec.name, ()) if spec.kind == KIND else wakes_of(spec)

    async def look_at(self, facts: Facts, specs: Sequence[CheckSpec], found: Found) -> None:
        """Look at these lines in one pass."""
        plan, awaited = self._plan_for(facts), dict.fromkeys(spec.name for spec in specs)
        if plan is self.plan:
            await self._begin(facts)
        telling = _Telling(facts, plan, awaited, found)
        result = await Pass(plan, facts, _find, registry.names(), self._options, telling).run()
        for name in awaited:
            message = f"not looked at: an earlier line of {self.path} ended the run"
            found(name, Finding(name, Status.UNKNOWN, message))
        if plan is self.plan:
            self.last = Looked(result, self._clock())
        elif self.last is not None:
            self.last = self.last.with_news_of(result)

    def _plan_for(self, facts: Facts) -> Plan:
        """What of the plan this pass is for: only some lines, where each of them can be looked at by itself."""
        labels = {step.label for step in self.plan.checks}
        asked = labels & (labels if facts.asked is None else facts.asked)
        return self.plan if asked == labels or not asked <= self._wakes.keys() else waking.only(self.plan, asked)

    async def _begin(self, facts: Facts) -> None:
        """Ask at once what the last pass asked line by line, and note what this one asks."""
        before, self._asked = self._asked, Asked()
        # Noted in the task that runs the pass, and in no other.
        NOTES.set(self._asked)
        # The site's scripts are run before the first line, and may change anything.
        if not self.plan.script_settings:
            await facts.ask_ahead(before)


def _only_looks(step: Step, plan: Plan) -> bool:
    """Tell whether a line leaves the node as it is: it is a check of ours, and runs no command of the site's."""
    name = step.command.name if step.command is not None else None
    if name is None or name in plan.functions or name.startswith(_RUNS_COMMANDS):
        return False
    return registry.find(name) is not None


@cache
def _find(name: str) -> NativeCheck | None:
    check = registry.find(name)
    return None if check is None else NativeCheck(name, partial(_look, check))


async def _look(check: NativeCheck, words: Sequence[str], run: NhcRun) -> NhcOutcome:
    outcome = await check.look(words, run)
    if outcome.actions:
        run.facts.forget_ahead()
    return outcome
