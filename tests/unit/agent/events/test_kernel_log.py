# SPDX-License-Identifier: Apache-2.0
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from refloat_agent.events.kernel_log import KernelLogSource
from refloat_checks.wakes import KernelLog

from .conftest import Serve, Told


class Ring:
    """A kernel's log that loses records, as read(2) on /dev/kmsg gives it."""

    def __init__(self, *answers: bytes | type[OSError]) -> None:
        self.answers = list(answers)

    def read(self, file: int, size: int) -> bytes:
        answer = self.answers.pop(0) if self.answers else BlockingIOError
        if isinstance(answer, bytes):
            return answer
        raise answer(32, "Broken pipe") if answer is BrokenPipeError else answer()


def record(sequence: int, text: str = "all is well") -> bytes:
    return f"6,{sequence},{sequence * 1000},-;{text}\n SUBSYSTEM=pci\n".encode()


async def test_each_record_is_handed_over_and_what_matters_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    told = Told(KernelLog())

    def subscriber(records: Sequence[bytes]) -> bool:
        seen.extend(records)
        return any(b"Hardware Error" in each for each in records)

    source = KernelLogSource(told.subscription, [lambda _: False, subscriber])
    monkeypatch.setattr(os, "read", Ring(record(1), record(2)).read)
    source._batch(0)
    assert told.wakes == []
    monkeypatch.setattr(os, "read", Ring(record(3, "mce: [Hardware Error]"), record(4)).read)
    source._batch(0)

    assert told.wakes == [KernelLog()]
    assert seen == [record(1), record(2), record(3, "mce: [Hardware Error]"), record(4)]


async def test_records_that_were_overwritten_are_counted_and_wake_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(KernelLog())
    source = KernelLogSource(told.subscription, [lambda _: False])
    monkeypatch.setattr(os, "read", Ring(record(1), BrokenPipeError, record(40), record(41)).read)

    source._batch(0)

    assert told.counts.dropped == 38
    assert told.wakes == [KernelLog()]


async def test_what_was_lost_between_two_readings_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(KernelLog())
    source = KernelLogSource(told.subscription, [lambda _: False])
    for records in ([record(7), record(8)], [record(12)]):
        monkeypatch.setattr(os, "read", Ring(*records).read)
        source._batch(0)

    assert told.counts.dropped == 3
    assert told.counts.events == 3


async def test_a_log_that_ends_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(KernelLog())
    source = KernelLogSource(told.subscription, [bool])
    monkeypatch.setattr(os, "read", Ring(record(1), b"", b"").read)
    source._batch(0)
    assert told.counts.events == 1

    with pytest.raises(OSError, match="has ended"):
        source._batch(0)


async def test_opened_again_it_hands_over_no_record_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def subscriber(records: Sequence[bytes]) -> bool:
        seen.extend(records)
        return False

    source = KernelLogSource(Told(KernelLog()).subscription, [subscriber])
    for _ in range(2):
        monkeypatch.setattr(os, "read", Ring(record(1), record(2)).read)
        source._batch(0)

    assert seen == [record(1), record(2)]


async def test_it_reads_this_kernels_log_from_its_beginning(serving: Serve) -> None:
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        pytest.skip(f"/dev/kmsg cannot be read here: {error}")
    told = Told(KernelLog())
    source = KernelLogSource(told.subscription, [bool])
    async with serving(source):
        assert await told.next() == {KernelLog()}
        assert told.counts.events > 0


async def test_a_line_that_the_kernel_logs_is_told_at_once(serving: Serve) -> None:
    mark = f"refloat test {os.getpid()}".encode()
    told = Told(KernelLog())
    source = KernelLogSource(told.subscription, [lambda records: any(mark in each for each in records)])
    try:
        file = os.open("/dev/kmsg", os.O_WRONLY)
    except OSError as error:
        pytest.skip(f"/dev/kmsg cannot be written here: {error}")
    async with serving(source):
        await asyncio.to_thread(os.write, file, b"<6>" + mark + b"\n")

        assert await told.next() == {KernelLog()}
    os.close(file)


async def test_without_a_log_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await KernelLogSource(
            Told(KernelLog()).subscription, [], lambda: os.open(tmp_path / "kmsg", os.O_RDONLY)
        ).serve(lambda: None)
