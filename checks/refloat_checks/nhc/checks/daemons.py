# SPDX-License-Identifier: Apache-2.0
"""check_ps_daemon and check_ps_blacklist: that a command line with this in it runs, or must not."""

from __future__ import annotations

from refloat_checks import process_table, titles
from refloat_checks.nhc.checks.owners import Owned, owned
from refloat_checks.nhc.checks.patterns import require_meaning
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from refloat_checks.facts import Facts
    from refloat_checks.process_titles import Title

_DAEMON: Final = "check_ps_daemon"
_BLACKLIST: Final = "check_ps_blacklist"


def judge_daemon(found: Sequence[Owned], command: str, owner: str) -> NhcOutcome:
    """Fail if there is no such process."""
    return PASSED if found else failed(_DAEMON, f"Process {command} {_owned_by(owner)}not running")


def judge_blacklist(found: Sequence[Owned], command: str, owner: str) -> NhcOutcome:
    """Fail if there is such a process."""
    return failed(_BLACKLIST, f"Process {command} {_owned_by(owner)}running") if found else PASSED


def _owned_by(owner: str) -> str:
    return f"owned by {owner} " if owner else ""


async def _find(
    words: Sequence[str], facts: Facts, owner_pattern: str, among: Iterable[Title]
) -> tuple[str, str, Sequence[Owned]]:
    command, owner, arguments = [*words, "", "", ""][:3]
    command = f"{command} {arguments}" if arguments else command
    fits = titles.by_part(command)
    # Nothing in it can be found nowhere: so says the shell, which has nothing to replace.
    found = [each for each in among if command and fits(each.title)]
    if not owner:
        return command, owner, [Owned(each.pid, each.title, "", 0) for each in found]
    return command, owner, await owned(facts, found, owner_pattern)


async def _daemon(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    facts, asked = run.facts, (_DAEMON, *words)
    witness = await process_table.witness(facts, asked)
    command, owner, found = await _of_owner(words, facts, () if witness is None else (witness,))
    if not found:
        command, owner, found = await _of_owner(words, facts, await process_table.titles(facts))
        if found:
            facts.titles.keep_witness(asked, found[0].pid)
    return judge_daemon(found, command, owner)


async def _of_owner(words: Sequence[str], facts: Facts, among: Iterable[Title]) -> tuple[str, str, Sequence[Owned]]:
    command, owner, found = await _find(words, facts, "", among)
    return command, owner, [each for each in found if owner in {"", each.user}]


async def _blacklist(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    pattern = words[1] if len(words) > 1 else ""
    require_meaning(run, pattern)
    command, owner, found = await _find(words, run.facts, pattern, await process_table.titles(run.facts))
    return judge_blacklist(found, command, owner)


CHECKS: Final = (NativeCheck(_DAEMON, _daemon), NativeCheck(_BLACKLIST, _blacklist))
