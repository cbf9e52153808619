# SPDX-License-Identifier: Apache-2.0
"""check_ps_cpu, _mem, _physmem, _time: processes of users that use more than they should."""

from __future__ import annotations

from refloat_checks import hardware, process_table
from refloat_checks.nhc import login_defs, units
from refloat_checks.nhc.checks.numbers import size_kb, whole
from refloat_checks.nhc.checks.options import Options, getopts
from refloat_checks.nhc.checks.owners import names, owner_named
from refloat_checks.nhc.checks.patterns import require_meaning
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.native import (
    PASSED,
    Aborted,
    Action,
    Kill,
    NativeCheck,
    NhcOutcome,
    NhcRun,
    Renice,
    Shell,
    failed,
)
from refloat_checks.nhc.units import BadUnit
from refloat_checks.proc import read_text
from refloat_checks.process_table import ProcessUse
from refloat_contract.records import record, replace

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Final

    from refloat_checks.facts import Facts
    from refloat_checks.nhc.native import Look

_LOGIN_DEFS: Final = "/etc/login.defs"
_PERMILLE: Final = 10
_MANY: Final = 1000
_INIT: Final = 1


def cpu_percent(process: ProcessUse) -> float:
    """Its share of one CPU."""
    return process.cpu_permille / _PERMILLE


def ram_percent(process: ProcessUse) -> float:
    """Its share of all memory."""
    return process.memory_permille / _PERMILLE


@record
class Which:
    """Which processes are looked at: by first word or whole line, and by owner (match strings)."""

    pattern: str = "*"
    owner: str = ""
    whole_line: bool = False
    every_user: bool = False
    max_sys_uid: int = 99

    def program(self, process: ProcessUse) -> str:
        """What the pattern is compared with."""
        return process.title if self.whole_line else process.word

    def is_looked_at(self, uid: int) -> bool:
        """Tell whether a user's processes are looked at: the system's own only if every user's are."""
        return self.every_user or uid > self.max_sys_uid

    def has(self, process: ProcessUse, users: Mapping[int, str]) -> bool:
        """Tell whether a process is one of them."""
        return (
            self.is_looked_at(process.uid)
            and matches(self.pattern, self.program(process))
            and (not self.owner or matches(self.owner, users[process.uid]))
        )


def over(
    processes: Iterable[ProcessUse],
    users: Mapping[int, str],
    which: Which,
    of: Callable[[ProcessUse], float],
    limit: float | None,
) -> Iterator[ProcessUse]:
    """Find those that have reached a limit; without one none has."""
    for process in processes:
        if limit is not None and which.has(process, users) and of(process) >= limit:
            yield process


async def seen(facts: Facts, which: Which) -> tuple[tuple[ProcessUse, ...], dict[int, str]]:
    """Give all processes, and the names of the users whose processes are looked at."""
    memory = await hardware.memory(facts)
    processes = await process_table.uses(facts, memory.ram_kb)
    return processes, await names(facts, (each.uid for each in processes if which.is_looked_at(each.uid)))


@record
class Limit:
    """A limit, what of a process is held against it, and how a message says so."""

    value: int | None
    of: Callable[[ProcessUse], float]
    said: Callable[[ProcessUse], str]


@record
class Selection:
    """Which processes are looked at, and what is done to those that use too much."""

    which: Which
    all: bool
    is_fatal: bool
    kill: bool
    kill_parent: bool
    renice: str
    action: str
    is_test: bool


def select(given: Options, owner: str, max_sys_uid: int, *, is_test: bool) -> Selection:
    """Make a selection of the options."""
    return Selection(
        Which(given.last("m") or "*", owner, given.has("f"), given.has("A"), max_sys_uid),
        all=given.has("a"),
        is_fatal=not given.has("0"),
        kill=given.has("k"),
        kill_parent=given.has("K"),
        renice=given.last("r"),
        action=given.last("e"),
        is_test=is_test,
    )


