# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from refloat_agent.events.kernel_log import KernelLogSource
from refloat_checks.kernel_follower import Follower, by_needle
from refloat_checks.kernel_rules import Rule
from refloat_checks.wakes import KernelLog

from .conftest import Serve, Told

MCE = Rule(id="mce", contains="Hardware Error", pattern="Hardware Error", meaning="broken")
LINK = Rule(id="link", contains="Link ", pattern="Link down", clears="line", good="Link up", meaning="no link")


class Log:
    """Stands for /dev/kmsg: a pipe each read of which gives one record."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_DIRECT | os.O_NONBLOCK | os.O_CLOEXEC)
        self.path = f"/proc/self/fd/{self.reading}"

    def write(self, sequence: int, text: str = "all is well") -> None:
        os.write(self.writing, f"6,{sequence},{sequence * 1000},-;{text}\n SUBSYSTEM=pci\n".encode())

    def wake(self, *rules: Rule) -> KernelLog:
        return KernelLog(self.path, Follower(Path(self.path), by_needle(rules)))


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    os.close(log.reading)
    os.close(log.writing)


async def test_what_changes_a_check_is_told_and_nothing_else(log: Log, serving: Serve) -> None:
    told = Told(log.wake(MCE))
    log.write(1)
    log.write(2, "mce: [Hardware Error]")
    async with serving(KernelLogSource(told.subscription)):
        assert await told.next() == set(told.subscription.wakes)
        log.write(3)
        log.write(4, "mce: [Hardware Error] again")
        await told.next()

    (fault,) = told.subscription.wakes[0].reader.faults.values()
    assert (fault.count, told.counts.events, told.wakes) == (2, 4, [])


async def test_only_the_check_whose_rules_know_the_line_is_told(log: Log, serving: Serve) -> None:
    other = Log()
    mine, theirs = log.wake(MCE), other.wake(LINK)
    told = Told(mine, theirs)
    async with serving(KernelLogSource(told.subscription)):
        other.write(1, "Link down")
        assert await told.next() == {theirs}
        log.write(1, "mce: [Hardware Error]")
        assert await told.next() == {mine}
        other.write(2, "Link up")
        assert await told.next() == {theirs}
    os.close(other.reading)
    os.close(other.writing)


async def test_what_a_look_has_read_is_told_too(log: Log, serving: Serve) -> None:
    told = Told(log.wake(MCE))
    async with serving(KernelLogSource(told.subscription)):
        log.write(1, "mce: [Hardware Error]")
        told.subscription.wakes[0].reader.read_new(1.0)

        assert told.wakes == list(told.subscription.wakes)


async def test_records_that_were_overwritten_are_counted_and_wake_the_checks(log: Log, serving: Serve) -> None:
    told = Told(log.wake(MCE))
    log.write(1)
    log.write(40)
    async with serving(KernelLogSource(told.subscription)):
        await told.next()

    assert (told.counts.events, told.counts.dropped) == (2, 38)


async def test_it_leaves_no_descriptor_open(log: Log, serving: Serve) -> None:
    before = open_files()
    for _ in range(3):
        async with serving(KernelLogSource(Told(log.wake(MCE), log.wake(LINK)).subscription)):
            pass

    assert open_files() == before


async def test_it_reads_this_kernels_log_from_its_beginning(serving: Serve) -> None:
    rule = Rule(id="any", pattern="^", meaning="it logs")
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        pytest.skip(f"/dev/kmsg cannot be read here: {error}")
    told = Told(KernelLog("/dev/kmsg", Follower(Path("/dev/kmsg"), by_needle([rule]))))
    async with serving(KernelLogSource(told.subscription)):
        await told.next()
        assert told.counts.events > 0


async def test_a_log_that_ends_is_an_error(tmp_path: Path) -> None:
    log = Log()
    log.write(1, "mce: [Hardware Error]")
    told = Told(log.wake(MCE))
    source = KernelLogSource(told.subscription)
    os.close(log.writing)
    with pytest.raises(OSError, match="has ended"):
        await source.serve(lambda: None)
    os.close(log.reading)

    assert told.wakes == list(told.subscription.wakes)


async def test_without_a_log_it_says_so(tmp_path: Path) -> None:
    wake = KernelLog(str(tmp_path / "kmsg"), Follower(tmp_path / "kmsg", by_needle([MCE])))

    with pytest.raises(FileNotFoundError):
        await KernelLogSource(Told(wake).subscription).serve(lambda: None)
