# SPDX-License-Identifier: Apache-2.0
"""Watching a wave until it ends: live in a terminal, one line for each change in a pipe, or as JSON lines."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live

from refloat_cli.asking import console, write_json
from refloat_cli.views import WaveView, changes, render, summary, view_of
from refloat_cli.ways import Way
from refloat_contract.errors import Transient

LOST_AFTER_S: Final = 30.0
_AGAIN_S: Final = 0.5
_FRAMES_PER_S: Final = 4
_ROWS_FOR_THE_REST: Final = 10

Say = Callable[[WaveView], None]


async def watch(way: Way, wave: str, *, as_json: bool) -> int:
    """Watch until the wave has ended, and say how: exit status 0 is good, 1 is not.

    Raises:
        Transient: the coordinator was away for more than half a minute.
        Refused: there is no such wave.
    """
    screen = console()
    if as_json:
        return await _follow(way, wave, _write)
    if screen.is_terminal:
        return await _live(way, wave, screen)
    return await _lines(way, wave, screen)


async def _live(way: Way, wave: str, screen: Console) -> int:
    latest: WaveView | None = None

    def say(view: WaveView) -> None:
        nonlocal latest
        latest = view

    def frame() -> RenderableType:
        rows = max(4, (screen.height - _ROWS_FOR_THE_REST) // 2)
        return "" if latest is None else render(latest, time.time(), screen.width, rows)

    with Live(get_renderable=frame, console=screen, refresh_per_second=_FRAMES_PER_S):
        status = await _follow(way, wave, say)
    if latest is not None:
        screen.print()
        screen.print(summary(replace(latest, nodes=()), time.time()))  # the last frame names the held ones
    return status


async def _lines(way: Way, wave: str, screen: Console) -> int:
    latest: WaveView | None = None

    def say(view: WaveView) -> None:
        nonlocal latest
        for line in changes(latest, view, time.time()):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        latest = view

    status = await _follow(way, wave, say)
    if latest is not None:
        screen.print(summary(latest, time.time()), soft_wrap=True)
    return status


def _write(view: WaveView) -> None:
    if not view.notice:
        write_json(
            {
                "report": view.report.model_dump(mode="json"),
                "nodes": [node.model_dump(mode="json") for node in view.nodes],
            },
            indent=None,
        )


async def _follow(way: Way, wave: str, say: Say) -> int:
    latest: WaveView | None = None
    async with contextlib.aclosing(views(way, wave)) as shown:
        async for view in shown:
            latest = view
            say(view)
    return 0 if latest is not None and latest.is_good else 1


async def views(way: Way, wave: str, *, lost_after_s: float = LOST_AFTER_S) -> AsyncGenerator[WaveView, None]:
    """The wave at each change until it has ended, through restarts of the coordinator.

    Raises:
        Transient: the coordinator did not answer at first, or was away for more than ``lost_after_s``.
    """
    latest: WaveView | None = None
    lost_at: float | None = None
    while latest is None or not latest.is_ended:
        if latest is not None:
            await asyncio.sleep(_AGAIN_S)
        try:
            async with contextlib.aclosing(way.watch(wave)) as stream:
                async for shown in stream:
                    lost_at, latest = None, view_of(shown)
                    yield latest
        except Transient as error:
            now = time.monotonic()
            lost_at = now if lost_at is None else lost_at
            if latest is None or now - lost_at > lost_after_s:
                raise
            yield replace(latest, notice=_lost(error))


def _lost(error: Transient) -> str:
    told = str(error).partition(":")[0]
    return f"lost the coordinator ({told}); trying again. The agents go on without it."
