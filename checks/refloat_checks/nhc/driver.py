# SPDX-License-Identifier: Apache-2.0
"""One pass over the lines of an nhc.conf: native checks and settings here, the rest in one bash; nothing hangs it."""

from __future__ import annotations

from types import MappingProxyType

from refloat_checks.nhc import hardware_variables, words
from refloat_checks.nhc import plan as plans
from refloat_checks.nhc.findings import CANNOT_RUN, TIMED_OUT, LineFinding, PassResult, verdict
from refloat_checks.nhc.native import NativeCheck, NhcOutcome, NhcRun, Returned
from refloat_checks.nhc.performing import Performer
from refloat_checks.nhc.plan import BUILTINS, Plan, Step
from refloat_checks.nhc.variables import PATH, SETTINGS
from refloat_contract.errors import RefloatError, Refused, Transient
from refloat_contract.records import record
from refloat_contract.status import Status

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Final, Protocol

    from refloat_checks.facts import Facts
    from refloat_checks.nhc.bridge import Answer, Bridge, Ran
    from refloat_checks.nhc.engine import Engine

    Find = Callable[[str], NativeCheck | None]

_RUN_COMMANDS: Final = ("check_cmd_", "check_moab_", "check_nv", "check_dmi_", "check_net_ping", "check_ps_unauth")
_HARDWARE: Final = "check_hw_"
_OUTPUT: Final = "check_cmd_output"


if TYPE_CHECKING:

    class Listener(Protocol):
        """Who hears how a pass goes: NHC's log and syslog lines, and each finding as it comes."""

        def began(self, step: Step) -> None:
            """A check is looked at."""

        def said(self, text: str) -> None:
            """A line for the log."""

        def reported(self, text: str) -> None:
            """A line for syslog."""

        def found(self, finding: LineFinding) -> None:
            """A check found something."""


class Deaf:
    """A listener that wants to know nothing."""

    def began(self, step: Step) -> None:
        """Let it begin."""

    def said(self, text: str) -> None:
        """Let it be said."""

    def reported(self, text: str) -> None:
        """Let it be reported."""

    def found(self, finding: LineFinding) -> None:
        """Let it be found."""


@record
class Options:
    """How a pass goes. Without `acts` what checks ask for (kill, remount, ...) is not done.

    With `every_line` each line counts by itself: none ends the pass, and none hides its failure.
    `check_deadline_s` is each native check's; those that run commands, and bash, have what the pass has left.
    """

    strict: bool = False
    acts: bool = False
    every_line: bool = False
    deadline_s: float = 45.0
    check_deadline_s: float = 10.0
    variables: Mapping[str, str] = MappingProxyType({})
    exports: tuple[str, ...] = ()
    env: Mapping[str, str] = MappingProxyType({"PATH": PATH})


