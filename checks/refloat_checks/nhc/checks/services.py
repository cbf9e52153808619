# SPDX-License-Identifier: Apache-2.0
"""check_ps_service: that a service's process runs, or must not, and what to do about it."""

from __future__ import annotations

from refloat_checks import process_table, titles
from refloat_checks.nhc.checks.options import getopts
from refloat_checks.nhc.checks.owners import Owned, owned, owner_named
from refloat_checks.nhc.checks.patterns import require_meaning
from refloat_checks.nhc.native import (
    PASSED,
    Action,
    AwaitExit,
    Command,
    Kill,
    NativeCheck,
    NhcOutcome,
    NhcRun,
    Shell,
    failed,
    not_fatal,
    passed,
)
from refloat_checks.process_titles import Title, by_word
from refloat_contract.records import record, replace

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from refloat_checks.facts import Facts

NAME: Final = "check_ps_service"
_SERVICE: Final = "/sbin/service"
_CYCLE: Final = f'{_SERVICE} "$@" stop ; sleep 2 ; exec {_SERVICE} "$@" start'


@record
class Service:
    """What the check is told. `starts` and `stops` are in NHC's order of precedence, empty if none is asked for."""

    words: tuple[str, ...]
    daemon: str
    pattern: str
    owner: str = ""
    whole_line: bool = False
    starts: str = ""
    stops: str = ""
    action: str = ""
    verify: str = ""
    is_fatal: bool = True
    is_test: bool = False
    any_title: bool = False

    @property
    def name(self) -> str:
        """The service's name."""
        return " ".join(self.words)

    @property
    def subject(self) -> str:
        """How messages begin."""
        owner = f"owned by {self.owner} " if self.owner else ""
        return f"Service {self.name} (process {self.daemon}) {owner}"

    @property
    def must_run(self) -> bool:
        """False if finding it is the failure."""
        return not self.stops


def read_words(words: Sequence[str], *, strict: bool = False, is_test: bool = False) -> Service | NhcOutcome:
    """Read the arguments."""
    given = getopts(NAME, ":0E:SVcd:e:fkm:rsu:v", words)
    if isinstance(given, NhcOutcome):
        return given
    if not " ".join(given.rest):
        return failed(NAME, "Syntax error:  Service name required.")
    daemon = given.last("d") or " ".join(given.rest)
    found_action, action = given.last("E"), given.last("e")
    stops = "kill" if given.has("k") else "stop" if given.has("s") else "act" if found_action else ""
    starts = next(
        (word for letter, word in (("S", "start"), ("r", "restart"), ("c", "cycle")) if given.has(letter)), ""
    )
    return Service(
        given.rest,
        daemon,
        given.last("m") or f"*{daemon}",
        owner=given.last("u"),
        whole_line=given.has("f"),
        starts=starts or ("act" if action else ""),
        stops=stops,
        action=found_action if stops else action,
        verify="sync" if given.has("v") else "check" if given.has("V") else "",
        is_fatal=not given.has("0"),
        is_test=is_test,
        # What it may be titled otherwise is a guess, and nothing to be killed for.
        any_title=not strict and not given.last("m") and not stops,
    )


def candidates(by_word: Mapping[str, Sequence[Title]], service: Service) -> list[Title]:
    """Find the processes whose title fits, among titles sorted by their first words."""
    if service.whole_line:
        found = titles.with_line(by_word, service.pattern)
    else:
        found = titles.with_word(by_word, service.pattern, service.daemon if service.any_title else "")
    return sorted(found, key=lambda each: each.pid)


def judge(found: Sequence[Owned], service: Service) -> NhcOutcome:
    """Decide about the processes that fit in title and owner, and what is to be done."""
    if service.must_run:
        outcome = PASSED if found else _not_running(service)
    else:
        outcome = _running(found, service) if found else PASSED
    return outcome if service.is_fatal else _not_fatal(outcome)


def _not_fatal(outcome: NhcOutcome) -> NhcOutcome:
    settle = outcome.settle
    lenient = not_fatal(outcome)
    return lenient if settle is None else replace(lenient, settle=lambda statuses: not_fatal(settle(statuses)))


def _not_running(service: Service) -> NhcOutcome:
    base = f"{service.subject}not running"
    if not service.starts:
        return failed(NAME, base)
    said = f'{base}; "{service.action}"' if service.starts == "act" else f"{base}; {service.starts}"
    if service.is_test:
        return failed(NAME, f"{said} in progress")
    command = _start_command(service)
    if not service.verify:
        return failed(NAME, f"{said} in progress", actions=(command,))
    see = (Command((_SERVICE, *service.words, "status")),) if service.verify == "check" else ()

    def settle(statuses: Sequence[int]) -> NhcOutcome:
        if statuses[0] != 0:
            return failed(NAME, f"{said} failed (exit code {statuses[0]}).")
        if len(statuses) > 1 and statuses[1] != 0:
            return failed(NAME, f"{said} succeeded but failed to start service {service.name}.")
        done = f"{said} succeeded; service {service.name} now running." if see else ""
        # Without a look at it NHC says this, whatever it did.
        return passed(log=(f"{NAME}:  {done or f'{said}; service {service.name} stopped successfully.'}",))

    return replace(failed(NAME, base, actions=(command, *see)), settle=settle)


