# SPDX-License-Identifier: Apache-2.0
"""A daemon that answers as told, and how a command that asked it ended."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from refloat_service.control import ControlServer, Handler


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


Refloat = Callable[..., Ended]


class FakeDaemon:
    """A control socket in a thread of its own, since a command runs a loop of its own."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self.path = path
        self._handlers = handlers
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(ControlServer(self.path, self._handlers).serve())
        await asyncio.gather(self._task, return_exceptions=True)

    def start(self) -> "FakeDaemon":
        """Serve."""
        self._thread.start()
        deadline = time.monotonic() + 5
        while not self.path.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        return self

    def stop(self) -> None:
        """Stop serving; idempotent."""
        if self._loop is not None and self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(5)


Daemon = Callable[[Mapping[str, Handler]], FakeDaemon]
