# SPDX-License-Identifier: Apache-2.0
import asyncio
import signal

import pytest

from refloat_agent.events import processes
from refloat_agent.events.processes import ProcessSource
from refloat_checks.proc import Process
from refloat_checks.wakes import ProcessExit

from .conftest import Serve, Told


def titled(word: str) -> ProcessExit:
    return ProcessExit(word, lambda process: process.cmdline.endswith(word))


async def start(seconds: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("sleep", seconds)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_S", 0.01)


async def watched(source: ProcessSource, *pids: int) -> None:
    async with asyncio.timeout(10):
        while not source._watched.keys() >= {*pids}:  # noqa: ASYNC110 - the kernel tells nobody that it was asked
            await asyncio.sleep(0.01)


async def test_it_tells_of_the_end_of_a_process_that_fits_and_of_no_other(serving: Serve) -> None:
    meant, other = await start("86421.5"), await start("86422.5")
    told = Told(titled("86421.5"), titled("86423.5"))
    source = ProcessSource(told.subscription)
    async with serving(source):
        await watched(source, meant.pid)
        other.kill()
        await other.wait()
        assert other.pid not in source._watched
        meant.send_signal(signal.SIGKILL)

        assert await told.next() == {titled("86421.5")}
        assert told.counts.events == 1
    await meant.wait()


async def test_a_process_that_is_there_again_is_told_too_and_watched(serving: Serve) -> None:
    first = await start("86431.5")
    wake = titled("86431.5")
    told = Told(wake)
    source = ProcessSource(told.subscription)
    async with serving(source):
        await watched(source, first.pid)
        first.kill()
        await first.wait()
        assert await told.next() == {wake}
        second = await start("86431.5")
        assert await told.next() == {wake}
        await watched(source, second.pid)
        second.kill()

        assert await told.next() == {wake}
    await second.wait()


async def test_of_many_that_fit_it_watches_the_first(serving: Serve) -> None:
    source = ProcessSource(Told(ProcessExit("all", lambda process: process.is_alive)).subscription)
    async with serving(source):
        await watched(source, 1)

        assert len(source._watched) <= processes.CAP


async def test_a_process_that_ended_before_it_could_be_watched_does_not_count(serving: Serve) -> None:
    gone = await start("0")
    await gone.wait()
    told = Told(titled("86441.5"))
    source = ProcessSource(told.subscription)
    async with serving(source):
        source._take([Process(gone.pid, 1, 0, "S", "sleep", ("sleep", "86441.5"))])

        assert gone.pid not in source._watched
        assert told.wakes == []
