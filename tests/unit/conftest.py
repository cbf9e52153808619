# SPDX-License-Identifier: Apache-2.0
"""What all unit tests share: a test whose event loop was blocked fails."""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx


@pytest.fixture(autouse=True)
def blockbuster(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Watch the product's own code; libraries answer for themselves, and a test may prepare its files as it likes."""
    if not request.node.get_closest_marker("asyncio"):
        yield None
        return
    packages = [f"refloat_{name}" for name in ("agent", "checks", "contract", "coordinator", "service", "slurm")]
    with blockbuster_ctx(packages) as watcher:
        for function in watcher.functions.values():
            # Settings are read before there is a loop. The developer's log, not the daemon's, quotes source files.
            function.can_block_in("refloat_service/settings.py", {"_read"})
            function.can_block_in("structlog/dev.py", {"__call__"})
        yield watcher
