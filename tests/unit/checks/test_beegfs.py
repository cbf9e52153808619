# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest

from refloat_checks.beegfs import BeegfsLimits, Client, judge, look, parse
from refloat_checks.facts import Facts
from refloat_contract.words import Status

META = """\
meta1 [ID: 1]
   Root: <yes>
   Connections: RDMA: 4 (10.0.0.1:8005);
"""
STORAGE = """\
storage1 [ID: 1]
   Connections: TCP: 1 (192.168.0.1:8003 [fallback route]); RDMA: 3 (10.0.0.2:8003);
storage2 [ID: 2]
   Connections: <none>
"""
CLIENT = Client("c1", parse("meta", META) + parse("storage", STORAGE))


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ({"min_storage": 2}, Status.OK, "2 of 3 BeeGFS servers are connected"),
        ({"min_storage": 3}, Status.FAILED, "c1 knows 2 storage servers (should be 3)"),
        ({"min_meta": 2}, Status.FAILED, "c1 knows 1 meta servers (should be 2)"),
        ({"connected": True}, Status.FAILED, "c1 is not connected to storage2"),
        ({"fallback": False}, Status.FAILED, "c1 has taken the fallback route to storage1"),
        ({"transport": "RDMA"}, Status.FAILED, "c1 is not connected by RDMA to storage1"),
        ({"transport": "@(RDMA|TCP)"}, Status.OK, "2 of 3 BeeGFS servers are connected"),
    ],
)
def test_a_client_is_judged(limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge([CLIENT], BeegfsLimits(**limits), "b")

    assert (finding.status, finding.message) == (status, message)


async def test_the_given_tables_are_read(facts: Facts, add_sys: Callable[[dict[str, str]], None]) -> None:
    without = await look(facts, BeegfsLimits(), "b")
    add_sys({"../proc/fs/beegfs/1A-2B-node/meta_nodes": META, "../proc/fs/beegfs/1A-2B-node/storage_nodes": STORAGE})
    # The facts of a pass are read once; this is the next pass.
    facts = Facts(facts.roots, facts.probes, facts._threads)

    finding = await look(facts, BeegfsLimits(), "b")

    assert without.status is Status.UNKNOWN
    assert (finding.status, finding.measures) == (Status.OK, {"servers": 3, "connected": 2})
