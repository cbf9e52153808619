# SPDX-License-Identifier: Apache-2.0
"""The demo's cluster: an embedded broker, a simulated slurmctld, a real coordinator, and a real agent on every node.

Only Slurm, mounts and power are simulated. A node that reboots ends its agent, forgets its disk, and starts a new one.
"""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from refloat_agent.config import AgentSettings
from refloat_agent.daemon import Agent
from refloat_agent.loop import Pace
from refloat_agent.simulated import SimulatedMachine
from refloat_cli.demo.broker import broker
from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.daemon import Coordinator
from refloat_slurm.simulated import Rules, SimulatedGateway, SimulatedSlurmctld, run

CLUSTER: Final = "demo"
IMAGE: Final = "compute-2"
_PACE: Final = Pace(draining_s=0.5, working_s=0.25)
_SHUTDOWN_S: Final = 0.3
_QUEUE: Final = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo plays. Times are seconds."""

    nodes: int = 24
    budget: int = 6
    never_returns: str = "n11"
    fails_its_check: str = "n17"
    boot_s: tuple[float, float] = (2.0, 4.0)
    job_s: tuple[float, float] = (2.0, 9.0)
    lost_after_s: float = 14.0
    seed: int = 1

    @property
    def names(self) -> list[str]:
        """The nodes' names."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def hostlist(self) -> str:
        """The nodes as Slurm writes them."""
        return f"n[1-{self.nodes}]"


@dataclass(slots=True)
class DemoCluster:
    """Everything that runs; `running` brings it up."""

    plan: Plan
    folder: Path
    slurmctld: SimulatedSlurmctld
    port: int
    agents: dict[str, Agent] = field(default_factory=dict)
    reboots: int = 0

    @property
    def coordinator_socket(self) -> Path:
        """Where the coordinator listens."""
        return self.folder / "coordinator.sock"

    def agent_settings(self, name: str) -> AgentSettings:
        """An agent.toml for one node, as a site would write it."""
        return AgentSettings.model_validate(
            {
                "mode": "act",
                "cluster": CLUSTER,
                "node": name,
                "state_dir": self.folder / name / "state",
                "socket": self.folder / f"{name}.sock",
                "max_attempts": 3,
                "retry_s": 0.5,
                "slurm": {"poll_s": 5},
                "mqtt": {"host": "127.0.0.1", "port": self.port},
                "storage": [{"name": "scratch", "path": "/scratch", "source": "mds1:/scratch", "fstype": "lustre"}],
                "deadlines": {"checking": 4, "mounting": 10, "unmounting": 10, "resuming": 10},
                "check": [
                    {"name": "scratch", "type": "mount", "path": "/scratch", "fstype": "lustre", "interval_s": 2},
                    {"name": "gpu-daemon", "type": "process", "process": "nvidia-persiste", "interval_s": 2},
                ],
            }
        )

    def coordinator_settings(self) -> CoordinatorSettings:
        """A coordinator.toml."""
        return CoordinatorSettings.model_validate(
            {
                "cluster": CLUSTER,
                "client_id": "demo-coordinator",
                "state_dir": self.folder / "coordinator",
                "socket": self.coordinator_socket,
                "mqtt": {"host": "127.0.0.1", "port": self.port},
                "feed": {"period_s": 0.5, "heartbeat_s": 0.5},
                "http": {"listen": ""},
                "limits": {"max_unavailable": self.plan.budget},
            }
        )

    def gateway(self) -> SimulatedGateway:
        """Slurm, with the answer times that were measured on a real one."""
        return SimulatedGateway(self.slurmctld, latency=lambda: random.uniform(0.001, 0.006))  # noqa: S311

    async def node(self, name: str) -> None:
        """One node's life: boot after boot, each with a new agent."""
        plan = self.plan
        settings = self.agent_settings(name)
        dies = frozenset({"nvidia-persiste"}) if name == plan.fails_its_check else frozenset[str]()
        machine = SimulatedMachine(
            name,
            self.folder / name / "tree",
            self.slurmctld,
            settings.storage,
            daemons=("nvidia-persiste",),
            image="compute-1",
            dies_at_boot=dies,
        )
        chance = random.Random(f"{plan.seed} {name}")  # noqa: S311 - a demo that can be repeated
        first = True
        while True:
            machine.start(first=first)
            await self._boot(machine, settings)
            self.reboots += 1
            self.slurmctld.node_down(name)
            if name == plan.never_returns:
                return
            await asyncio.sleep(chance.uniform(*plan.boot_s))
            first, machine.image = False, IMAGE
            settings = settings.model_copy(update={"state_dir": self.folder / name / f"state-{self.reboots}"})

    async def _boot(self, machine: SimulatedMachine, settings: AgentSettings) -> None:
        """Run an agent until its machine goes down."""
        agent = Agent(settings, self.gateway(), machine=machine.machine(), pace=_PACE)
        self.agents[machine.name] = agent
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(agent.run(), name=f"agent {machine.name}")
            await machine.rebooting.wait()
            await asyncio.sleep(_SHUTDOWN_S)
            task.cancel()

    async def jobs(self) -> None:
        """Users who never stop: about as many jobs as the cluster can run."""
        chance = random.Random(self.plan.seed)  # noqa: S311 - a demo that can be repeated
        while True:
            if self.slurmctld.jobs_waiting < _QUEUE:
                user = chance.choice(("alice", "bob", "carol"))
                nodes = chance.choice((1, 1, 1, 2, 4))
                self.slurmctld.submit(chance.uniform(*self.plan.job_s), user=user, nodes=nodes)
            await asyncio.sleep(0.15)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def running(plan: Plan, folder: Path) -> AsyncIterator[DemoCluster]:
    """A cluster with jobs on it, its agents up and its coordinator ready; everything ends with the block."""
    rules = Rules(slurmd_timeout_s=60.0, not_responding_s=20.0, epilog_s=0.3)
    slurmctld = SimulatedSlurmctld(plan.names, rules=rules, clock=time.time)
    cluster = DemoCluster(plan, folder, slurmctld, _free_port())
    async with broker(cluster.port), asyncio.TaskGroup() as tasks:
        coordinator = Coordinator(cluster.coordinator_settings(), gateway=cluster.gateway())
        lives = [
            tasks.create_task(run(slurmctld, 0.1), name="slurmctld"),
            tasks.create_task(coordinator.run(), name="coordinator"),
            *(tasks.create_task(cluster.node(name), name=f"node {name}") for name in plan.names),
            tasks.create_task(cluster.jobs(), name="jobs"),
        ]
        try:
            await coordinator.ready.wait()
            yield cluster
        finally:
            for life in lives:
                life.cancel()
