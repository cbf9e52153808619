# SPDX-License-Identifier: Apache-2.0
"""What is waited for on an event loop ends in its time, whatever it does with the end."""

import asyncio
from typing import Any

import pytest

from refloat_checks.nhc.engine import Late
from refloat_checks.nhc.looping import ENGINE


async def at_once(value: int) -> int:
    return value


async def soon(value: int) -> int:
    for _ in range(3):
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await asyncio.sleep(0.001)
    return value


async def never() -> int:
    async with asyncio.timeout(60):
        await asyncio.Event().wait()
    raise AssertionError


async def kernel_timeout() -> int:
    await asyncio.sleep(0)
    raise TimeoutError(110, "Connection timed out")


@pytest.mark.parametrize("work", [at_once, soon])
async def test_what_is_done_in_time_gives_what_it_gives(work: Any) -> None:
    assert await ENGINE.within(60, work(7)) == 7
    assert await ENGINE.within(None, work(8)) == 8


async def test_what_takes_too_long_is_late_and_the_task_goes_on() -> None:
    with pytest.raises(Late):
        await ENGINE.within(0.01, never())

    assert await ENGINE.within(60, soon(7)) == 7


async def test_the_inner_end_of_two_is_the_inner_ones() -> None:
    async def outer() -> str:
        try:
            return str(await ENGINE.within(0.01, never()))
        except Late:
            return "the inner one was late"

    assert await ENGINE.within(60, outer()) == "the inner one was late"


async def test_the_kernels_own_timeout_is_not_taken_for_the_end_of_the_time() -> None:
    with pytest.raises(TimeoutError, match="Connection timed out"):
        await ENGINE.within(60, kernel_timeout())


async def test_a_cancelled_task_is_cancelled_within() -> None:
    task = asyncio.ensure_future(ENGINE.within(60, never()))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
