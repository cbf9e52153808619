# SPDX-License-Identifier: Apache-2.0
"""The traps of NHC in what stands behind the `||`: settings that come too late, numbers that are none, odd checks."""

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from refloat_checks.nhc import words
from refloat_checks.nhc.language import BadPattern
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.plan import BUILTINS
from refloat_checks.nhc.words import Command

_TOO_LATE: Final = frozenset(
    {"CONFDIR", "CONFFILE", "INCDIR", "NAME", "LOGFILE", "TIMEOUT", "DETACHED_MODE", "EVAL_LINE", "HOSTNAME_S"}
)
_IN_SIZES: Final = (
    "check_fs_size",
    "check_fs_free",
    "check_fs_used",
    "check_hw_physmem",
    "check_hw_swap",
    "check_hw_mem",
)
_OF_FILESYSTEM: Final = ("check_fs_size", "check_fs_free", "check_fs_used", "check_fs_inodes", "check_fs_i")
# What stands in /dev is a device, but for the filesystems that are mounted there.
_MOUNT_POINT: Final = re.compile(r"/(?!dev/(?!shm|pts|mqueue|hugepages))")
_NUMBERLIKE: Final = re.compile(r"[0-9][0-9.]*[A-Za-z%]*")
_SIZE: Final = re.compile(r"[0-9]+(?:[kKmMgGtTpPeE]?[bB]?|%)")
_IN_BYTES: Final = re.compile(r"[0-9]+[bB]")
_MATCHED_OPTIONS: Final = frozenset({"-m", "-s", "-t", "-o", "-u", "-d", "-l", "-r"})
_EXIT: Final = re.compile(r"(?:^|[;&|{(]\s*)exit\b")
_DYING: Final = re.compile(r"\b(?:die|check_\w+)\b")


@dataclass(frozen=True, slots=True)
class Remark:
    """What is wrong, what NHC does there, what refloat does, and how to write it."""

    what: str
    nhc: str
    refloat: str
    write: str


@dataclass(slots=True)
class Seen:
    """What the lines before have set and used."""

    variables: set[str] = field(default_factory=set)
    hardware: bool = False


def remarks(text: str, command: Command | None, known: Collection[str], seen: Seen) -> Iterator[Remark]:
    """Find the traps in one check; `seen` goes from line to line."""
    if "HW_" in text and not seen.hardware:
        yield Remark("a HW_ variable is used before any check_hw_", "it is 0", "it is set", "a check_hw_ line before")
    if "NHC_MCHECK_" in text:
        nhc = "has matched all targets already; runs the command for match strings of checks"
        yield Remark("an external match is defined", nhc, "never runs it", "ranges, lists or regular expressions")
        return
    if command is None:
        yield from _of_shell(text, seen)
        return
    for name, _ in command.assignments:
        seen.variables.add(name)
        yield from _of_setting(name)
    if command.name is not None:
        seen.hardware = seen.hardware or command.name.startswith("check_hw_")
        arguments = [word for each in command.words[1:] for word in words.expand(each, lambda _: "") or ()]
        yield from _of_check(command.name, arguments, known, seen)


def _of_shell(text: str, seen: Seen) -> Iterator[Remark]:
    if _EXIT.search(text):
        nhc = "ends the whole run: no check after it is looked at, and the node is not resumed"
        yield Remark("the check calls exit", nhc, "UNKNOWN for the lines after it", "return, or die for a failure")
    if "NHC_CHECK_ALL" in seen.variables and not _DYING.search(text):
        nhc = "with NHC_CHECK_ALL a failure without die is not seen"
        yield Remark("the check never calls die", nhc, "FAILED", 'COMMAND || die 1 "why"')


def _of_setting(name: str) -> Iterator[Remark]:
    if name == "HOSTNAME":
        nhc = "targets were matched before; only the helpers get the new name"
        yield Remark("HOSTNAME is set here", nhc, "the same", "node = in agent.toml")
    elif name in _TOO_LATE:
        place = "/etc/sysconfig/nhc, /etc/default/nhc, or the command line"
        yield Remark(f"{name} is set in the configuration", "has used its value already", "the same", f"it in {place}")


