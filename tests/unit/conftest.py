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
        for function in ("io.BufferedReader.read", "io.TextIOWrapper.read", "os.stat"):
            # Settings are read before there is a loop; the source of a traceback's lines is read once, after a fault.
            watcher.functions[function].can_block_in("refloat_service/settings.py", {"_read"})
            watcher.functions[function].can_block_in("linecache.py", {"updatecache", "checkcache"})
        yield watcher
