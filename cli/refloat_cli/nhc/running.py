# SPDX-License-Identifier: Apache-2.0
"""What `nhc` does: settings as NHC finds them, a pass (the agent's or its own), the log, and the node's mark."""

# ruff: noqa: PLC0415, PTH113, PTH118 - what is not run is not imported, and pathlib is slow

from __future__ import annotations

import os
import signal
import time

from refloat_checks.nhc import sysconfig, variables
from refloat_checks.nhc.findings import LineFinding, PassResult
from refloat_cli.nhc import agent
from refloat_cli.nhc.options import Asked
from refloat_cli.nhc.output import Output
from refloat_contract.errors import Misconfigured, RefloatError
from refloat_contract.status import Status

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from refloat_checks.nhc.plan import Step

MOST_S: Final = 45.0
DEFAULT_S: Final = 30.0
BAD_CONFIGURATION: Final = 1
RUNNING: Final = 'Running check:  "{}"'


class Listening:
    """Writes NHC's log lines as a pass goes on."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def began(self, step: Step) -> None:
        """Name the check that is looked at."""
        self._output.verbose(RUNNING.format(step.text))

    def said(self, text: str) -> None:
        """Log what a check said."""
        self._output.log(text)

    def reported(self, text: str) -> None:
        """Keep what is for syslog."""
        self._output.syslog(text)

    def found(self, finding: LineFinding) -> None:
        """Tell of a failure, and of what could not be told."""
        if finding.status is Status.FAILED:
            if not finding.deaths:
                self._output.log(f"Node Health Check failed.  {finding.message}")
            self._output.failed(finding.message)
        elif finding.status is Status.UNKNOWN:
            self._output.both(f"WARNING:  {self._output.name}:  Not known:  {finding.message}")


class Run:
    """One run of the command."""

    def __init__(self, asked: Asked, env: Mapping[str, str] = os.environ, *, socket: str = agent.SOCKET) -> None:
        self._asked = asked
        self._env = {**env, "PATH": variables.PATH, **({"SHELLOPTS": "xtrace"} if asked.trace else {})}
        self._socket = socket
        self._agent_acts = False
        self.variables = {**variables.of_host(os.uname().nodename), **asked.variables}
        self.output = Output(self.variables)
        self._started_s = time.monotonic()

    def status(self) -> int:
        """Do it all, and give the exit status."""
        place = sysconfig.path(self.variables["NAME"])
        sysconfig.load(place, self.variables, self._env, lambda said: self.output.log(f"WARNING:  nhc:  {said}"))
        self._default_paths()
        if self._asked.check is not None:
            self.variables.update(LOGFILE="-", MARK_OFFLINE="0")
        self.output.open_log()
        self.output.verbose("Node Health Check starting.")
        try:
            result = self._result()
        except Misconfigured as error:
            self.output.both(f"ERROR:  {self.output.name}:  {error}")
            return BAD_CONFIGURATION
        finally:
            self.output.close()
        return result.verdict.rc if result is not None else 0

    def _result(self) -> PassResult | None:
        answer = self._agents_answer()
        if answer is None:
            result = self._own_pass()
        else:
            # As in NHC the file has the last word, also over the command line.
            self.variables.update(answer.settings())
            result = answer.result(check_all=self._check_all)
            for finding in result.findings:
                self.output.verbose(RUNNING.format(finding.check))
                Listening(self.output).found(finding)
        if result is not None:
            self._conclude(result, answered=answer is not None)
        return result

    @property
    def _check_all(self) -> bool:
        return self.variables.get("NHC_CHECK_ALL") == "1"

    @property
    def _strict(self) -> bool:
        return self.variables.get("NHC_COMPAT") == "strict"

    @property
    def _deadline_s(self) -> float:
        given = self.variables.get("TIMEOUT", "")
        wanted_s = float(given) if given.isdecimal() and int(given) else DEFAULT_S
        return wanted_s if "TIMEOUT" in self._asked.variables else min(wanted_s, MOST_S)

    def _default_paths(self) -> None:
        given = self.variables
        name = given["NAME"]
        confdir = given.setdefault("CONFDIR", "/etc/nhc")
        given.setdefault("CONFFILE", os.path.join(confdir, f"{name}.conf"))
        given.setdefault("INCDIR", os.path.join(confdir, "scripts"))
        libexec = "/usr/lib" if os.path.isfile("/etc/debian_version") else "/usr/libexec"
        given.setdefault("HELPERDIR", f"{libexec}/nhc")
        given.setdefault("MARK_OFFLINE", "1")

    def _agents_answer(self) -> agent.Answer | None:
        own = self._asked.local or self._asked.check is not None or not agent.is_there(self._socket)
        if own or not self._asked.variables.keys() <= agent.HARMLESS:
            return None
        try:
            answer = agent.ask(fresh=self._asked.fresh, deadline_s=self._deadline_s, path=self._socket)
        except RefloatError as error:
            self.output.debug(f"The agent does not answer:  {error}")
            return None
        self._agent_acts = answer.acts
        if answer.conf != self.variables["CONFFILE"]:
            self.output.debug(f"The agent looks at {answer.conf}, not at {self.variables['CONFFILE']}.")
            return None
        return answer

    def _own_pass(self) -> PassResult | None:
        from refloat_cli.nhc import own_pass

        plan = own_pass.plan(self.variables, self._asked.check, strict=self._strict)
        if plan is None:
            missing = f"{self.variables['CONFFILE']} is not there: nothing was checked"
            self.output.both(f"WARNING:  {self.output.name}:  {missing}")
            return None
        return own_pass.look(
            plan,
            self.variables,
            self._env,
            Listening(self.output),
            strict=self._strict,
            deadline_s=self._deadline_s,
            watch=self._watch,
        )

    def _watch(self, settings: Mapping[str, str]) -> None:
        self.output.variables = settings

    def _conclude(self, result: PassResult, *, answered: bool) -> None:
        if not answered:
            self.variables.update(result.variables)
        failures = result.verdict.failures
        if failures and self._check_all:
            self.output.both(f"ERROR:  {self.output.name}:  {failures} health checks failed.")
            self.output.syslog(f"{failures} health checks failed.")
        if result.verdict.is_good:
            took_s = time.monotonic() - self._started_s
            self.output.verbose(f"Node Health Check completed successfully ({took_s:.0f}s).")
        # Who acts on the node is one: the agent, where it runs and may.
        if self.variables.get("MARK_OFFLINE") == "1" and self._asked.check is None and not self._agent_acts:
            self._mark(result)

    def _mark(self, result: PassResult) -> None:
        from refloat_checks.nhc.straight import Straight, drive
        from refloat_cli.nhc import helpers

        if result.verdict.message is not None:
            message = result.verdict.message
            drive(helpers.offline(self.variables, self._env, self.output.log, message, Straight()))
        elif result.verdict.is_good:
            drive(helpers.online(self.variables, self._env, self.output.log, Straight()))


def run(asked: Asked) -> int:
    """Run the command, and give its exit status."""
    made = Run(asked)
    signal.signal(signal.SIGUSR2, lambda *_: made.output.toggle_debug())
    return made.status()