class Pass:
    """One pass over a plan with the facts of that pass."""

    def __init__(
        self,
        plan: Plan,
        facts: Facts,
        find: Find,
        names: Sequence[str],
        options: Options,
        listener: Listener,
        engine: Engine | None = None,
    ) -> None:
        self._plan = plan
        self._facts = facts
        self._engine = engine or _loop()
        self._find = find
        self._names = names
        self._options = options
        self._listener = listener
        self._variables = dict(options.variables)
        self._exports = set(options.exports)
        self._changed = set(self._variables)
        self._bridge: Bridge | None = None
        self._ends_s = 0.0
        self._steps = list(reversed(plan.steps))
        self._begun: Step | None = None
        self._findings: list[LineFinding] = []
        self._unsure: list[NhcOutcome] = []
        self._exited: int | None = None
        self._tainted: set[str] = set()
        self._not_told = ""

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables as they stand; the lines change them."""
        return self._variables

    async def run(self) -> PassResult:
        """Go through the lines in order, to the end or (as NHC, unless all are to be checked) to the first failure.

        Raises NeedsLoop where there is no event loop and the next line needs one: see go_on().
        """
        if not self._ends_s:
            self._ends_s = self._engine.now_s() + self._options.deadline_s
        if self._plan.aborted:
            return self._aborted()
        try:
            if self._plan.hardware and not self._options.strict:
                await self._gather_hardware()
            if self._plan.script_settings:
                await self._source_scripts()
            while self._steps and not self._is_over():
                await self._take(self._steps[-1])
                self._steps.pop()
        finally:
            await self._drop_bridge()
        return self._result()

    def look_with(self, facts: Facts, engine: Engine) -> None:
        """Look at the lines that come next with these facts."""
        self._facts, self._engine = facts, engine

    async def go_on(self, facts: Facts) -> PassResult:
        """Go on where run() needed an event loop, with facts that are read on one."""
        self.look_with(facts, _loop())
        return await self.run()

    async def _source_scripts(self) -> None:
        try:
            await self._bash()
        except Refused:
            return  # an offline tree: each line that needs bash says so

    def _aborted(self) -> PassResult:
        finding = LineFinding(0, "nhc.conf", "", Status.UNKNOWN, 1, self._plan.aborted)
        self._listener.found(finding)
        return PassResult((finding,), verdict([finding], check_all=False, whole=False), self._variables)

    def _is_over(self) -> bool:
        failed = bool(self._findings) and self._findings[-1].status is Status.FAILED
        return self._exited is not None or (failed and not self._check_all)

    def _result(self) -> PassResult:
        looked = {finding.number for finding in self._findings}
        whole = self._exited is None and all(step.number in looked for step in self._plan.checks)
        found = verdict(self._findings, check_all=self._check_all, exited=self._exited, whole=whole)
        return PassResult(tuple(self._findings), found, dict(self._variables))

    @property
    def _check_all(self) -> bool:
        return self._options.every_line or self._variables.get("NHC_CHECK_ALL") == "1"

    @property
    def _left_s(self) -> float:
        return max(0.05, self._ends_s - self._engine.now_s())

    async def _take(self, step: Step) -> None:
        if step.is_setting and await self._set(step):
            return
        if step is not self._begun:
            self._begun = step
            self._listener.began(step)
        finding = await self._look(step)
        self._findings.append(finding)
        self._listener.found(finding)

    async def _look(self, step: Step) -> LineFinding:
        if step.problem:
            return _finding(step, Status.UNKNOWN, 1, step.problem)
        if self._is_tainted(step):
            return _finding(step, Status.UNKNOWN, 1, f'No HW_ variables for "{step.text}":  {self._not_told}')
        if self._engine.now_s() >= self._ends_s:
            return _finding(step, Status.UNKNOWN, TIMED_OUT, f'No time was left for "{step.text}".')
        spoken = self._native_words(step)
        if spoken is None:
            return await self._look_in_bash(step)
        if spoken[0] in BUILTINS and self._find(spoken[0]) is None:
            return self._returned(step, BUILTINS[spoken[0]])
        outcome = await self._run_native(spoken)
        return self._judged(step, outcome)

    def _native_words(self, step: Step) -> list[str] | None:
        """The line's words where a native check, which no script of the site replaces, is all it is."""
        command = step.command
        if command is None or command.name is None or command.name in self._plan.functions:
            return None
        if self._find(command.name) is None and command.name not in BUILTINS:
            return None
        spoken: list[str] = []
        for word in command.words:
            expanded = words.expand(word, self._variables.get)
            if expanded is None:
                return None
            spoken += expanded
        return None if _fills_an_array(spoken) else spoken

    def _is_tainted(self, step: Step) -> bool:
        """Whether the line goes by variables that could not be told; of a line for bash nobody knows."""
        if not self._tainted:
            return False
        return step.command is None or bool(self._tainted.intersection(words.names(step.command)))

    async def _run_native(self, spoken: Sequence[str]) -> NhcOutcome:
        check = self._find(spoken[0])
        if check is None:
            raise AssertionError(f"{spoken[0]} is no native check")
        left_s = self._left_s
        deadline_s = left_s if spoken[0].startswith(_RUN_COMMANDS) else min(left_s, self._options.check_deadline_s)
        run = NhcRun(
            self._facts,
            self._variables,
            deadline_s,
            strict=self._options.strict,
            environment=self._exported(),
            functions=self,
            waiting=self._engine,
        )
        outcome = await check.run(list(spoken[1:]), run)
        if self._options.acts and outcome.actions:
            outcome = await Performer(self._engine, self._left_s, self._environment()).settled(outcome)
        for text in outcome.log:
            self._listener.said(text)
        for text in outcome.syslog:
            self._listener.reported(text)
        if self._options.strict and self._plan.hardware and spoken[0].startswith(_HARDWARE):
            await self._gather_hardware()
        return outcome

    def _judged(self, step: Step, outcome: NhcOutcome) -> LineFinding:
        if outcome.status is Status.FAILED and not outcome.message:
            return self._returned(step, outcome.rc)
        return _finding(step, outcome.status, outcome.rc, outcome.message, int(outcome.status is Status.FAILED))

    def _returned(self, step: Step, rc: int) -> LineFinding:
        hidden = self._options.strict and self._check_all and not self._options.every_line
        if rc == 0 or hidden:
            return _finding(step, Status.OK)
        # A command that is not there proves nothing about the node.
        unsure = rc in CANNOT_RUN and not self._options.strict
        status = Status.UNKNOWN if unsure else Status.FAILED
        return _finding(step, status, rc, f"Check {step.text} returned {rc}")

    async def _set(self, step: Step) -> bool:
        """Set variables; False where only bash can tell to what."""
        command = step.command
        if command is not None and self._is_tainted(step):
            self._tainted.update(name for name, _ in command.assignments)
            return True
        values: dict[str, str] = {}
        for name, word in command.assignments if command is not None else ():
            value = words.joined(word, lambda wanted: values.get(wanted, self._variables.get(wanted)))
            if value is None:
                return False
            values[name] = value
        self._variables.update(values)
        self._changed.update(values)
        if command is not None and command.exports:
            self._exports.update(command.exports)
            self._changed.update(command.exports)
        return True

    async def _gather_hardware(self) -> None:
        try:
            found = await hardware_variables.values(self._facts)
        except (RefloatError, OSError, ValueError) as error:
            # What is made of them then would be made of zeros: a limit of twice no cores drains the node.
            self._not_told = str(error)
            self._tainted.update(hardware_variables.NAMES)
            return
        self._variables.update(found)
        self._changed.update(found)

    def _environment(self) -> dict[str, str]:
        return {**self._options.env, **self._exported()}

    def _exported(self) -> dict[str, str]:
        return {name: self._variables[name] for name in self._exports if name in self._variables}

    # What only bash can do.

    def knows(self, name: str) -> bool:
        """Tell whether a function of this name is the site's own."""
        return name in self._plan.functions

    async def call(self, argv: Sequence[str], timeout_s: float | None) -> Returned:
        """Call a function of the site's, for a check that runs commands."""
        is_whole = False
        try:
            called = await (await self._bash_up_to_date()).call(argv, timeout_s)
            is_whole = not called.spoiled
        finally:
            if not is_whole:
                await self._drop_bridge()
        self._heard(called.ran)
        for death in called.ran.deaths:
            self._listener.said(death.message)
        return Returned(called.rc, called.output, called.timed_out)

    async def _look_in_bash(self, step: Step) -> LineFinding:
        self._unsure.clear()
        try:
            ran = await self._engine.within(self._left_s, self._ran(step.text))
        except TimeoutError:
            await self._drop_bridge()
            status = Status.FAILED if self._options.strict else Status.UNKNOWN
            return _finding(step, status, TIMED_OUT, f'Script timed out while executing "{step.text}".')
        except (Transient, Refused) as error:
            await self._drop_bridge()
            return _finding(step, Status.UNKNOWN, 1, f"Check {step.text} could not be run: {error}")
        if ran.exited:
            await self._drop_bridge()
        return self._judged_in_bash(step, ran)

    async def _ran(self, text: str) -> Ran:
        return self._heard(await (await self._bash_up_to_date()).run(text))

    async def _bash_up_to_date(self) -> Bridge:
        bridge = await self._bash()
        if not bridge.is_busy:
            changed = {name: self._variables[name] for name in self._changed if name in self._variables}
            await bridge.assign(changed, self._exports & self._changed)
            self._changed.clear()
        return bridge

    def _heard(self, ran: Ran) -> Ran:
        self._variables.update(ran.variables)
        for text in (*ran.output.splitlines(), *ran.log):
            self._listener.said(text)
        for text in ran.syslog:
            self._listener.reported(text)
        return ran

    def _judged_in_bash(self, step: Step, ran: Ran) -> LineFinding:
        if ran.deaths:
            first = ran.deaths[0]
            return _finding(step, Status.FAILED, first.rc, first.message, len(ran.deaths))
        if ran.exited:
            self._exited = ran.rc
            status = Status.UNKNOWN if ran.rc == 0 else Status.FAILED
            return _finding(step, status, ran.rc, f"Check {step.text} ended the run with {ran.rc}")
        if ran.rc != 0 and self._unsure:
            return _finding(step, Status.UNKNOWN, ran.rc, self._unsure[0].message)
        return self._returned(step, ran.rc)

    async def _bash(self) -> Bridge:
        """The running bash, or a new one that has sourced the site's scripts; Refused for an offline tree."""
        if self._bridge is None:
            self._facts.require_running()
            self._engine.require_loop()
            from refloat_checks.nhc.bridge import EACH_LINE, Bridge  # noqa: PLC0415 - it loads asyncio

            env = {**self._options.env, "PATH": self._options.env.get("PATH", PATH)}
            self._bridge = await Bridge.start(self._names, env, self._answer)
            await self._bridge.assign(self._variables, self._exports)
            if self._options.every_line:
                await self._bridge.assign({EACH_LINE: "1"})
            self._changed.clear()
            await self._bridge.watch(dict.fromkeys((*SETTINGS, *plans.watched(self._plan))))
            for script in self._plan.scripts:
                self._heard(await self._bridge.source(script))
        return self._bridge

    async def _drop_bridge(self) -> None:
        if self._bridge is not None:
            bridge, self._bridge = self._bridge, None
            self._changed.update(self._variables)
            await bridge.aclose()

    async def _answer(self, asked: Sequence[str]) -> Answer:
        from refloat_checks.nhc.answers import Answers  # noqa: PLC0415 - for bash only
        from refloat_checks.nhc.bridge import Answer  # noqa: PLC0415 - the same

        if asked[0] != "check":
            return await Answers(self._facts).answer(asked)
        outcome = await self._run_native(asked[1:])
        if outcome.status is Status.UNKNOWN:
            self._unsure.append(outcome)
        died = outcome.status is Status.FAILED and bool(outcome.message)
        return Answer(outcome.rc, outcome.message, died, outcome.output_to, outcome.output)


def _loop() -> Engine:
    from refloat_checks.nhc.looping import ENGINE  # noqa: PLC0415 - it loads asyncio

    return ENGINE


def _fills_an_array(spoken: Sequence[str]) -> bool:
    """Whether the check may be to leave what a command prints in an array, which only bash has."""
    return spoken[0] == _OUTPUT and any(word.startswith("-O") for word in spoken)


def _finding(step: Step, status: Status, rc: int = 0, message: str = "", deaths: int = 0) -> LineFinding:
    return LineFinding(step.number, step.label, step.text, status, rc, message, deaths)
