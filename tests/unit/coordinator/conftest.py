# SPDX-License-Identifier: Apache-2.0
"""What the coordinator's tests share: builders of facts, a clock that stands, a ledger, and a world that can kill."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from unit.coordinator.world import FakeClock

from refloat_coordinator.record.ledger import Ledger, open_ledger


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves when it is told to."""
    return FakeClock()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """An empty ledger."""
    ledger, _ = await open_ledger(tmp_path / "coordinator.sqlite")
    async with ledger:
        yield ledger
