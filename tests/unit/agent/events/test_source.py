# SPDX-License-Identifier: Apache-2.0
import asyncio

import pytest

from refloat_agent.events import source
from refloat_agent.events.source import Rested


async def test_the_first_event_is_passed_on_at_once_and_the_rest_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "REST_S", 0.01)
    passed: list[int] = []
    second = asyncio.Event()

    def handle(events: int) -> None:
        passed.append(events)
        if len(passed) == 2:
            second.set()

    rested = Rested(handle)
    for _ in range(100):
        rested.event()
    assert passed == [1]
    async with asyncio.timeout(5):
        await second.wait()

    assert passed == [1, 99]
    rested.stop()


async def test_after_a_rest_without_events_the_next_is_passed_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "REST_S", 0.001)
    passed: list[int] = []
    rested = Rested(passed.append)
    rested.event()
    await asyncio.sleep(0.02)
    rested.event()

    assert passed == [1, 1]
    rested.stop()