def percent_text(permille: int) -> str:
    """Spell a share as ps does: one decimal, but none above 999."""
    return f"{permille // _PERMILLE}.{permille % _PERMILLE}" if permille < _PERMILLE * _MANY else f"{permille // 10}"


def limit_of(name: str, text: str, *, strict: bool) -> Limit | NhcOutcome:
    """Read the threshold of the check of this name."""
    return _LIMITS[name](name, text, strict)


def _of_cpu(name: str, text: str, strict: bool) -> Limit | NhcOutcome:  # noqa: FBT001 - one of a table
    digits = text.removesuffix("%")
    if not digits.isdigit():
        return failed(name, "Syntax error:  CPU utilization limit required.")
    return Limit(
        whole(digits, "CPU limit", strict=strict),
        cpu_percent,
        lambda process: f"using {percent_text(process.cpu_permille)}% CPU (limit {digits}%)",
    )


def _of_memory(name: str, text: str, strict: bool) -> Limit | NhcOutcome:  # noqa: FBT001 - one of a table
    if not text:
        return failed(name, "Syntax error:  Memory utilization limit required.")
    if text.endswith("%"):
        return failed(name, "Syntax error:  Percentage not supported by this check.")
    return _of_size(text, lambda process: process.vsz_kb, "memory (RAM+swap)", strict=strict)


def _of_ram(name: str, text: str, strict: bool) -> Limit | NhcOutcome:  # noqa: FBT001 - one of a table
    if not text:
        return failed(name, "Syntax error:  Memory utilization limit required.")
    if not text.endswith("%"):
        return _of_size(text, lambda process: process.rss_kb, "RAM", strict=strict)
    digits = text.removesuffix("%")
    return Limit(
        whole(digits, "memory limit", strict=strict),
        ram_percent,
        lambda process: f"using {percent_text(process.memory_permille)}% RAM (limit {digits}%)",
    )


def _of_size(text: str, of: Callable[[ProcessUse], int], what: str, *, strict: bool) -> Limit:
    value = size_kb(text, strict=strict)
    limit = "" if value is None else units.unparse_size(value)
    return Limit(value, of, lambda process: f"using {units.unparse_size(of(process))} {what} (limit {limit})")


def _of_time(name: str, text: str, strict: bool) -> Limit | NhcOutcome:  # noqa: FBT001 - one of a table
    if not text:
        return failed(name, "Syntax error:  CPU time utilization limit required.")
    if set(text) - set("0123456789MmSs"):
        return failed(name, f'Syntax error:  Invalid characters in CPU time limit "{text}"')
    try:
        value: int | None = units.parse_cputime(text)
    except BadUnit:
        if not strict:
            raise
        value = None
    # NHC's message has the time that was used in the limit's place.
    return Limit(value, _seconds_of(strict=strict), lambda process: _time_said(process, text, strict=strict))


def _seconds_of(*, strict: bool) -> Callable[[ProcessUse], int]:
    def seconds(process: ProcessUse) -> int:
        if strict and process.cpu_s % 60 in {8, 9}:
            # 08 and 09 are no octal numbers, and the shell gives up.
            raise Aborted
        return process.cpu_s

    return seconds


def _time_said(process: ProcessUse, limit: str, *, strict: bool) -> str:
    minutes, seconds = divmod(process.cpu_s, 60)
    shown = f"{minutes}m{seconds:02}s" if strict else limit
    return f"has consumed {minutes}:{seconds:02} of CPU time (limit {shown})"


_LIMITS: Final[Mapping[str, Callable[[str, str, bool], Limit | NhcOutcome]]] = {
    "check_ps_cpu": _of_cpu,
    "check_ps_mem": _of_memory,
    "check_ps_physmem": _of_ram,
    "check_ps_time": _of_time,
}


