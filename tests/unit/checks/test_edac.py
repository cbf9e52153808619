# SPDX-License-Identifier: Apache-2.0
import os
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from refloat_checks import registry
from refloat_checks.edac import Controller, EdacLimits, Module, judge, look
from refloat_checks.facts import Facts, source
from refloat_checks.proc import Roots
from refloat_checks.wakes import FileChange
from refloat_contract.words import Status

CLEAN = Controller(0, 0, (Module("A1", 0, 0),))
DIRTY = Controller(30, 1, (Module("A1", 5, 0), Module("A2", 25, 1)))


@pytest.mark.parametrize(
    ("controllers", "limits", "status", "message"),
    [
        ([CLEAN, CLEAN], {}, Status.OK, "0 corrected and 0 uncorrected memory errors"),
        ([CLEAN, DIRTY], {}, Status.FAILED, "1 uncorrected memory errors (limit 0): A2 (1)"),
        (
            [DIRTY],
            {"max_uncorrected": 1, "max_corrected": 30},
            Status.OK,
            "30 corrected and 1 uncorrected memory errors",
        ),
        (
            [DIRTY],
            {"max_uncorrected": None, "max_corrected": 29},
            Status.FAILED,
            "30 corrected memory errors (limit 29): A1 (5), A2 (25)",
        ),
        (
            [DIRTY],
            {"max_uncorrected": 1, "max_corrected_per_module": 20},
            Status.FAILED,
            "A2 has 25 corrected errors (limit 20)",
        ),
        ([], {}, Status.UNKNOWN, "0 memory controllers count errors (should be 1)"),
        ([CLEAN], {"min_controllers": 2}, Status.UNKNOWN, "1 memory controllers count errors (should be 2)"),
    ],
)
def test_memory_errors_are_judged(
    controllers: list[Controller], limits: dict[str, Any], status: Status, message: str
) -> None:
    finding = judge(controllers, EdacLimits(**limits), "e")

    assert (finding.status, finding.message) == (status, message)


async def test_the_given_sys_is_read(facts: Facts, add_sys: Callable[[dict[str, str]], None]) -> None:
    place = "devices/system/edac/mc/mc0"
    add_sys(
        {
            f"{place}/ce_count": "12\n",
            f"{place}/ue_count": "3\n",
            f"{place}/dimm0/dimm_label": "CPU0_A1\n",
            f"{place}/dimm0/dimm_ce_count": "12\n",
            f"{place}/dimm0/dimm_ue_count": "0\n",
            f"{place}/rank1/dimm_ue_count": "3\n",
        }
    )

    finding = await look(facts, EdacLimits(), "e")

    assert finding.message == "3 uncorrected memory errors (limit 0): mc0/rank1 (3)"
    assert finding.measures == {"corrected": 12, "uncorrected": 3}


# The tables as rasdaemon makes them.
SCHEMA: Final = """
CREATE TABLE mc_event (id INTEGER PRIMARY KEY, timestamp TEXT, err_count INTEGER, err_type TEXT, err_msg TEXT,
  label TEXT, mc INTEGER, top_layer INTEGER, middle_layer INTEGER, lower_layer INTEGER, address INTEGER,
  grain INTEGER, syndrome INTEGER, driver_detail TEXT);
CREATE TABLE aer_event (id INTEGER PRIMARY KEY, timestamp TEXT, dev_name TEXT, err_type TEXT, err_msg TEXT);
CREATE TABLE extlog_event (id INTEGER PRIMARY KEY, timestamp TEXT, etype INTEGER, error_count INTEGER,
  severity INTEGER, address INTEGER, fru_id BLOB, fru_text TEXT, cper_data BLOB);
CREATE TABLE mce_record (id INTEGER PRIMARY KEY, timestamp TEXT, mcgcap INTEGER, mcgstatus INTEGER, status INTEGER,
  addr INTEGER, misc INTEGER, ip INTEGER, tsc INTEGER, walltime INTEGER, ppin INTEGER, cpu INTEGER, cpuid INTEGER,
  apicid INTEGER, socketid INTEGER, cs INTEGER, bank INTEGER, cpuvendor INTEGER, microcode INTEGER, bank_name TEXT,
  error_msg TEXT, mcgstatus_msg TEXT, mcistatus_msg TEXT, mcastatus_msg TEXT, user_action TEXT, mc_location TEXT);
CREATE TABLE devlink_event (id INTEGER PRIMARY KEY, timestamp TEXT, bus_name TEXT, dev_name TEXT, driver_name TEXT,
  reporter_name TEXT, msg TEXT);
CREATE TABLE disk_errors (id INTEGER PRIMARY KEY, timestamp TEXT, dev TEXT, sector INTEGER, nr_sector INTEGER,
  error TEXT, rwbs TEXT, cmd TEXT);
CREATE TABLE memory_failure_event (id INTEGER PRIMARY KEY, timestamp TEXT, pfn TEXT, page_type TEXT,
  action_result TEXT);
"""
UC: Final = -(1 << 63) | 1 << 61
NO_CONTROLLER: Final = {"min_controllers": 0}


