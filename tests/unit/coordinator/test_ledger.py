# SPDX-License-Identifier: Apache-2.0
import sqlite3
from pathlib import Path

import pytest
from unit.coordinator.world import T0, event, idle_fleet, request, wave_over

from refloat_contract.errors import Corrupt, Misconfigured, Transient
from refloat_contract.words import EventKind, WaveState
from refloat_coordinator.permits import grants as rules
from refloat_coordinator.permits.grants import Grant
from refloat_coordinator.permits.rooms import Rooms
from refloat_coordinator.permits.rules import Budget
from refloat_coordinator.record import schema
from refloat_coordinator.record.ledger import ENDED_WAVES_KEPT, Backlog, Ledger, open_ledger


async def test_the_epoch_rises_at_every_start(tmp_path: Path) -> None:
    epochs = []
    for _ in range(3):
        ledger, epoch = await open_ledger(tmp_path / "l.sqlite")
        await ledger.aclose()
        epochs.append(epoch)

    assert epochs == [1, 2, 3]


async def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    answer = rules.decide(idle_fleet("n1"), Rooms(idle_fleet("n1"), {}, Budget(), T0), {}, request(), T0)
    assert isinstance(answer, Grant)
    first, _ = await open_ledger(tmp_path / "l.sqlite")
    async with first:
        await first.save([wave_over("n1")], [event()])
        await first.save_permits([answer.permit], ["n9"])
    second, _ = await open_ledger(tmp_path / "l.sqlite")
    async with second:
        assert await second.load_waves(ended=False) == [wave_over("n1")]
        assert await second.load_permits() == {"n1": answer.permit}
        assert await second.events() == [event()]
        await second.save_permits([], ["n1"])
        assert await second.load_permits() == {}


async def test_the_same_event_twice_is_once(ledger: Ledger) -> None:
    new = await ledger.record([event("e1"), event("e1"), event("e2")])
    again = await ledger.record([event("e2"), event("e3")])

    assert [e.id for e in new] == ["e1", "e2"]
    assert [e.id for e in again] == ["e3"]
    assert [p.event.id for p in await ledger.pending(9)] == ["e1", "e2", "e3"]


async def test_events_leave_the_outbox_in_order_and_once(ledger: Ledger) -> None:
    await ledger.record([event(f"e{i}") for i in range(5)])
    first = await ledger.pending(2)
    await ledger.delivered([item.seq for item in first])
    await ledger.reject((await ledger.pending(1))[0].seq, "field type conflict")

    assert [p.event.id for p in await ledger.pending(9)] == ["e3", "e4"]
    assert await ledger.backlog() == Backlog(waiting=2, rejected=1, dropped=0)
    assert await ledger.retry_rejected() == 1
    assert [p.event.id for p in await ledger.pending(9)] == ["e2", "e3", "e4"]


async def test_the_log_is_bounded_and_delivered_events_go_first(tmp_path: Path) -> None:
    ledger, _ = await open_ledger(tmp_path / "l.sqlite", max_events=4)
    async with ledger:
        await ledger.record([event(f"e{i}") for i in range(4)])
        await ledger.delivered([(await ledger.pending(9))[2].seq])
        await ledger.record([event("e4")])
        kept = [e.id for e in await ledger.events()]
        await ledger.record([event("e5")])

        assert kept == ["e0", "e1", "e3", "e4"]
        assert [e.id for e in await ledger.events()] == ["e1", "e3", "e4", "e5"]
        assert (await ledger.backlog()).dropped == 1


async def test_without_an_outbox_nothing_waits_in_it(tmp_path: Path) -> None:
    ledger, _ = await open_ledger(tmp_path / "l.sqlite", outbox=False)
    async with ledger:
        await ledger.record([event()])

        assert await ledger.pending(9) == []


async def test_events_are_found_by_node_kind_wave_and_time(ledger: Ledger) -> None:
    await ledger.record(
        [
            event("e1", "n1", at_ns=10),
            event("e2", "n2", at_ns=20, kind=EventKind.REBOOT),
            event("e3", "n1", at_ns=30, wave="w2"),
        ]
    )

    assert [e.id for e in await ledger.events(nodes=["n1"])] == ["e1", "e3"]
    assert [e.id for e in await ledger.events(kinds=[EventKind.REBOOT])] == ["e2"]
    assert [e.id for e in await ledger.events(waves=["w2"])] == ["e3"]
    assert [e.id for e in await ledger.events(since_ns=20)] == ["e2", "e3"]
    assert [e.id for e in await ledger.events(limit=1)] == ["e3"]


