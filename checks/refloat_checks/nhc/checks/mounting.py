# SPDX-License-Identifier: Apache-2.0
"""check_fs_mount, _rw, _ro: what is mounted where, from where, of which type, with which options."""

from __future__ import annotations

from functools import lru_cache

from refloat_checks import mount_faults
from refloat_checks.mount_faults import Mounted, Part, automount, faults
from refloat_checks.nhc.checks.options import Options, getopts
from refloat_checks.nhc.checks.patterns import require_meaning
from refloat_checks.nhc.native import (
    Action,
    Command,
    MakeDirectory,
    NativeCheck,
    NhcOutcome,
    NhcRun,
    Shell,
    failed,
    not_fatal,
    passed,
)
from refloat_checks.proc import read_text, unescape
from refloat_contract.records import record, replace

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from refloat_checks.facts import Facts

NAME: Final = "check_fs_mount"  # that of the messages of all three
_SAID: Final = {
    Part.SOURCE: "mounted from {}",
    Part.TYPE: "has incorrect type {}",
    Part.OPTIONS: "mount options incorrect",
}
READ_WRITE: Final = "/(^|,)rw($|,)/"
READ_ONLY: Final = "/(^|,)ro($|,)/"


@record
class Wanted:
    """What the check is told: mount points, match strings for what is there, and what to do about it."""

    points: tuple[str, ...]
    sources: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    automounted: tuple[str, ...] = ()
    is_fatal: bool = True
    remount: bool = False
    mount_argv: tuple[str, ...] = ("mount",)
    mount_options: str = ""
    action: str = ""
    found_action: str = ""


@lru_cache(maxsize=1)  # each pass reads it, and it seldom is another
def parse_mounts(text: str) -> Mapping[str, Mounted]:
    """Read `/proc/mounts`; where mounts cover each other the last one counts."""
    table = {}
    for line in text.split("\n"):
        match line.split(" "):
            case [source, point, fstype, options, *_]:
                table[unescape(point)] = Mounted(unescape(source), fstype, unescape(options))
    return table


def judge(mounts: Mapping[str, Mounted], wanted: Wanted, without_directory: frozenset[str]) -> NhcOutcome:
    """Go through the mount points up to the first that is wrong, or all of them if that is not fatal.

    `without_directory` are those at which there is not even a directory.
    """
    outcome = passed()
    for point in (*wanted.points, *wanted.automounted):
        mounted = mounts.get(point)
        complaint = _complaint(point, mounted, wanted) if mounted else f"{point} not mounted"
        actions: tuple[Action, ...] = (Shell(wanted.found_action),) if wanted.found_action else ()
        if complaint:
            is_missing = mounted is None and point in without_directory
            if is_missing:
                complaint += f"; directory {point} missing (auto-fixed)"
            actions = _repairs(point, wanted, is_missing=is_missing, is_mounted=mounted is not None)
        outcome = replace(outcome, actions=(*outcome.actions, *actions))
        if complaint:
            wrong = replace(failed(NAME, complaint), actions=outcome.actions, log=outcome.log)
            if wanted.is_fatal:
                return wrong
            outcome = not_fatal(wrong)
    return outcome


def _complaint(point: str, mounted: Mounted, wanted: Wanted) -> str:
    asked = mount_faults.Wanted(wanted.sources, wanted.types, wanted.options)
    fault = next(faults(mounted, asked), None)
    if fault is None:
        return ""
    what = fault.wanted
    should = f"should NOT match {what[1:]}" if what.startswith("!") else f"should match {what}"
    return f"{point} {_SAID[fault.part].format(fault.seen)} ({should})"


def _repairs(point: str, wanted: Wanted, *, is_missing: bool, is_mounted: bool) -> tuple[Action, ...]:
    actions: list[Action] = [MakeDirectory(point)] if is_missing else []
    if wanted.remount:
        remount = "remount," if is_mounted else ""
        options = ("-o", remount + wanted.mount_options) if wanted.mount_options else ()
        actions.append(Command((*wanted.mount_argv, *options, point)))
    if wanted.action:
        actions.append(Shell(wanted.action))
    return tuple(actions)


def read_words(words: Sequence[str], mount_command: str) -> Wanted | NhcOutcome:
    """Read the arguments: options, or in the old form a mount point, source, type and options."""
    if words and words[0].startswith("/"):
        point, *patterns = [*words, "", "", ""][:4]
        source, fstype, options = ((pattern,) if pattern else () for pattern in patterns)
        return Wanted((point,), source, fstype, options)
    given = getopts(NAME, ":0rE:F:O:e:f:o:s:t:", words)
    if isinstance(given, NhcOutcome):
        return given
    return Wanted(
        points=(*given.all("f"), *_up_to_empty(given)),
        sources=given.all("s"),
        types=given.all("t"),
        options=given.all("o"),
        automounted=given.all("F"),
        is_fatal=not given.has("0"),
        remount=given.has("r"),
        mount_argv=tuple(mount_command.split()),
        mount_options=given.last("O"),
        action=given.last("e"),
        found_action=given.last("E"),
    )


def _up_to_empty(given: Options) -> tuple[str, ...]:
    rest = given.rest
    return rest[: rest.index("")] if "" in rest else rest


async def _look(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    wanted = read_words(words, run.variable("MOUNT_CMD", "mount"))
    if isinstance(wanted, NhcOutcome):
        return wanted
    require_meaning(run, *wanted.sources, *wanted.types, *wanted.options)
    for point in wanted.automounted:
        await automount(run.facts, point)
    mounts = await _mounts(run.facts, fresh_for=wanted.automounted)
    absent = [point for point in (*wanted.points, *wanted.automounted) if point not in mounts]
    without = frozenset([point for point in absent if not await _is_directory(run.facts, point)])
    return judge(mounts, wanted, without)


async def _mounts(facts: Facts, fresh_for: tuple[str, ...]) -> Mapping[str, Mounted]:
    source = " ".join(("mounts", *fresh_for))
    return await facts.read(source, lambda: parse_mounts(read_text(facts.roots.proc / "mounts")))


async def _is_directory(facts: Facts, path: str) -> bool:
    found = await facts.examine(path)
    return found.target is not None and found.target.type == "directory"


async def _look_read_write(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return await _look(with_options(words, READ_WRITE), run)


async def _look_read_only(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    return await _look(with_options(words, READ_ONLY), run)


def with_options(words: Sequence[str], pattern: str) -> Sequence[str]:
    """Give the words with which check_fs_mount asks for options like these too."""
    if words and words[0].startswith("/"):
        return [*[*words, "", ""][:3], pattern]
    return ["-o", pattern, *words]


CHECKS: Final = (
    NativeCheck(NAME, _look),
    NativeCheck("check_fs_mount_rw", _look_read_write),
    NativeCheck("check_fs_mount_ro", _look_read_only),
)