def _start_command(service: Service) -> Action:
    if service.starts == "act":
        return Shell(service.action)
    if service.starts == "cycle":
        return Command(("/bin/bash", "-c", _CYCLE, "cycle", *service.words))
    return Command((_SERVICE, *service.words, service.starts))


def _running(found: Sequence[Owned], service: Service) -> NhcOutcome:
    base = f"{service.subject}running"
    if service.stops == "kill":
        return _kill(found, service, base)
    first = found[0]
    stopping = service.stops == "stop"
    in_progress = "; service termination in progress" if stopping else f'; "{service.action}" in progress.'
    if service.is_test:
        return failed(NAME, base + ("; termination in progress" if stopping else in_progress))
    action: Action = Command((_SERVICE, *service.words, "stop")) if stopping else Shell(service.action)
    if not service.verify:
        return failed(NAME, base + in_progress, actions=(action,))
    see = (AwaitExit(first.pid, first.started_ticks),) if service.verify == "check" else ()

    def settle(statuses: Sequence[int]) -> NhcOutcome:
        return _stopped(statuses, first.pid, service, base)

    return replace(failed(NAME, base, actions=(action, *see)), settle=settle)


def _stopped(statuses: Sequence[int], pid: int, service: Service, base: str) -> NhcOutcome:
    stopping = service.stops == "stop"
    said = f'{base}; "{_SERVICE} {service.name} stop"' if stopping else base
    if statuses[0] != 0:
        return failed(NAME, f"{said} failed (exit code {statuses[0]}).")
    if len(statuses) > 1 and statuses[1] != 0:
        return failed(NAME, f"{said} succeeded but failed to {'stop' if stopping else 'terminate'} process {pid}.")
    if len(statuses) > 1:
        done = (
            f"; service {service.name} stopped and process {pid} terminated successfully."
            if stopping
            else f" successfully terminated service {service.name} (process {pid})."
        )
    else:
        done = f"; service {service.name} stopped successfully." if stopping else " succeeded."
    return passed(log=(f"{NAME}:  {base}{done}",))


def _kill(found: Sequence[Owned], service: Service, base: str) -> NhcOutcome:
    first = found[0]
    if service.is_test:
        return failed(NAME, f"{base}; killed process ID {first.pid} (test mode)")
    kills = tuple(Kill(each.pid, each.started_ticks) for each in found)
    if not service.verify:
        return failed(NAME, f"{base}; killed process ID {first.pid} (SIGKILL)", actions=kills[:1])
    if service.verify == "check":
        actions: tuple[Action, ...] = (kills[0], AwaitExit(first.pid, first.started_ticks))
        return replace(failed(NAME, base, actions=actions), settle=lambda got: _killed_one(got, first.pid, base))
    pids = [each.pid for each in found]
    return replace(failed(NAME, base, actions=kills), settle=lambda got: _killed_all(got, pids, base))


def _killed_one(statuses: Sequence[int], pid: int, base: str) -> NhcOutcome:
    if statuses[0] != 0:
        return failed(NAME, f'{base}; "kill -9 {pid}" failed (exit code {statuses[0]}).')
    if statuses[1] != 0:
        return failed(NAME, f'{base}; "kill -9 {pid}" succeeded but failed to terminate process.')
    return passed(log=(f"{NAME}:  {base}; process ID {pid} terminated successfully.",))


def _killed_all(statuses: Sequence[int], pids: Sequence[int], base: str) -> NhcOutcome:
    for status, pid in zip(statuses, pids, strict=False):
        if status != 0:
            return failed(NAME, f'{base}; "kill -9 {pid}" failed (exit code {status}).')
    return passed(log=tuple(f"{NAME}:  {base}; process ID {pid} killed successfully." for pid in pids))


async def _look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    asked = (NAME, *words)
    service = read_words(words, strict=run.strict, is_test=run.variable("SHELL") == ":")
    if isinstance(service, NhcOutcome):
        return service
    service = replace(service, owner=await owner_named(run.facts, service.owner))
    require_meaning(run, service.pattern, service.owner)
    found = await _runs_still(run.facts, service, asked) if service.must_run else ()
    return judge(found or await _found(run.facts, service, asked), service)


async def _runs_still(facts: Facts, service: Service, asked: tuple[str, ...]) -> Sequence[Owned]:
    """Look at the process that was found the last time: while it is one that fits, no other needs to be read."""
    witness = await process_table.witness(facts, asked)
    return await _fitting(facts, by_word([witness]), service) if witness is not None else ()


async def _found(facts: Facts, service: Service, asked: tuple[str, ...]) -> Sequence[Owned]:
    found = await _fitting(facts, await process_table.titles_by_word(facts), service)
    if found:
        facts.titles.keep_witness(asked, found[0].pid)
    return found


async def _fitting(facts: Facts, titles: Mapping[str, Sequence[Title]], service: Service) -> Sequence[Owned]:
    fit = candidates(titles, service)
    if service.must_run and not service.owner:
        # Whose it is does not matter, and that it is there is enough.
        return [Owned(each.pid, each.title, "", 0) for each in fit]
    return await owned(facts, fit, service.owner)


CHECKS: Final = (NativeCheck(NAME, _look),)