def _of_check(name: str, arguments: Sequence[str], known: Collection[str], seen: Seen) -> Iterator[Remark]:
    if name.startswith("check_") and name not in known:
        # What all names begin with would make any two of them look alike.
        bare = [each.removeprefix("check_") for each in known]
        near = [f"check_{each}" for each in difflib.get_close_matches(name.removeprefix("check_"), bare, 1, 0.75)]
        write = near[0] if near else "a script in /etc/nhc/scripts that defines it"
        yield Remark(f"there is no check {name}", "drains every node it runs on (127)", "UNKNOWN", write)
    elif name not in known and name not in BUILTINS and "NHC_CHECK_ALL" in seen.variables:
        nhc = "with NHC_CHECK_ALL a failure without die is not seen"
        yield Remark(f"{name} never calls die", nhc, "FAILED", f'{name} || die 1 "why"')
    if name.startswith(_IN_SIZES):
        yield from (remark for word in arguments for remark in _of_size(word))
    if name.startswith(_OF_FILESYSTEM) and arguments and not _MOUNT_POINT.match(arguments[0]):
        what = f"{arguments[0]!r} is no mount point"
        write = "the path that it is mounted on" if arguments[0].startswith("/") else "an absolute path"
        yield Remark(what, "passes, as for every name that is not mounted", "UNKNOWN", write)
    yield from _of_patterns(arguments)
    yield from _of_known_traps(name, arguments, seen)


def _of_size(word: str) -> Iterator[Remark]:
    if not _NUMBERLIKE.fullmatch(word):
        return
    if not _SIZE.fullmatch(word):
        nhc = "the check fails" if "." in word and "%" not in word else "compares it as 0: the check passes"
        yield Remark(
            f"{word!r} is no size", nhc, "UNKNOWN", "whole numbers with k, m, g, t, p, e and an optional b, or %"
        )
    elif _IN_BYTES.fullmatch(word):
        yield Remark(f"{word!r} looks like bytes", "takes it for kB", "the same", f"{word[:-1]}k")


def _of_patterns(arguments: Sequence[str]) -> Iterator[Remark]:
    for option, word in pairwise(arguments):
        if option not in _MATCHED_OPTIONS:
            continue
        try:
            matches(word, "", strict=True)
        except BadPattern as error:
            nhc = "matches everything" if word.startswith("!") else "matches nothing"
            yield Remark(
                f"{word!r}, column {error.column}: {error.what}", nhc, "UNKNOWN", "a pattern that means something"
            )


def _of_known_traps(name: str, arguments: Sequence[str], seen: Seen) -> Iterator[Remark]:
    if name == "check_ps_service" and arguments[-1:] == ["sshd"] and not {"-m", "-d"} & set(arguments):
        nhc = "does not find sshd where its title is `sshd: ...` (EL 9, Ubuntu, Debian 12), and drains the node"
        yield Remark(
            "sshd is looked for by its name", nhc, "finds it", "check_ps_service -u root -m '/(^|\\\\/)sshd:?$/' sshd"
        )
    if name == "check_net_socket" and not {"NETSTAT_ARGS", "SS_ARGS"} & seen.variables:
        nhc = "its netstat and ss options are refused by current tools: it finds no socket, so -! always passes"
        yield Remark("sockets are looked at", nhc, "reads the kernel's tables", "nothing else")
    if name.startswith("check_moab_") and "-m" in arguments:
        yield Remark("-m is given", "never matches (quotes are taken literally)", "matches", "nothing else")
    if name == "check_ps_time" and any(re.fullmatch(r"[0-9]+S|[0-9]+[mM][0-9]+S", word) for word in arguments):
        yield Remark("the time has an upper-case S", "does not understand it", "UNKNOWN", "a lower-case s")
