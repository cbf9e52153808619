# SPDX-License-Identifier: Apache-2.0
"""An nhc.conf among the checks of a node: each line a check of its own, all of them looked at in one pass."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from refloat_checks.api import Finding, Limits, Profile
from refloat_checks.facts import Facts
from refloat_checks.nhc import registry, sources
from refloat_checks.nhc.driver import Deaf, Options, Pass
from refloat_checks.nhc.findings import LineFinding, PassResult
from refloat_checks.nhc.plan import Plan
from refloat_checks.nhc.variables import of_host
from refloat_checks.registry import CheckSpec, Look, look_of
from refloat_checks.runner import boottime_s
from refloat_contract.errors import Misconfigured
from refloat_contract.words import Status

KIND: Final = "nhc"
SCRIPTS: Final = "scripts"
_MARGIN_S: Final = 5.0
_OF_A_TREE: Final = "check_file_"  # what these look at is in the files of an image, too


class NhcLimits(Limits):
    """Which line of the nhc.conf."""

    line: int


@dataclass(frozen=True, slots=True)
class Looked:
    """The last pass, and when it ended (seconds of this boot)."""

    result: PassResult
    at_s: float


@dataclass(slots=True, eq=False)
class _Running(Deaf):
    """A pass under way: a future for each line's finding."""

    awaited: dict[int, "asyncio.Future[LineFinding]"] = field(default_factory=dict)

    def of(self, line: int) -> "asyncio.Future[LineFinding]":
        return self.awaited.setdefault(line, asyncio.get_running_loop().create_future())

    def found(self, finding: LineFinding) -> None:
        future = self.of(finding.number)
        if not future.done():
            future.set_result(finding)


class NhcConf:
    """The lines of one nhc.conf as checks. Those who ask with the same facts share one pass."""

    def __init__(self, path: Path, plan: Plan, options: Options, *, clock: Callable[[], float] = boottime_s) -> None:
        self.path = path
        self.plan = plan
        self.last: Looked | None = None
        self._options = options
        self._clock = clock
        self._passes: WeakKeyDictionary[Facts, _Running] = WeakKeyDictionary()

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
        """Read the file, and the scripts in the folder `scripts` beside it.

        Raises Misconfigured where they cannot be read, or where NHC would run nothing for a target that is broken.
        """
        host = host or sources.hostname()
        plan = sources.read(str(path), host, str(path.parent / SCRIPTS), strict=strict)
        if plan.aborted:
            raise Misconfigured(f"{path}: {plan.aborted}")
        # All lines are looked at, always: each of them is a check of its own here.
        exports = of_host(host)
        options = Options(
            strict=strict,
            acts=acts,
            every_line=True,
            deadline_s=deadline_s,
            variables=exports,
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
                limits=NhcLimits(line=step.number),
                deadline_s=self._options.deadline_s + _MARGIN_S,
                interval_s=interval_s,
                profiles=tuple(Profile) if step.text.startswith(_OF_A_TREE) else None,
            )
            for step in self.plan.checks
        ]

    def look_of(self, spec: CheckSpec) -> Look:
        """What looks for a check, be it a line of this file or of another kind."""
        return self.look if spec.kind == KIND else look_of(spec)

    async def look(self, facts: Facts, limits: Any, name: str) -> Finding:
        """Look at one line: the first who asks runs the pass, the others wait for their line."""
        running = self._passes.get(facts)
        if running is None:
            running = self._passes[facts] = _Running()
            await self._run(facts, running)
        found = await asyncio.shield(running.of(limits.line))
        return Finding(name, found.status, found.message or f"{found.check}: passed")

    async def _run(self, facts: Facts, running: _Running) -> None:
        looking = Pass(self.plan, facts, registry.find, registry.names(), self._options, running)
        try:
            result = await looking.run()
            self.last = Looked(result, self._clock())
        finally:
            # A line that was not reached: an earlier one ended the run, or the pass was cancelled.
            for step in self.plan.checks:
                message = f"not looked at: an earlier line of {self.path} ended the run"
                running.found(LineFinding(step.number, step.label, step.text, Status.UNKNOWN, 1, message))