async def test_only_the_newest_ended_waves_are_kept(ledger: Ledger) -> None:
    count = ENDED_WAVES_KEPT + 5
    ended = [wave_over("n1").but(id=f"w{i}", state=WaveState.DONE, started_at=T0 + i) for i in range(count)]
    await ledger.save([*ended, wave_over("n1").but(id="running", started_at=0.0)])

    kept = await ledger.load_waves(ended=True)
    assert (len(kept), kept[0].id) == (ENDED_WAVES_KEPT, "w5")
    assert [wave.id for wave in await ledger.load_waves(ended=False)] == ["running"]


async def test_a_corrupt_file_stops_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"this is no database, but long enough to be read as one" * 100)

    with pytest.raises(Corrupt, match=r"l\.sqlite cannot be read back .*move it away"):
        await open_ledger(path)


async def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    ledger, _ = await open_ledger(path)
    async with ledger:
        await ledger.record([event(f"e{i}", message="x" * 400) for i in range(200)])
    body = bytearray(path.read_bytes())
    body[8192:40960] = b"\xff" * (40960 - 8192)
    path.write_bytes(body)

    with pytest.raises(Corrupt):
        await open_ledger(path)


async def test_a_row_that_cannot_be_read_is_corrupt_and_not_skipped(tmp_path: Path, ledger: Ledger) -> None:
    await ledger.save([wave_over("n1")])
    with sqlite3.connect(tmp_path / "coordinator.sqlite") as other:
        other.execute("UPDATE waves SET body = '{}'")
    other.close()

    with pytest.raises(Corrupt, match="Wave w1 cannot be read"):
        await ledger.load_waves(ended=False)


async def test_a_file_of_a_newer_release_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    ledger, _ = await open_ledger(tmp_path / "l.sqlite")
    await ledger.aclose()
    with sqlite3.connect(tmp_path / "l.sqlite") as other:
        other.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    other.close()

    with pytest.raises(Misconfigured, match=r"newer release .schema 99"):
        await open_ledger(tmp_path / "l.sqlite")
    with sqlite3.connect(tmp_path / "l.sqlite") as other:
        assert dict(other.execute("SELECT key, value FROM meta WHERE key != 'ledger'")) == {"schema": 99, "epoch": 1}
    other.close()


async def test_a_file_of_schema_1_is_brought_up_to_date_with_all_that_was_in_it(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "l.sqlite") as old:
        # What release 0.1.0 with schema 1 has written, as `sqlite3 .dump` shows it.
        old.executescript(Path(__file__).with_name("ledger-1.sql").read_text())
    old.close()

    ledger, epoch = await open_ledger(tmp_path / "l.sqlite")
    async with ledger:
        assert epoch == 3
        assert [wave.id for wave in await ledger.load_waves(ended=False)] == ["w1"]
        assert [wave.id for wave in await ledger.load_waves(ended=True)] == ["w0"]
        assert list(await ledger.load_permits()) == ["n1"]
        assert [e.id for e in await ledger.events()] == ["e1", "e2", "e3"]
        assert await ledger.backlog() == Backlog(waiting=1, rejected=1, dropped=0)
    assert _tables(tmp_path / "l.sqlite") == _tables(await _new_file(tmp_path))


async def _new_file(folder: Path) -> Path:
    ledger, _ = await open_ledger(folder / "new.sqlite")
    await ledger.aclose()
    return folder / "new.sqlite"


def _tables(path: Path) -> dict[str, str]:
    with sqlite3.connect(path) as db:
        rows = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"))
    db.close()
    return {name: " ".join(sql.split()) for name, sql in rows.items()}


async def test_a_migration_that_is_cut_off_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _new_file(tmp_path)
    before = _tables(tmp_path / "new.sqlite")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE half (a);\nno SQL at all"))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)

    with pytest.raises(Transient):
        await open_ledger(tmp_path / "new.sqlite")
    assert _tables(tmp_path / "new.sqlite") == before


async def test_a_disk_that_cannot_be_written_is_transient(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="cannot be written or read"):
        await open_ledger(tmp_path / "no" / "such" / "folder" / "l.sqlite")


async def test_nothing_of_a_save_that_failed_is_kept(tmp_path: Path, ledger: Ledger) -> None:
    with sqlite3.connect(tmp_path / "coordinator.sqlite") as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'full'); END")
    other.close()

    with pytest.raises((Transient, Corrupt)):
        await ledger.save([wave_over("n1")], [event()])
    assert await ledger.load_waves(ended=False) == []
