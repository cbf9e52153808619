# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from storage_node import Node

from refloat_checks.probes import ProbePool


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """A node with all tools, on which nothing is mounted."""
    pool = ProbePool(root=tmp_path / "root")
    made = Node(tmp_path, pool)
    monkeypatch.setenv("PATH", f"{made.bin}{os.pathsep}/nonexistent")
    monkeypatch.setenv("STAND_IN", str(tmp_path))
    yield made
    await pool.aclose()
