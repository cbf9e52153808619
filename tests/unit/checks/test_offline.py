# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import pytest

from refloat_checks import offline
from refloat_checks.probes import ProbePool
from refloat_checks.registry import build
from refloat_checks.runner import Runner
from refloat_contract.words import Status


@pytest.mark.parametrize(
    "table",
    [
        {"type": "systemd", "unit": "*"},
        {"type": "sysctl", "key": "vm.swappiness", "at_least": 0},
        {"type": "kernel", "release": "*"},
        {"type": "clock"},
        {"type": "memory"},
        {"type": "stuck"},
        {"type": "leak", "max_slab": "1%"},
        {"type": "infiniband"},
        {"type": "edac"},
        {"type": "thermal", "max_core_throttles": 0},
        {"type": "cpufreq", "boost": True},
        {"type": "pci", "id": "*"},
        {"type": "gpu", "count": 8},
        {"type": "nvme"},
        {"type": "lustre"},
        {"type": "beegfs"},
        {"type": "gpfs"},
        {"type": "nfs", "path": "/home"},
        {"type": "resolve", "database": "passwd", "key": "root"},
        {"type": "link", "interface": "lo"},
        {"type": "command", "argv": ["true"]},
        {"type": "plugin", "argv": ["true"]},
    ],
    ids=lambda table: table["type"],
)
async def test_a_tree_is_not_blamed_for_what_only_a_running_system_has(
    tmp_path: Path, pool: ProbePool, table: dict[str, Any]
) -> None:
    runner = Runner(build([{"name": "x", **table}]), offline.source(tmp_path, pool))

    [result] = await runner.run()

    assert result.finding.status is Status.UNKNOWN
    assert "only a running system" in result.finding.message