class Database:
    """rasdaemon's database, and events of this boot in it."""

    def __init__(self, place: Path) -> None:
        self.path = place / "ras-mc_event.db"
        with closing(sqlite3.connect(self.path)) as database:
            database.executescript(SCHEMA)
        self.age(3600)

    def age(self, seconds: float) -> None:
        os.utime(self.path, (time.time() - seconds,) * 2)

    def add(self, table: str, at_s: float | None = None, **values: object) -> None:
        at = time.localtime(time.time() if at_s is None else at_s)
        row = {"timestamp": time.strftime("%Y-%m-%d %H:%M:%S %z", at), **values}
        marks = ", ".join("?" * len(row))
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))  # noqa: S608

    def limits(self, **limits: Any) -> EdacLimits:
        return EdacLimits(database=str(self.path), **{**NO_CONTROLLER, **limits})


def files_below(place: Path) -> list[Path]:
    return sorted(place.rglob("*"))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


@pytest.mark.parametrize(
    ("table", "values", "uncorrected", "corrected", "subject"),
    [
        ("mc_event", {"err_count": 3, "err_type": "Corrected", "label": "A1"}, 0, 3, "A1"),
        ("mc_event", {"err_count": 2, "err_type": "Uncorrected", "label": "A1"}, 2, 0, "A1"),
        ("mc_event", {"err_count": 1, "err_type": "Deferred", "label": "A1"}, 1, 0, "A1"),
        ("mc_event", {"err_count": 1, "err_type": "Info", "label": "A1"}, 0, 0, ""),
        ("mce_record", {"status": UC, "cpu": 3, "bank_name": "bank=9"}, 1, 0, "cpu 3 bank=9"),
        ("mce_record", {"status": -(1 << 63), "cpu": 3, "bank_name": "bank=9"}, 0, 1, "cpu 3 bank=9"),
        ("extlog_event", {"severity": 0, "fru_text": "DIMM 7"}, 1, 0, "DIMM 7"),
        ("extlog_event", {"severity": 2, "fru_text": "DIMM 7"}, 0, 1, "DIMM 7"),
        ("extlog_event", {"severity": 3, "fru_text": "DIMM 7"}, 0, 0, ""),
        ("memory_failure_event", {"pfn": "0x7", "action_result": "Failed"}, 1, 0, "page 0x7"),
        ("memory_failure_event", {"pfn": "0x7", "action_result": "Recovered"}, 0, 1, "page 0x7"),
        ("aer_event", {"dev_name": "0000:01:00.0", "err_type": "Uncorrected (Fatal)"}, 1, 0, "0000:01:00.0"),
        ("aer_event", {"dev_name": "0000:01:00.0", "err_type": "Uncorrected (Non-Fatal)"}, 0, 1, "0000:01:00.0"),
        ("disk_errors", {"dev": "8:0", "error": "critical medium error"}, 1, 0, "8:0"),
        ("disk_errors", {"dev": "8:0", "error": "I/O error"}, 0, 1, "8:0"),
        ("disk_errors", {"dev": "8:0", "error": "nonblocking retry error"}, 0, 0, ""),
        ("devlink_event", {"dev_name": "0000:3b:00.0", "reporter_name": "fw"}, 0, 1, "0000:3b:00.0 fw"),
    ],
)
async def test_what_rasdaemon_recorded_is_weighed(
    facts: Facts,
    database: Database,
    table: str,
    values: dict[str, Any],
    uncorrected: int,
    corrected: int,
    subject: str,
) -> None:
    database.add(table, **values)

    finding = await look(facts, database.limits(max_recorded_corrected=0), "e")

    counts = (finding.measures["recorded_uncorrected"], finding.measures["recorded_corrected"])
    assert counts == (uncorrected, corrected)
    assert finding.status is (Status.FAILED if uncorrected or corrected else Status.OK)
    if subject:
        kind = "uncorrected" if uncorrected else "corrected"
        total = uncorrected or corrected
        assert finding.message == f"rasdaemon recorded {total} {kind} errors (limit 0): {table} {subject} ({total})"


