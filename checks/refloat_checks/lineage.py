# SPDX-License-Identifier: Apache-2.0
"""Check that processes of users were started by the resource manager's daemon, at any remove."""

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from refloat_checks.api import Finding
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.people import DAEMONS, Known, processes_of_users, rogue
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.process_table import ProcessUse
from refloat_checks.users import SparedLimits, tell
from refloat_checks.wakes import JOBS, CgroupEmpty, Wake

_STEPD: Final = DAEMONS["slurm"]


class LineageLimits(SparedLimits):
    """Whose processes need not come from the daemon that starts jobs. Nothing is done to the others.

    ```toml
    [[check]]
    name = "rogues"
    type = "lineage"
    ignore_programs = ["sshd:", "-bash"]
    severity = "warn"
    ```
    """

    daemon: MatchString = Field(_STEPD, description="Match string for the daemon's first word and whole title.")


def judge(processes: Sequence[ProcessUse], known: Known, daemon: str, name: str) -> Finding:
    """Find processes that the daemon did not start."""
    return tell(rogue(processes, known, daemon), known.users, "processes that no job started", name)


def wakes(limits: LineageLimits) -> tuple[Wake, ...]:  # noqa: ARG001 - the same for all limits
    """Tell what wakes it: a job that began or ended."""
    return (CgroupEmpty(JOBS),)


async def look(facts: Facts, limits: LineageLimits, name: str) -> Finding:
    """Look at the process table, once per pass."""
    processes, users = await processes_of_users(facts, limits.max_system_uid)
    known = Known(users, frozenset(limits.allowed), limits.ignored, limits.max_system_uid)
    return judge(processes, known, limits.daemon, name)
