# SPDX-License-Identifier: Apache-2.0
"""Waits for a pass on asyncio's event loop: in the agent, and for what a straight line cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from refloat_checks.nhc.engine import Late
from refloat_service import commands
from refloat_service.completed import OUTPUT_CAP_BYTES, Completed

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Mapping, Sequence

T = TypeVar("T")


class Looping:
    """The engine of whoever has a loop."""

    def now_s(self) -> float:
        """Tell the time; asyncio's loop has the same clock."""
        return time.monotonic()

    async def within(self, seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
        """Do what must be done within so long; a timer is set only where there is something to wait for."""
        try:
            waits_for = work.send(None)
        except StopIteration as done:
            found: T = done.value
            return found
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await _going_on(work, waits_for)
        except TimeoutError as error:
            if deadline.expired():
                raise Late from error
            raise

    async def command(
        self,
        argv: Sequence[str],
        *,
        deadline_s: float,
        env: Mapping[str, str] | None = None,
        cap_bytes: int | None = None,
    ) -> Completed:
        """Run a program to its end."""
        cap = OUTPUT_CAP_BYTES if cap_bytes is None else cap_bytes
        return await commands.run(argv, deadline_s=deadline_s, env=env, cap_bytes=cap)

    async def ends(self, handle: int, within_s: float) -> bool:
        """Wait for the end of a process."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(handle, ended.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await ended.wait()
        loop.remove_reader(handle)
        return bool(select.select([handle], [], [], 0)[0])

    def require_loop(self) -> None:
        """There is one."""


@coroutine
def _going_on(work: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Go on with what has been begun, and waits for this."""
    while True:
        try:
            sent = yield waits_for
        except BaseException as error:  # noqa: BLE001 - handed on, whatever it is
            go_on = partial(work.throw, error)
        else:
            go_on = partial(work.send, sent)
        try:
            waits_for = go_on()
        except StopIteration as done:
            found: T = done.value
            return found


ENGINE: Final = Looping()
