# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_contract.reasons import Dialect
from refloat_coordinator.hands import Hands
from refloat_coordinator.waves.decisions import Mark
from refloat_slurm.gateway import Change
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld


@pytest.mark.parametrize(("drained", "poked"), [("", ["n1"]), ("bad DIMM", [])])
async def test_an_agent_is_poked_only_when_its_node_was_written(drained: str, poked: list[str]) -> None:
    slurmctld = SimulatedSlurmctld(["n1"])
    if drained:
        slurmctld.update("n1", Change.DRAIN, drained)
    told: list[str] = []
    hands = Hands(SimulatedGateway(slurmctld), Dialect(), told.append)

    await hands.perform(Mark("w1", "n1", "reboot wave=w1"))

    assert told == poked
