# SPDX-License-Identifier: Apache-2.0
"""What the tests of the service package share."""

from collections.abc import AsyncIterator

import pytest
from brokers import TestBroker, running_broker


@pytest.fixture
async def broker() -> AsyncIterator[TestBroker]:
    """A broker that runs."""
    async with running_broker() as running:
        yield running
