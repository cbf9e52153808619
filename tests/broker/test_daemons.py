# SPDX-License-Identifier: Apache-2.0
"""The access list lets the real daemons do all of their work: a feed, a permit, a wave and its cycle, over TLS."""

import asyncio
import time
from pathlib import Path

import pytest
from mosquitto import CLUSTER, Site

from refloat_agent.config import AgentSettings
from refloat_agent.daemon import Agent
from refloat_agent.loop import Pace
from refloat_agent.simulated import SimulatedMachine
from refloat_cli.pki.authority import COORDINATOR, OPERATOR
from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.daemon import Coordinator
from refloat_service import control
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld, run

pytestmark = pytest.mark.broker

NODE = "n1"


def an_agent(site: Site, folder: Path, slurmctld: SimulatedSlurmctld) -> tuple[Agent, SimulatedMachine]:
    wanted = AgentSettings.model_validate(
        {
            "mode": "act",
            "cluster": CLUSTER,
            "node": NODE,
            "state_dir": folder / "n1",
            "socket": folder / "n1.sock",
            "mqtt": site.settings(NODE),
            "slurm": {"poll_s": 5},
        }
    )
    machine = SimulatedMachine(NODE, folder / "tree", slurmctld, ())
    machine.start(first=True)
    pace = Pace(draining_s=0.2, working_s=0.1)
    return Agent(wanted, SimulatedGateway(slurmctld), machine=machine.machine(), pace=pace), machine


def a_coordinator(site: Site, folder: Path, slurmctld: SimulatedSlurmctld) -> Coordinator:
    wanted = CoordinatorSettings.model_validate(
        {
            "cluster": CLUSTER,
            "state_dir": folder / "c",
            "socket": folder / "c.sock",
            "mqtt": site.settings(COORDINATOR),
            "feed": {"period_s": 0.2},
            "limits": {"max_unavailable": 1},
            "http": {"listen": ""},
        }
    )
    return Coordinator(wanted, gateway=SimulatedGateway(slurmctld))


async def test_a_wave_reboots_a_node_and_the_broker_denies_nothing_on_the_way(site: Site, tmp_path: Path) -> None:
    slurmctld = SimulatedSlurmctld([NODE], clock=time.time)
    before = len(site.broker.log())
    async with site.client(OPERATOR, f"refloat/v1/{CLUSTER}/#") as operator:
        agent, machine = an_agent(site, tmp_path, slurmctld)
        coordinator = a_coordinator(site, tmp_path, slurmctld)
        tasks = [asyncio.create_task(work) for work in (run(slurmctld, 0.05), agent.run(), coordinator.run())]
        try:
            async with asyncio.timeout(20):
                await coordinator.ready.wait()
                while not (agent.bus.connected and agent.bus.permit().coordinator):  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.02)
                wave = await control.call(tmp_path / "c.sock", "wave_start", spec={"nodes": NODE})
                await machine.rebooting.wait()
        finally:
            coordinator.stop()
            for task in tasks[:2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    kinds = {topic.removeprefix(f"refloat/v1/{CLUSTER}/") for topic, _ in operator.heard}

    assert slurmctld.view(NODE).reason.startswith("rebooting refloat=")
    assert {f"node/{NODE}/{kind}" for kind in ("status", "event", "request", "order", "slurm")} <= kinds
    assert {f"wave/{wave['id']}", "coordinator/status"} <= kinds
    assert "Denied" not in site.broker.log()[before:]
