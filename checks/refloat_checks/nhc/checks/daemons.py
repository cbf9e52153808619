# SPDX-License-Identifier: Apache-2.0
"""check_ps_daemon and check_ps_blacklist: that a command line with this in it runs, or must not."""

from __future__ import annotations

from refloat_checks import process_table, titles
from refloat_checks.nhc.checks.owners import Owned, owned
from refloat_checks.nhc.checks.patterns import require_meaning
from refloat_checks.nhc.native import PASSED, NativeCheck, NhcOutcome, NhcRun, failed

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

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


async def _find(words: Sequence[str], run: NhcRun, owner_pattern: str) -> tuple[str, str, tuple[Owned, ...]]:
    command, owner, arguments = [*words, "", "", ""][:3]
    command = f"{command} {arguments}" if arguments else command
    fits = titles.by_part(command)
    # Nothing in it can be found nowhere: so says the shell, which has nothing to replace.
    found = [each for each in await process_table.titles(run.facts) if command and fits(each.title)]
    if not owner:
        return command, owner, tuple(Owned(each.pid, each.title, "", 0) for each in found)
    return command, owner, await owned(run.facts, found, owner_pattern)


async def _daemon(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    command, owner, found = await _find(words, run, "")
    return judge_daemon([each for each in found if owner in {"", each.user}], command, owner)


async def _blacklist(words: Sequence[str], run: NhcRun) -> NhcOutcome:
    pattern = words[1] if len(words) > 1 else ""
    require_meaning(run, pattern)
    command, owner, found = await _find(words, run, pattern)
    return judge_blacklist(found, command, owner)


CHECKS: Final = (NativeCheck(_DAEMON, _daemon), NativeCheck(_BLACKLIST, _blacklist))