def judge(
    name: str, processes: Sequence[ProcessUse], users: Mapping[int, str], limit: Limit, chosen: Selection
) -> NhcOutcome:
    """Find the first process over the limit, or with `-a` all of them; then the return code is their number."""
    parents = {process.pid: process for process in processes}
    outcome, count = PASSED, 0
    for process in over(processes, users, chosen.which, limit.of, limit.value):
        outcome = _report(name, process, users, limit, chosen, parents, outcome)
        count += 1
        if not chosen.all:
            return outcome if chosen.is_fatal else _lenient(outcome)
        outcome = replace(outcome, log=(*outcome.log, f"{outcome.message} ({count})"))
    if count == 0:
        return PASSED
    if not chosen.is_fatal:
        return _lenient(outcome)
    return replace(outcome, rc=count, message=f"{outcome.message} (last of {count})")


def _lenient(outcome: NhcOutcome) -> NhcOutcome:
    return replace(PASSED, actions=outcome.actions, log=(*outcome.log, f"{outcome.message} (non-fatal)"))


def _report(
    name: str,
    process: ProcessUse,
    users: Mapping[int, str],
    limit: Limit,
    chosen: Selection,
    parents: Mapping[int, ProcessUse],
    before: NhcOutcome,
) -> NhcOutcome:
    program, user = chosen.which.program(process), users[process.uid]
    text = f'Process "{program}" ({process.pid}) of {user} {limit.said(process)}'
    actions: list[Action] = [Shell(chosen.action)] if chosen.action else []
    if chosen.kill:
        actions.append(Kill(process.pid, process.started_ticks))
        text += "; killed"
    elif chosen.renice:
        actions.append(Renice(process.pid, chosen.renice, process.started_ticks))
        text += f"; reniced {'' if chosen.renice.startswith('-') else '+'}{chosen.renice}"
    if chosen.kill_parent:
        said, more = _kill_parent(process, parents.get(process.ppid))
        text += said
        actions += more
    done = () if chosen.is_test else tuple(actions)
    return replace(failed(name, text), actions=(*before.actions, *done), log=before.log)


def _kill_parent(process: ProcessUse, parent: ProcessUse | None) -> tuple[str, list[Action]]:
    if process.ppid == _INIT:
        return f"; parent {process.ppid} not killed (PPID is 1)", []
    if parent is None or parent.uid != process.uid:
        return f"; parent {process.ppid} not killed (owner mismatch)", []
    return f"; killed parent {process.ppid}", [Kill(parent.pid, parent.started_ticks)]


def _look(name: str) -> Look:
    async def look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
        given = getopts(name, ":0AKae:fklm:r:su:", words)
        if isinstance(given, NhcOutcome):
            return given
        limit = limit_of(name, given.rest[0] if given.rest else "", strict=run.strict)
        if isinstance(limit, NhcOutcome):
            return limit
        owner = await owner_named(run.facts, given.last("u"))
        chosen = select(given, owner, await max_sys_uid(run), is_test=run.variable("SHELL") == ":")
        require_meaning(run, chosen.which.pattern, chosen.which.owner)
        processes, users = await seen(run.facts, chosen.which)
        return judge(name, processes, users, limit, chosen)

    return look


async def max_sys_uid(run: NhcRun) -> int:
    """Give the largest number of a system's own user: the configuration's, else that of login.defs(5)."""
    text = run.variable("MAX_SYS_UID")
    if text:
        return whole(text, "MAX_SYS_UID", strict=run.strict) or 0
    place = run.facts.roots.root / run.variable("LOGIN_DEFS_SRC", _LOGIN_DEFS).lstrip("/")
    return await run.facts.read("login.defs", lambda: _read_max_sys_uid(place))


def _read_max_sys_uid(place: Path) -> int:
    try:
        return login_defs.max_sys_uid(read_text(place))
    except FileNotFoundError:
        return login_defs.max_sys_uid("")


CHECKS: Final = tuple(NativeCheck(name, _look(name)) for name in _LIMITS)
