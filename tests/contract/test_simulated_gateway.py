# SPDX-License-Identifier: Apache-2.0
"""The simulated gateway keeps every promise of a gateway, by the rules of each kind of release."""

from collections.abc import Callable

import pytest
from contract.gateway_contract import PROMISES, Promise

from refloat_slurm.gateway import NodeView
from refloat_slurm.simulated import Rules, SimulatedGateway, SimulatedSlurmctld

_STEP_S = 0.25
_BOOT_S = 5.0
_RELEASES = {
    "22.05": Rules(slurmd_timeout_s=30, not_responding_s=20, keeps_stale_reasons=False, appends_not_responding=False),
    "24.11": Rules(slurmd_timeout_s=30, not_responding_s=20),
    "26.05": Rules(slurmd_timeout_s=30, not_responding_s=20, keeps_stale_reasons=False),
}


class SimulatedWorld:
    """Three simulated nodes; waiting moves the time."""

    def __init__(self, rules: Rules) -> None:
        self.slurmctld = SimulatedSlurmctld(("n1", "n2", "n3"), rules=rules, now=1_800_000_000.0)
        self.slurmctld.accounting = None
        self.gateway = SimulatedGateway(self.slurmctld)
        self.node = "n1"
        self._boots: dict[str, float] = {}

    async def submit_job(self, node: str, seconds: float) -> str:
        return str(self.slurmctld.submit(seconds, node=node, cpus=1))

    async def suspend(self, job: str) -> None:
        self.slurmctld.suspend(int(job))

    async def reboot(self, node: str) -> None:
        await self.power_off(node)
        await self.power_on(node)

    async def power_off(self, node: str) -> None:
        self.slurmctld.node_down(node)

    async def power_on(self, node: str) -> None:
        self._boots[node] = self.slurmctld.now + _BOOT_S

    async def wait_for(self, node: str, predicate: Callable[[NodeView], bool], timeout_s: float) -> NodeView:
        end = self.slurmctld.now + timeout_s
        while not predicate(view := await self.gateway.node_in_full(node)):
            assert self.slurmctld.now < end, f"{node} is still {view}"
            self._step()
        return view

    def _step(self) -> None:
        now = self.slurmctld.now + _STEP_S
        self.slurmctld.tick(now)
        for node, at in list(self._boots.items()):
            if now >= at:
                del self._boots[node]
                self.slurmctld.register(node, at, at + 1)


@pytest.mark.parametrize("release", _RELEASES)
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_the_simulated_gateway_keeps_the_promise(promise: Promise, release: str) -> None:
    await promise(SimulatedWorld(_RELEASES[release]))
