# SPDX-License-Identifier: Apache-2.0
"""On real Slurm: what breaks drains its node at once, though every check is looked at but once an hour by itself."""

from collections.abc import Iterator

import labfaults
import pytest
from reflab import host
from reflab.cluster import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    """A node for each fault."""
    why = host.obstacle()
    if why:
        pytest.skip(why)
    lab = labfaults.bring_up("events", len(labfaults.FAULTS))
    yield lab
    lab.down()


@pytest.mark.parametrize("number", range(len(labfaults.FAULTS)), ids=[fault.name for fault in labfaults.FAULTS])
def test_a_fault_drains_its_node_without_waiting_for_the_interval(site: Lab, number: int) -> None:
    node, fault = site.names()[number], labfaults.FAULTS[number]

    labfaults.break_(site, node, fault)
    labfaults.drained_at(site, node)
    said = labfaults.reason(site, node)
    labfaults.mend(site, node, fault)

    assert said.startswith(f"refloat: {fault.check}: ")
    site.wait(lambda: site.node_state(node) == {"IDLE"}, 120, f"{node} back in service by itself")
