# SPDX-License-Identifier: Apache-2.0
"""The gateway to a simulated slurmctld, with latency to order."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Mapping

from refloat_contract.errors import RefloatError, Transient
from refloat_slurm.gateway import AdminLevel, Change, Job, JobEnd, NodeView
from refloat_slurm.names import plain, plain_job, plain_user
from refloat_slurm.simulated.slurmctld import SimulatedSlurmctld
from refloat_slurm.via_scontrol import DEADLINE_S, check_change


class SimulatedGateway:
    """`ClusterGateway` on a `SimulatedSlurmctld`.

    ``latency`` says how long the next call takes; one that would take longer than the deadline raises Transient, and if
    it was a write it is applied all the same, as slurmctld does.
    """

    def __init__(
        self,
        slurmctld: SimulatedSlurmctld,
        *,
        user: str = "root",
        latency: Callable[[], float] = lambda: 0.0,
        deadline_s: float = DEADLINE_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._slurmctld = slurmctld
        self._user = user
        self._latency = latency
        self._deadline_s = deadline_s
        self._sleep = sleep

    @property
    def backend(self) -> str:
        """The backend's name."""
        return "simulated"

    async def node(self, name: str) -> NodeView:
        """Read one node."""
        # Without the registration: whoever works with this works with the poorest backend.
        return dataclasses.replace(await self.node_in_full(name), registration=None)

    async def node_in_full(self, name: str) -> NodeView:
        """Read one node with its registration."""
        await self._travel()
        return self._slurmctld.view(plain(name))

    async def nodes(self) -> Mapping[str, NodeView]:
        """Read the whole node table."""
        await self._travel()
        return self._slurmctld.views()

    async def jobs(self, name: str) -> tuple[Job, ...]:
        """All jobs that hold the node."""
        await self._travel()
        return self._slurmctld.jobs_on(plain(name))

    async def all_jobs(self) -> tuple[Job, ...]:
        """All jobs that hold nodes."""
        await self._travel()
        return self._slurmctld.all_jobs()

    async def end_job(self, job: str, how: JobEnd) -> None:
        """Requeue a job, or cancel it."""
        plain_job(job)
        await self._travel()
        self._slurmctld.end(int(job), how)

    async def partitions(self) -> Mapping[str, str]:
        """The nodes of every partition: there is one, with all nodes."""
        await self._travel()
        return {"main": ",".join(self._slurmctld.views())}

    async def admin_level(self, user: str) -> AdminLevel:
        """What accounting says of a user."""
        plain_user(user)
        await self._travel()
        return self._slurmctld.admin_level(user)

    async def update(self, name: str, change: Change | None, reason: str | None = None) -> None:
        """Change state, reason or both."""
        check_change(change, reason)
        plain(name)
        try:
            await self._travel()
        except Transient:
            with contextlib.suppress(RefloatError):  # the caller has gone; nobody is told
                self._slurmctld.update(name, change, reason, self._user)
            raise
        self._slurmctld.update(name, change, reason, self._user)

    async def aclose(self) -> None:
        """Nothing to end."""

    async def _travel(self) -> None:
        latency = self._latency()
        await self._sleep(min(latency, self._deadline_s))
        if latency > self._deadline_s:
            raise Transient("Socket timed out on send/recv operation")
