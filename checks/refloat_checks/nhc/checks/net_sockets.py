# SPDX-License-Identifier: Apache-2.0
"""check_net_socket: that a socket is there, or not, by protocol, addresses, state, owner and program."""

from __future__ import annotations

from refloat_checks import process_table, sockets
from refloat_checks.nhc.checks.options import Options, getopts
from refloat_checks.nhc.checks.owners import names
from refloat_checks.nhc.checks.patterns import require_meaning
from refloat_checks.nhc.match import compiled, matches
from refloat_checks.nhc.native import (
    Action,
    NativeCheck,
    NhcOutcome,
    NhcRun,
    Shell,
    failed,
    not_fatal,
    passed,
)
from refloat_checks.sockets import Socket
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Final

    from refloat_checks.facts import Facts

NAME: Final = "check_net_socket"
_FIELDS: Final = (
    ("p", "protocol"),
    ("l", "localaddr"),
    ("r", "remoteaddr"),
    ("s", "state"),
    ("t", "type"),
    ("u", "user"),
    ("d", "daemon"),
)
_UNHELD: Final = "unknown"  # netstat's word for the program of a socket that nobody holds open


@record
class Wanted:
    """Match strings by option letter, and what is made of what they find."""

    patterns: Mapping[str, str]
    label: str = ""
    is_fatal: bool = True
    all: bool = False
    negated: bool = False
    action: str = ""
    found_action: str = ""
    is_test: bool = False

    @property
    def criteria(self) -> str:
        """What is looked for, in NHC's words."""
        given = ((what, self.patterns[letter]) for letter, what in _FIELDS if letter in self.patterns)
        text = " && ".join(f'({what} =~ "{pattern}")' for what, pattern in given)
        flags = ((self.all, " (all)"), (not self.is_fatal, " (non-fatal)"), (self.negated, " (NEGATED)"))
        return text + "".join(flag for is_set, flag in flags if is_set)


def read_words(words: Sequence[str], *, is_test: bool = False) -> Wanted | NhcOutcome:
    """Read the arguments."""
    given = getopts(NAME, ":!0ad:l:n:p:r:s:t:u:e:E:", words)
    if isinstance(given, NhcOutcome):
        return given
    rest = " ".join(given.rest)
    if rest:
        return failed(NAME, f'Syntax error:  Unsupported additional arguments supplied ("{rest}").')
    patterns = {letter: given.last(letter) for letter, _ in _FIELDS if given.last(letter)}
    if not patterns:
        return failed(NAME, "No match criteria supplied.")
    return _wanted(given, patterns, is_test=is_test)


def _wanted(given: Options, patterns: Mapping[str, str], *, is_test: bool) -> Wanted:
    return Wanted(
        patterns,
        label=given.last("n"),
        is_fatal=not given.has("0"),
        all=given.has("a"),
        negated=given.has("!"),
        action=given.last("e"),
        found_action=given.last("E"),
        is_test=is_test,
    )


def candidates(found: Sequence[Socket], patterns: Mapping[str, str]) -> list[Socket]:
    """Find the sockets that fit in all that their table tells."""
    tests = [(patterns[letter], value) for letter, value in _TOLD.items() if letter in patterns]
    proto = patterns.get("p", "")
    return [
        each
        for each in found
        if (not proto or _is_of(each, proto)) and all(matches(pattern, value(each)) for pattern, value in tests)
    ]


_TOLD: Final[Mapping[str, Callable[[Socket], str]]] = {
    "l": lambda each: each.local,
    "r": lambda each: each.remote,
    "s": lambda each: each.state,
    "t": lambda each: each.type,
}


def _is_of(each: Socket, pattern: str) -> bool:
    return matches(pattern, each.proto) or (each.is_v6 and matches(pattern, f"{each.proto}6"))


def judge(count: int, wanted: Wanted) -> NhcOutcome:
    """Decide about the number of sockets that fit; without `-a` there is no second."""
    if count and not wanted.all:
        count = 1
        if not wanted.negated:
            return passed()
    action = wanted.found_action if count else wanted.action
    actions: tuple[Action, ...] = (Shell(action),) if action and not wanted.is_test else ()
    if count and wanted.negated:
        text = f"{count} {wanted.label or 'matching'} socket(s) found ({wanted.criteria})"
        outcome = failed(NAME, text, rc=count, actions=actions)
    elif not count and not wanted.negated:
        text = f"No {wanted.label or 'matching'} sockets found ({wanted.criteria})"
        outcome = failed(NAME, text, actions=actions)
    else:
        return passed(actions=actions)
    return outcome if wanted.is_fatal else not_fatal(outcome)


async def _look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    wanted = read_words(words, is_test=run.variable("SHELL") == ":")
    if isinstance(wanted, NhcOutcome):
        return wanted
    require_meaning(run, *wanted.patterns.values())
    return judge(len(await find(run.facts, wanted.patterns)), wanted)


async def find(facts: Facts, patterns: Mapping[str, str]) -> list[Socket]:
    """Find the sockets that fit in all that is given, by NHC's option letters."""
    proto = patterns.get("p", "")

    def may_be(name: str) -> bool:
        return not proto or matches(proto, name) or matches(proto, f"{name}6")

    state = compiled(patterns.get("s", "*"))
    fit = candidates(await sockets.sockets(facts, may_be, state), patterns)
    if "u" in patterns:
        users = await names(facts, (each.uid for each in fit if each.uid is not None))
        fit = [each for each in fit if matches(patterns["u"], "" if each.uid is None else users[each.uid])]
    return await _held_by(patterns["d"], fit, facts) if "d" in patterns and fit else fit


async def _held_by(pattern: str, fit: Sequence[Socket], facts: Facts) -> list[Socket]:
    """Keep the sockets that such a program holds.

    A program's open files take long to read, so they are read of those only that have such a name; of all, if a socket
    fits that such a program does not hold.
    """
    programs = {each.pid: sockets.program_name(each.title) for each in await process_table.titles(facts)}
    names_that_fit = {name for name in set(programs.values()) if matches(pattern, name)}
    named = tuple(pid for pid, name in programs.items() if name in names_that_fit)
    all_pids = pattern.startswith("!") or matches(pattern, _UNHELD)
    inodes = frozenset(each.inode for each in fit)
    holders = await sockets.holders(facts, tuple(programs) if all_pids else named, inodes)
    kept = []
    for each in fit:
        held_by = [programs[pid] for pid in holders.get(each.inode, ())] or [_UNHELD]
        if any(matches(pattern, name) for name in (held_by[:1] if all_pids else held_by)):
            kept.append(each)
    return kept


CHECKS: Final = (NativeCheck(NAME, _look),)
