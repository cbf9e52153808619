# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from refloat_agent import spool as spool_module
from refloat_agent.spool import Spool
from refloat_contract.errors import Transient
from refloat_contract.messages import Event
from refloat_contract.words import EventKind
from refloat_service import atomic


def _event(number: int, kind: EventKind = EventKind.PHASE_ENTERED) -> Event:
    return Event(id=f"n1-aaaaaaaa-0-{number:06d}", node="n1", at_ns=number, kind=kind, title="t", message="line\none")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"id": "n1-aaaa')


def _size(path: Path) -> int:
    return path.stat().st_size


async def _told(spool: Spool) -> list[int]:
    numbers = []
    while spool.waiting:
        event = await spool.next()
        numbers.append(event.at_ns)
        await spool.told(event)
    return numbers


async def test_events_survive_a_restart_in_their_order(path: Path) -> None:
    await Spool(path).add([_event(1), _event(2)])
    second = Spool(path)
    await second.load()
    await second.add([_event(3)])
    third = Spool(path)
    await third.load()

    assert await _told(third) == [1, 2, 3]


async def test_what_has_been_told_is_not_told_again_after_a_restart(path: Path) -> None:
    spool = Spool(path)
    await spool.add([_event(1)])
    await _told(spool)
    again = Spool(path)
    await again.load()

    assert again.waiting == 0


async def test_an_event_is_not_taken_twice(path: Path) -> None:
    spool = Spool(path)
    await spool.add([_event(1)])
    await spool.add([_event(1)])

    assert await _told(spool) == [1]
    await spool.add([_event(1)])
    assert spool.waiting == 0


async def test_a_torn_line_costs_only_itself(path: Path) -> None:
    await Spool(path).add([_event(1)])
    _tear(path)
    spool = Spool(path)
    await spool.load()
    assert spool.unreadable == 1

    await spool.add([_event(2)])

    again = Spool(path)
    await again.load()
    assert (await _told(again), again.unreadable) == ([1, 2], 0)


async def test_a_full_spool_gives_up_checks_before_events_of_a_cycle(path: Path) -> None:
    spool = Spool(path, capacity=3)
    kinds = [EventKind.REBOOT, EventKind.CHECK_FAILED, EventKind.BOOTED, EventKind.CHECK_PASSED, EventKind.RESUMED]
    await spool.add([_event(number, kind) for number, kind in enumerate(kinds)])

    assert await _told(spool) == [0, 2, 4]
    assert spool.lost == 2


async def test_the_oldest_goes_when_all_are_worth_the_same(path: Path) -> None:
    spool = Spool(path, capacity=2)
    await spool.add([_event(number) for number in range(4)])
    again = Spool(path)
    await again.load()

    assert await _told(again) == [2, 3]


async def test_an_event_that_the_disk_refuses_is_not_taken_for_safe(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Transient("No space left on device")

    spool = Spool(path)
    with monkeypatch.context() as patch:
        patch.setattr(spool_module, "_append", full)
        patch.setattr(atomic, "write", full)
        for _ in range(2):
            with pytest.raises(Transient, match="No space"):
                await spool.add([_event(1)])
        assert spool.waiting == 1

    await spool.add([_event(1)])
    again = Spool(path)
    await again.load()

    assert await _told(again) == [1]


async def test_the_file_shrinks_once_all_is_told(path: Path) -> None:
    spool = Spool(path)
    await spool.add([_event(number) for number in range(20)])
    await _told(spool)

    assert _size(path) == 0


async def test_drained_waits_for_the_last_event(path: Path) -> None:
    spool = Spool(path)
    await spool.drained()
    await spool.add([_event(1)])
    assert not spool._empty.is_set()

    await _told(spool)
    await spool.drained()
