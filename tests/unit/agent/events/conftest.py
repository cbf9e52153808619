# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from refloat_agent.events.source import Counts, Source, Subscription
from refloat_checks.wakes import Wake


class Told:
    """What a source is given, and what it told."""

    def __init__(self, *wakes: Wake) -> None:
        self.counts = Counts()
        self.wakes: list[Wake] = []
        self.subscription: Subscription[Any] = Subscription(wakes, self.counts, self._tell, self._leave)
        self.left_out: dict[Wake, str] = {}
        self._news = asyncio.Event()

    def _tell(self, wake: Wake) -> None:
        self.wakes.append(wake)
        self._news.set()

    def _leave(self, wake: Wake, why: str) -> None:
        self.left_out[wake] = why

    async def next(self) -> set[Wake]:
        """Wait for what is told next; all that is told by then."""
        async with asyncio.timeout(10):
            while not self.wakes:
                self._news.clear()
                await self._news.wait()
        told, self.wakes = set(self.wakes), []
        return told


Serve = Callable[[Source], AbstractAsyncContextManager[None]]


@pytest.fixture
def serving() -> Serve:
    """Let a source serve for as long as the context lasts; skip what this kernel refuses."""

    @asynccontextmanager
    async def serve(source: Source) -> AsyncIterator[None]:
        opened = asyncio.Event()
        task = asyncio.create_task(source.serve(opened.set))
        begun = asyncio.create_task(opened.wait())
        await asyncio.wait({task, begun}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if task.done() and isinstance(task.exception(), PermissionError):
            pytest.skip(f"this kernel refuses {type(source).__name__}: {task.exception()}")
        try:
            assert opened.is_set(), task.exception() if task.done() else "it did not open"
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    return serve
