# SPDX-License-Identifier: Apache-2.0
import errno
import os
import time

import pytest

from refloat_agent.events.clock_set import ClockSetSource
from refloat_checks.wakes import ClockSet

from .conftest import Serve, Told


async def test_it_tells_that_the_clock_was_set(serving: Serve) -> None:
    told = Told(ClockSet())
    async with serving(ClockSetSource(told.subscription)):
        try:
            time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))
        except PermissionError:
            pytest.skip("setting the clock is not allowed here")

        assert await told.next() == {ClockSet()}
        assert told.counts.events == 1


async def test_a_timer_that_only_went_off_tells_nothing(serving: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(ClockSet())
    source = ClockSetSource(told.subscription)
    monkeypatch.setattr(os, "read", lambda *_: b"\0" * 8)

    source._read(0)

    assert told.wakes == []


async def test_what_else_goes_wrong_ends_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: int) -> bytes:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(os, "read", broken)

    with pytest.raises(OSError, match="Bad file descriptor"):
        ClockSetSource(Told(ClockSet()).subscription)._read(0)
