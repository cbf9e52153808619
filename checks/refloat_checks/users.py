# SPDX-License-Identifier: Apache-2.0
"""Check that only users who have a job here, or who may always be here, have processes on the node."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks import jobs
from refloat_checks.nhc.checks.people import Ignored, Known, processes_of_users, unauthorised
from refloat_checks.nhc.native import NhcRun
from refloat_checks.process_table import ProcessUse
from refloat_checks.usage import SYSTEM_UIDS
from refloat_checks.verdicts import a_few, verdict


class ResourceManager(StrEnum):
    """Who knows whose jobs are here."""

    SLURM = "slurm"
    PBS = "pbs"


class SparedLimits(Limits):
    """Who may have processes on a node in any case."""

    allowed: tuple[str, ...] = Field(("root", "nobody"), description="Users who may always have processes here.")
    max_system_uid: int = Field(SYSTEM_UIDS, ge=0, description="Users of numbers up to this are the system's own.")
    ignore_programs: tuple[str, ...] = Field((), description="First words of titles that do not count, as in `sshd:`.")
    ignore_uids: tuple[int, ...] = Field((), description="Numbers of users that do not count.")

    @property
    def ignored(self) -> Ignored:
        """What is not looked at."""
        return Ignored(self.ignore_programs, tuple(map(str, self.ignore_uids)))


class UsersLimits(SparedLimits):
    """Who may have processes here. Nothing is done to the others.

    ```toml
    [[check]]
    name = "strangers"
    type = "users"
    allowed = ["root", "nobody", "monitoring"]
    severity = "warn"
    ```
    """

    resource_manager: ResourceManager = Field(
        ResourceManager.SLURM,
        description='Who knows whose jobs are here: `"slurm"` (squeue) or `"pbs"` (its job files).',
    )
    squeue: str = Field("/usr/bin/squeue", pattern=r"^/\S+$", description="Slurm's program that lists jobs.")
    node: str | None = Field(None, min_length=1, description="The node's name in Slurm, where it is not the host's.")

    @model_validator(mode="after")
    def _asks_slurm(self) -> Self:
        if self.node is not None and self.resource_manager is not ResourceManager.SLURM:
            raise ValueError("node is a name in Slurm")
        return self


def judge(processes: Sequence[ProcessUse], known: Known, name: str) -> Finding:
    """Find processes of users who have no business here."""
    return tell(unauthorised(processes, known), known.users, "processes of users without a job here", name)


def tell(strangers: Sequence[ProcessUse], users: Mapping[int, str], what: str, name: str) -> Finding:
    """Make a finding of the processes that should not be here."""
    said = [f"{each.word} ({each.pid}) of {users[each.uid]}" for each in strangers]
    wrong = [f"{what}: {a_few(said)}"] if said else []
    return verdict(name, "no user has processes here without leave", wrong, measures={"strangers": len(said)})


async def look(facts: Facts, limits: UsersLimits, name: str) -> Finding:
    """Ask who has jobs here, and look at the process table; Transient, so UNKNOWN, where nobody tells."""
    facts.require_running()
    variables = {
        "NHC_RM": limits.resource_manager.value,
        "NHC_AUTH_USERS": " ".join(limits.allowed),
        "SQUEUE_CMD": limits.squeue,
    }
    if limits.node is not None:
        variables["HOSTNAME_S"] = limits.node
    authorised = await jobs.authorised(NhcRun(facts, variables))
    processes, users = await processes_of_users(facts, limits.max_system_uid)
    return judge(processes, Known(users, authorised, limits.ignored, limits.max_system_uid), name)