async def test_only_what_was_recorded_in_this_boot_counts_unless_asked_for(facts: Facts, database: Database) -> None:
    database.add("mc_event", time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - 60, err_count=1, err_type="Fatal")

    of_this_boot = await look(facts, database.limits(), "e")
    of_all = await look(facts, database.limits(earlier_boots=True), "e")

    assert (of_this_boot.status, of_all.status) == (Status.OK, Status.FAILED)


async def test_a_zone_east_or_west_is_the_same_moment(
    facts: Facts, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for zone in ("UTC-14", "UTC+12"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        database.add("mc_event", err_count=1, err_type="Fatal", label=zone)
        database.add("mc_event", time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - 60, err_count=1, label=zone)
    monkeypatch.undo()
    time.tzset()

    finding = await look(facts, database.limits(), "e")

    assert finding.measures["recorded_uncorrected"] == 2


async def test_corrected_errors_are_told_only_with_a_limit(facts: Facts, database: Database) -> None:
    database.add("mc_event", err_count=9000, err_type="Corrected", label="A1")

    assert (await look(facts, database.limits(), "e")).status is Status.OK


async def test_a_writer_is_never_in_our_way_nor_we_in_its(facts: Facts, database: Database) -> None:
    with closing(sqlite3.connect(database.path, timeout=0)) as rasdaemon:
        rasdaemon.execute("BEGIN IMMEDIATE")
        rasdaemon.execute("INSERT INTO mc_event (err_type, err_count) VALUES ('Fatal', 1)")
        finding = await look(facts, database.limits(), "e")
        rasdaemon.commit()

    assert (finding.status, finding.message) == (Status.UNKNOWN, f"rasdaemon is writing to {database.path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "rasdaemon's database is empty"),
        (b"no database", "rasdaemon's database cannot be read: file is not a database"),
        (None, "rasdaemon has no database .*ras-mc_event.db"),
    ],
)
async def test_without_a_database_nothing_is_known_and_none_is_made(
    facts: Facts, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "ras-mc_event.db"
    if content is not None:
        path.write_bytes(content)
    before = files_below(tmp_path)

    finding = await look(facts, EdacLimits(database=str(path), min_controllers=0), "e")

    assert finding.status is Status.UNKNOWN
    assert re.fullmatch(message, finding.message)
    assert files_below(tmp_path) == before


async def test_what_is_wrong_with_memory_is_found_without_the_database(
    facts: Facts, add_sys: Callable[[dict[str, str]], None]
) -> None:
    add_sys({"devices/system/edac/mc/mc0/ue_count": "1\n"})

    finding = await look(facts, EdacLimits(database="/no/such.db"), "e")

    assert finding.status is Status.FAILED


async def test_a_record_that_has_grown_is_read_again(facts: Facts, database: Database, roots: Roots) -> None:
    pool = facts.probes
    assert (await look(facts, database.limits(), "e")).status is Status.OK
    database.add("aer_event", err_type="Uncorrected (Fatal)", dev_name="0000:01:00.0")

    assert (await look(source(roots, pool)(), database.limits(), "e")).status is Status.FAILED


def test_an_event_that_rasdaemon_records_wakes_the_check(database: Database) -> None:
    (spec,) = registry.build([{"name": "e", "type": "edac", "database": str(database.path)}])

    assert registry.wakes_of(spec) == (FileChange(f"{database.path}-journal"),)
