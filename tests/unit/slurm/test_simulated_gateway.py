# SPDX-License-Identifier: Apache-2.0
"""What the simulated gateway adds to the simulated slurmctld: latency and deadlines."""

import pytest

from refloat_contract.errors import Transient
from refloat_slurm.gateway import Change
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld


def gateway(latency_s: float, slept: list[float]) -> tuple[SimulatedGateway, SimulatedSlurmctld]:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    slurmctld = SimulatedSlurmctld(["n1"], now=1000)
    return SimulatedGateway(slurmctld, latency=lambda: latency_s, sleep=sleep), slurmctld


async def test_a_call_takes_as_long_as_it_is_told() -> None:
    slept: list[float] = []
    slow, _ = gateway(0.2, slept)

    await slow.node("n1")
    await slow.update("n1", Change.DRAIN, "mine")

    assert slept == [0.2, 0.2]


async def test_a_call_ends_by_its_deadline() -> None:
    slept: list[float] = []
    slow, _ = gateway(100, slept)

    with pytest.raises(Transient, match="timed out"):
        await slow.nodes()
    assert slept == [15]


async def test_a_write_that_is_late_is_applied_all_the_same() -> None:
    slow, slurmctld = gateway(100, [])

    with pytest.raises(Transient, match="timed out"):
        await slow.update("n1", Change.DRAIN, "mine")
    with pytest.raises(Transient, match="timed out"):
        await slow.update("n9", Change.DRAIN, "mine")
    assert slurmctld.view("n1").flags == {"IDLE", "DRAIN"}


async def test_the_cheap_read_has_no_registration() -> None:
    quick, _ = gateway(0, [])

    assert (await quick.node("n1")).registration is None
    assert (await quick.node_in_full("n1")).registration is not None


async def test_an_outage_of_slurmctld_is_transient() -> None:
    quick, slurmctld = gateway(0, [])
    slurmctld.hang()

    for call in (quick.node, quick.node_in_full, quick.jobs):
        with pytest.raises(Transient):
            await call("n1")
    with pytest.raises(Transient):
        await quick.nodes()
