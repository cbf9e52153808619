# SPDX-License-Identifier: Apache-2.0
"""What a native NHC check is given and what it answers; what it wants done is returned, and done by its runner."""

from __future__ import annotations

import time
from types import MappingProxyType

from refloat_checks.nhc.engine import Late
from refloat_checks.nhc.language import BadPattern
from refloat_checks.nhc.units import BadUnit
from refloat_contract.errors import RefloatError
from refloat_contract.records import record, replace
from refloat_contract.status import Status

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Any, Final, Protocol

    from refloat_checks.facts import Facts
    from refloat_checks.nhc.deviations import Deviation
    from refloat_checks.nhc.engine import Engine

RC_UNKNOWN: Final = 3  # not one that NHC's checks return; monitoring plug-ins say UNKNOWN so


@record
class Shell:
    """A text of the administrator's configuration (`-e`, `-E`), for `bash -c`; never with data in it."""

    text: str


@record
class Command:
    """A program and its arguments."""

    argv: tuple[str, ...]


@record
class Kill:
    """Send SIGKILL to the process that has this number and was started at this tick, and to no other."""

    pid: int
    started_ticks: int | None = None


@record
class Renice:
    """Add to the niceness of the process that has this number and was started at this tick."""

    pid: int
    by: str
    started_ticks: int | None = None


@record
class AwaitExit:
    """See that the process is gone: 0 if it is, 1 if it still runs."""

    pid: int
    started_ticks: int | None = None


@record
class MakeDirectory:
    """Make a directory with its parents, for a mount to find."""

    path: str
    mode: int = 0o755


Action = Shell | Command | Kill | Renice | AwaitExit | MakeDirectory


@record
class NhcOutcome:
    """How a check ended: NHC's return code and message (`check:  text`; empty when it passes or only returned).

    `actions` are what the configuration asks for. Without `settle` they are started in order and not waited for. With
    it each is waited for, and `settle` makes the outcome of their exit statuses. Who only observes does neither, and
    takes the outcome as it is. `log` and `syslog` are lines that NHC would write beside. `output` is what the shell's
    array `output_to` is set to, where one is named.
    """

    rc: int
    message: str
    status: Status
    actions: tuple[Action, ...] = ()
    log: tuple[str, ...] = ()
    syslog: tuple[str, ...] = ()
    settle: Callable[[Sequence[int]], NhcOutcome] | None = None
    output_to: str = ""
    output: tuple[str, ...] = ()


PASSED: Final = NhcOutcome(0, "", Status.OK)


def passed(*, actions: tuple[Action, ...] = (), log: tuple[str, ...] = (), syslog: tuple[str, ...] = ()) -> NhcOutcome:
    """Let the check pass."""
    return NhcOutcome(0, "", Status.OK, actions, log, syslog)


def failed(name: str, text: str, rc: int = 1, actions: tuple[Action, ...] = ()) -> NhcOutcome:
    """Let the check fail with NHC's words for it."""
    return NhcOutcome(rc, f"{name}:  {text}", Status.FAILED, actions)


def unknown(name: str, text: str) -> NhcOutcome:
    """Say that the check proves nothing: neither health nor a fault."""
    return NhcOutcome(RC_UNKNOWN, f"{name}:  {text}", Status.UNKNOWN)


def otherwise(run: NhcRun, deviation: Deviation, name: str, text: str, nhc: NhcOutcome = PASSED) -> NhcOutcome:
    """Say UNKNOWN where NHC hides something: in strict mode give NHC's answer. The deviation must be in the table."""
    if run.strict:
        return nhc
    if name not in deviation.checks:
        raise AssertionError(f"{deviation.name} is not declared for {name}")
    return unknown(name, text)


def not_fatal(outcome: NhcOutcome) -> NhcOutcome:
    """Turn a failure into a line of the log, as `-0` asks for."""
    if outcome.status is not Status.FAILED:
        return outcome
    return replace(
        outcome, rc=0, message="", status=Status.OK, log=(*outcome.log, f"{outcome.message} (non-fatal)"), settle=None
    )


@record
class Returned:
    """How a function of the site's ended, and what it printed."""

    rc: int
    output: str
    timed_out: bool = False


if TYPE_CHECKING:

    class Functions(Protocol):
        """The functions that the site's scripts define; they live in bash."""

        def knows(self, name: str) -> bool:
            """Tell whether there is a function of this name."""
            ...

        async def call(self, argv: Sequence[str], timeout_s: float | None) -> Returned:
            """Call one; its arguments are data. Raises Transient, or Refused for an offline tree."""
            ...


class Aborted(Exception):
    """In strict mode: the shell would abandon the check here, without a message, and take that for a failure."""


@record
class NhcRun:
    """What the checks of one pass share. `variables` are NHC's, with its defaults, as the configuration left them.

    `environment` holds those that it exports, for the commands that are run, and `functions` the site's own. `strict`
    gives NHC's own answer also where it hides a fault.
    """

    facts: Facts
    variables: Mapping[str, str]
    deadline_s: float = 30.0
    strict: bool = False
    clock: Callable[[], float] = time.time
    environment: Mapping[str, str] = MappingProxyType({})
    functions: Functions | None = None
    waiting: Engine | None = None

    @property
    def engine(self) -> Engine:
        """What waits for this pass; without a word an event loop."""
        if self.waiting is not None:
            return self.waiting
        from refloat_checks.nhc.looping import ENGINE  # noqa: PLC0415 - it loads asyncio

        return ENGINE

    def variable(self, name: str, default: str = "") -> str:
        """Give a variable's value; the default if it is empty or not set, as `${NAME:-default}` does."""
        return self.variables.get(name, "") or default


if TYPE_CHECKING:
    Look = Callable[[Sequence[str], NhcRun], Coroutine[Any, Any, NhcOutcome]]


@record
class NativeCheck:
    """One of NHC's checks. It never raises: what it cannot look at is UNKNOWN, for itself alone."""

    name: str
    look: Look

    async def run(self, words: list[str], run: NhcRun) -> NhcOutcome:
        """Look with these arguments (without the check's name)."""
        try:
            return await run.engine.within(run.deadline_s, self.look(words, run))
        except Aborted:
            return NhcOutcome(1, "", Status.FAILED)
        except (BadUnit, BadPattern, BadWords) as error:
            return unknown(self.name, f"Configuration error:  {error}")
        except Late:
            return unknown(self.name, f"Could not be looked at:  no answer within {run.deadline_s:g} s")
        except TimeoutError as error:
            return unknown(self.name, f"Could not be looked at:  {str(error) or 'timed out'}")
        except (RefloatError, OSError, ValueError) as error:
            return unknown(self.name, f"Could not be looked at:  {error}")


class BadWords(Exception):
    """The check's arguments make no sense, and NHC would not have said so."""
