# SPDX-License-Identifier: Apache-2.0
"""The gateway through Slurm's own programs: works with every release, at the price of a fork per call."""

from collections.abc import Mapping
from typing import Final

from refloat_slurm.answers import SINFO_FORMAT, read_node, read_sinfo
from refloat_slurm.gateway import AdminLevel, Change, Job, JobEnd, NodeView
from refloat_slurm.names import plain
from refloat_slurm.node_table import NodeTable
from refloat_slurm.programs import admin_level, all_jobs, ask, end_job, jobs_on, partitions

DEADLINE_S: Final = 15.0
"""Longer than scontrol needs to give up on a slurmctld that is down (9 s) or hangs (MessageTimeout, 10 s)."""


class ScontrolGateway:
    """`ClusterGateway` by sinfo, scontrol, squeue, scancel and sacctmgr."""

    def __init__(
        self,
        scontrol: str = "scontrol",
        sinfo: str = "sinfo",
        squeue: str = "squeue",
        deadline_s: float = DEADLINE_S,
        *,
        scancel: str = "scancel",
        sacctmgr: str = "sacctmgr",
    ) -> None:
        self._scontrol = scontrol
        self._sinfo = sinfo
        self._squeue = squeue
        self._scancel = scancel
        self._sacctmgr = sacctmgr
        self._deadline_s = deadline_s
        self._table = NodeTable()

    @property
    def backend(self) -> str:
        """The backend's name."""
        return "scontrol"

    async def node(self, name: str) -> NodeView:
        """Read one node by sinfo: `scontrol show node` would move the whole node table.

        sinfo prints nothing for a node that does not exist, and for one that is in no partition: scontrol tells which.
        """
        text = await self._ask(self._sinfo, "-h", "-a", "-n", plain(name), "-O", SINFO_FORMAT)
        view = read_sinfo(text, name)
        return view if view is not None else await self.node_in_full(name)

    async def node_in_full(self, name: str) -> NodeView:
        """Read one node with its registration, at the cost of the whole table."""
        return read_node(await self._ask(self._scontrol, "-o", "show", "node", plain(name)), name)

    async def nodes(self) -> Mapping[str, NodeView]:
        """Read the whole node table."""
        return self._table.read(await self._ask(self._scontrol, "-a", "-o", "show", "nodes"))

    async def jobs(self, name: str) -> tuple[Job, ...]:
        """All jobs that hold the node."""
        return await jobs_on(name, self._squeue, self._deadline_s)

    async def all_jobs(self) -> tuple[Job, ...]:
        """All jobs that hold nodes."""
        return await all_jobs(self._squeue, self._deadline_s)

    async def end_job(self, job: str, how: JobEnd) -> None:
        """Requeue a job, or cancel it."""
        await end_job(job, how, scontrol=self._scontrol, scancel=self._scancel, deadline_s=self._deadline_s)

    async def partitions(self) -> Mapping[str, str]:
        """The nodes of every partition, as a hostlist."""
        return await partitions(self._scontrol, self._deadline_s)

    async def admin_level(self, user: str) -> AdminLevel:
        """What accounting says of a user."""
        return await admin_level(user, self._sacctmgr, self._deadline_s)

    async def update(self, name: str, change: Change | None, reason: str | None = None) -> None:
        """Change state, reason or both."""
        check_change(change, reason)
        fields = [f"nodename={plain(name)}"]
        fields += [f"state={change.value}"] if change is not None else []
        fields += [f"reason={reason}"] if reason is not None else []
        await self._ask(self._scontrol, "update", *fields)

    async def aclose(self) -> None:
        """Nothing to end: no program outlives its call."""

    async def _ask(self, *argv: str) -> str:
        return await ask(argv, self._deadline_s)


def check_change(change: Change | None, reason: str | None) -> None:
    """Refuse what Slurm would take silently or not at all, before it is asked.

    Raises:
        ValueError: nothing to change, DRAIN or DOWN without a reason, an empty reason (Slurm would keep the old one),
            or one that no argv can hold or no reader decode.
    """
    if reason is not None and (not reason.strip() or "\0" in reason or not _is_text(reason)):
        raise ValueError(f"not a reason: {reason!r}")
    if reason is None and change in {None, Change.DRAIN, Change.DOWN}:
        raise ValueError(f"{change.value if change else 'an update without a state'} needs a reason")


def _is_text(reason: str) -> bool:
    # Half a surrogate pair would be sent as a byte that is no UTF-8, or not at all.
    return not any("\ud800" <= letter <= "\udfff" for letter in reason)
