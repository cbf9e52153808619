# SPDX-License-Identifier: Apache-2.0
"""The gateway to Slurm: one Protocol, several backends (scontrol, pyslurm, simulated).

Every call is asynchronous, never blocks the event loop, and ends by its own deadline. A write that ended with Transient
may still be applied later (a slurmctld that hung carries on): read back before you write again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Registration:
    """When the node's slurmd last registered: seconds since 1970, 0 while slurmctld does not know."""

    boot_time: int
    slurmd_start_time: int


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as slurmctld sees it.

    ``flags`` is the state as a set, base state included: ``{"IDLE", "DRAIN"}``. An empty ``reason`` means that there
    is none. ``registration`` is None when this kind of read does not tell it (see `SlurmGateway.node`).
    """

    name: str
    flags: frozenset[str]
    reason: str = ""
    reason_user: str = ""
    reason_at: int = 0
    registration: Registration | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job that has a hold on the node: running, suspended, completing or being configured."""

    id: str
    user: str
    state: str
    ends_at: int = 0  # seconds since 1970 by its time limit; 0 when Slurm does not tell
    nodes: str = ""  # as a hostlist; told by `ClusterGateway.all_jobs` only


class JobEnd(StrEnum):
    """How `ClusterGateway.end_job` ends one."""

    REQUEUE = "requeue"
    CANCEL = "cancel"


class AdminLevel(StrEnum):
    """What a user may do in Slurm beside running jobs, by its accounting's own words."""

    NONE = "None"
    OPERATOR = "Operator"
    ADMINISTRATOR = "Administrator"


class Change(StrEnum):
    """What `SlurmGateway.update` can do to a node's state."""

    DRAIN = "DRAIN"
    DOWN = "DOWN"
    RESUME = "RESUME"
    UNDRAIN = "UNDRAIN"


class SlurmGateway(Protocol):
    """All that refloat asks of Slurm.

    Every method raises Transient when slurmctld does not answer in time or its answer cannot be understood (unknown is
    never taken for empty), Refused when it says no, and UnknownNode when it has no such node.
    """

    @property
    def backend(self) -> str:
        """The backend's name, for logs and `refloat status`."""
        ...

    async def node(self, name: str) -> NodeView:
        """Read one node at the cost of one node; ``registration`` may be None."""
        ...

    async def node_in_full(self, name: str) -> NodeView:
        """Read one node with its registration; may cost slurmctld its whole node table, so once a cycle, not a poll."""
        ...

    async def nodes(self) -> Mapping[str, NodeView]:
        """Read the whole node table, registrations included: the coordinator's feed."""
        ...

    async def jobs(self, name: str) -> tuple[Job, ...]:
        """All jobs that hold the node, suspended and completing ones included. Not for polling."""
        ...

    async def update(self, name: str, change: Change | None, reason: str | None = None) -> None:
        """Change a node's state, its reason, or both; DRAIN and DOWN need a reason (ValueError)."""
        ...

    async def aclose(self) -> None:
        """End helper processes."""
        ...


class ClusterGateway(SlurmGateway, Protocol):
    """What the coordinator asks of Slurm besides. No agent has it: nothing on a node can end a job."""

    async def all_jobs(self) -> tuple[Job, ...]:
        """All jobs of the cluster that hold nodes, each with its nodes, in one call. Once a minute at most."""
        ...

    async def end_job(self, job: str, how: JobEnd) -> None:
        """End a job because an operator said so in as many words; only a batch job can be requeued (Refused)."""
        ...

    async def partitions(self) -> Mapping[str, str]:
        """The nodes of every partition, as a hostlist; empty for one that has none. Every few minutes at most."""
        ...

    async def admin_level(self, user: str) -> AdminLevel:
        """What accounting says of a user now; NONE for one whom it does not know, Refused where there is none."""
        ...
