# SPDX-License-Identifier: Apache-2.0
"""check_ps_unauth_users and check_ps_userproc_lineage: processes of users who have no business here."""

from __future__ import annotations

import re

from refloat_checks import hardware, process_table
from refloat_checks.nhc import deviations
from refloat_checks.nhc.checks import jobs
from refloat_checks.nhc.checks.acting import react
from refloat_checks.nhc.checks.options import Options, getopts
from refloat_checks.nhc.checks.owners import names
from refloat_checks.nhc.checks.patterns import require_meaning
from refloat_checks.nhc.checks.resources import max_sys_uid
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.native import PASSED, Kill, NativeCheck, NhcOutcome, NhcRun, failed, otherwise
from refloat_checks.process_table import ProcessUse
from refloat_contract.records import record, replace
from refloat_contract.status import Status

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import Final

    from refloat_checks.facts import Facts

_UNAUTHORISED: Final = "check_ps_unauth_users"
_LINEAGE: Final = "check_ps_userproc_lineage"
_INIT: Final = 1
DAEMONS: Final = {
    "pbs": r"/\bpbs_mom\b/",
    "slurm": r"/\bslurmstepd\b/",
    "sge": r"/\bsge_(execd|shepherd)\b/",
    "lsf": r"/\bres\b/",
}


@record
class Ignored:
    """What the options say not to look at."""

    commands: tuple[str, ...] = ()
    uids: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    pids: tuple[str, ...] = ()
    strict: bool = False

    def has(self, process: ProcessUse, user: str) -> bool:
        """Tell whether a process is one of them. NHC takes also what is only a part of what was given."""
        lists = (
            (self.commands, process.word),
            (self.uids, str(process.uid)),
            (self.users, user),
            (self.pids, str(process.pid)),
        )
        if self.strict:
            return any(value in "".join(f" {word}" for word in words) for words, value in lists)
        return any(value in " ".join(words).split() for words, value in lists)


def ignored(given: Options, *, strict: bool) -> Ignored:
    """Read the options of both checks."""
    return Ignored(given.all("c"), given.all("u"), given.all("n"), given.all("p"), strict=strict)


@record
class Known:
    """Whose processes are looked at, and who of them may have any."""

    users: Mapping[int, str]
    authorised: Collection[str]
    spared: Ignored
    max_uid: int

    def is_stranger(self, process: ProcessUse) -> bool:
        """Tell whether a process is of a user who is neither the system's nor authorised."""
        if process.uid <= self.max_uid:
            return False
        user = self.users[process.uid]
        return user not in self.authorised and not self.spared.has(process, user)


def unauthorised(processes: Iterable[ProcessUse], known: Known) -> list[ProcessUse]:
    """Find processes of users who are neither the system's nor authorised."""
    return [each for each in processes if known.is_stranger(each)]


def rogue(processes: Sequence[ProcessUse], known: Known, daemon: str) -> list[ProcessUse]:
    """Find processes of users that the resource manager's daemon did not start, at any remove."""
    by_pid = {each.pid: each for each in processes}
    return [
        each
        for each in processes
        if known.is_stranger(each) and not matches(daemon, each.word) and not _descends(each, by_pid, daemon)
    ]


def judge_users(processes: Iterable[ProcessUse], known: Known, words: Sequence[str]) -> NhcOutcome:
    """Find processes of users who are neither the system's nor authorised, and do what the words say."""
    return _react(_UNAUTHORISED, "unauthorized", unauthorised(processes, known), known.users, words)


def judge_lineage(processes: Sequence[ProcessUse], known: Known, words: Sequence[str], daemon: str) -> NhcOutcome:
    """Find processes of users that the daemon did not start, and do what the words say."""
    return _react(_LINEAGE, "rogue", rogue(processes, known, daemon), known.users, words)


def _descends(process: ProcessUse, by_pid: Mapping[int, ProcessUse], daemon: str) -> bool:
    seen: set[int] = set()
    pid = process.pid
    while pid in by_pid and pid != _INIT and pid not in seen:
        seen.add(pid)
        pid = by_pid[pid].ppid
        if pid in by_pid and matches(daemon, by_pid[pid].title):
            return True
    return False


def _react(
    name: str, what: str, strangers: Iterable[ProcessUse], users: Mapping[int, str], words: Sequence[str]
) -> NhcOutcome:
    outcome = PASSED
    for each in strangers:
        text = f'{users[each.uid]}\'s "{each.word}" process is {what}. (PID {each.pid})'
        one = react(name, text, words, Kill(each.pid, each.started_ticks))
        outcome = replace(
            one,
            actions=(*outcome.actions, *one.actions),
            log=(*outcome.log, *one.log),
            syslog=(*outcome.syslog, *one.syslog),
        )
        if one.status is Status.FAILED:
            break
    return outcome


async def processes_of_users(facts: Facts, max_uid: int) -> tuple[tuple[ProcessUse, ...], dict[int, str]]:
    """Give all processes, and the names of those owners who are not the system's."""
    memory = await hardware.memory(facts)
    processes = await process_table.uses(facts, memory.ram_kb)
    return processes, await names(facts, (each.uid for each in processes if each.uid > max_uid))


async def _unauthorised(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    given = getopts(_UNAUTHORISED, ":c:u:n:p:", words)
    if isinstance(given, NhcOutcome):
        return given
    if not run.strict and run.variable("NHC_RM") not in jobs.KNOWN:
        text = "Who has jobs here cannot be found without a supported resource manager (slurm, pbs)"
        return otherwise(run, deviations.NO_JOB_LIST, _UNAUTHORISED, text)
    authorised = await jobs.authorised(run)
    max_uid = await max_sys_uid(run)
    processes, users = await processes_of_users(run.facts, max_uid)
    known = Known(users, authorised, ignored(given, strict=run.strict), max_uid)
    return judge_users(processes, known, given.rest)


async def _lineage(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    given = getopts(_LINEAGE, ":c:u:n:p:", words)
    if isinstance(given, NhcOutcome):
        return given
    manager = run.variable("NHC_RM")
    if manager in {"", "none"}:
        text = "This check requires a supported resource manager (e.g., Slurm, TORQUE, SGE, LSF)"
        return failed(_LINEAGE, text)
    # NHC leaves it empty for any other manager, and an empty match string matches no title.
    daemon = run.variable("RM_DAEMON_MATCH", DAEMONS.get(manager, ""))
    require_meaning(run, daemon)
    max_uid = await max_sys_uid(run)
    processes, users = await processes_of_users(run.facts, max_uid)
    authorised = _authorised(run, set(users.values()))
    known = Known(users, authorised, ignored(given, strict=run.strict), max_uid)
    return judge_lineage(processes, known, given.rest, daemon)


def _authorised(run: NhcRun, users: set[str]) -> set[str]:
    text = run.variable("NHC_AUTH_USERS", jobs.AUTHORISED)
    if not run.strict:
        return set(text.split())
    return {user for user in users if re.search(rf"(^|[^A-Za-z0-9]){re.escape(user)}($|[^A-Za-z0-9])", text)}


CHECKS: Final = (NativeCheck(_UNAUTHORISED, _unauthorised), NativeCheck(_LINEAGE, _lineage))
