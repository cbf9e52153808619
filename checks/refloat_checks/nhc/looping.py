# SPDX-License-Identifier: Apache-2.0
"""Waits for a pass on asyncio's event loop: in the agent, and for what a straight line cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import select
from typing import TYPE_CHECKING, Final

from refloat_service import commands
from refloat_service.completed import OUTPUT_CAP_BYTES, Completed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Looping:
    """The engine of whoever has a loop."""

    def now_s(self) -> float:
        """Tell the loop's time."""
        return asyncio.get_running_loop().time()

    def deadline(self, seconds: float | None) -> asyncio.Timeout:
        """Bound what is waited for within."""
        return asyncio.timeout(seconds)

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


ENGINE: Final = Looping()
