# SPDX-License-Identifier: Apache-2.0
"""Read what rasdaemon has recorded in its database (its ras-record.c: the tables), without ever being in its way.

A reader who locks the file can make rasdaemon lose an event, for it does not wait for locks. So the file is copied as
it is, by a helper that may hang, and the copy is asked; one that was written to meanwhile is no answer.
"""

import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Literal

from refloat_checks.facts import Facts
from refloat_contract.errors import Transient

Table = Literal[
    "mc_event", "mce_record", "extlog_event", "memory_failure_event", "aer_event", "disk_errors", "devlink_event"
]
_MOST_BYTES: Final = 64 << 20
# A file that was written so lately may be written again without a new time: what it said is asked again.
_RACY_S: Final = 2.0

# Of each table: what was not corrected, what was, on what, and how often. What is neither is not counted.
_NOTHING: Final = "0"
_DISK_ERRORS: Final = (
    "I/O error",
    "timeout error",
    "protection error",
    "critical target error",
    "critical nexus error",
    "recoverable transport error",
)
_QUERIES: Final[Mapping[Table, tuple[str, str, str, str]]] = {
    "mc_event": ("err_type IN ('Uncorrected', 'Deferred', 'Fatal')", "err_type = 'Corrected'", "label", "err_count"),
    # MCI_STATUS_UC
    "mce_record": ("(status >> 61) & 1", "NOT (status >> 61) & 1", "'cpu ' || cpu || ' ' || bank_name", "1"),
    # CPER: 0 recoverable, 1 fatal, 2 corrected, 3 informational
    "extlog_event": ("severity IN (0, 1)", "severity = 2", "fru_text", "1"),
    "memory_failure_event": (
        "action_result IN ('Failed', 'Ignored')",
        "action_result IN ('Delayed', 'Recovered')",
        "'page ' || pfn",
        "1",
    ),
    "aer_event": (
        "err_type = 'Uncorrected (Fatal)'",
        "err_type IN ('Corrected', 'Uncorrected (Non-Fatal)')",
        "dev_name",
        "1",
    ),
    "disk_errors": (
        "error = 'critical medium error'",
        f"error IN {_DISK_ERRORS}",
        "dev",
        "1",
    ),
    "devlink_event": (_NOTHING, "1", "dev_name || ' ' || reporter_name", "1"),
}
TABLES: Final[tuple[Table, ...]] = tuple(_QUERIES)
# Written as `2026-01-31 12:00:00 +0100`; of a form that SQLite knows but for a blank and a colon.
_WRITTEN: Final = "substr(timestamp, 1, 19) || substr(timestamp, 21, 3) || ':' || substr(timestamp, 24, 2)"


@dataclass(frozen=True, slots=True)
class Recorded:
    """How many errors of which table, on what, were not corrected, and were; those with none are not told."""

    table: Table
    subject: str
    uncorrected: int
    corrected: int


def ask(data: bytes, since_s: float) -> tuple[Recorded, ...]:
    """Ask a database for what was recorded since then (seconds since the epoch); a table that is not there has nothing.

    Raises Transient if it is none, or of another form.
    """
    if not data:
        raise Transient("rasdaemon's database is empty")
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(data)
            there = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return tuple(row for table in TABLES if table in there for row in _rows(database, table, since_s))
    except sqlite3.Error as error:
        raise Transient(f"rasdaemon's database cannot be read: {error}") from error


def _rows(database: sqlite3.Connection, table: Table, since_s: float) -> Iterable[Recorded]:
    uncorrected, corrected, subject, count = _QUERIES[table]
    # All parts are ours: no data comes into the statement.
    statement = (
        f"SELECT coalesce({subject}, ''), total(({count}) * ({uncorrected})), total(({count}) * ({corrected})) "  # noqa: S608
        f"FROM {table} WHERE CAST(strftime('%s', {_WRITTEN}) AS INTEGER) >= ? GROUP BY 1 ORDER BY 1"
    )
    for what, bad, good in database.execute(statement, (int(since_s),)):
        if bad or good:
            yield Recorded(table, what, int(bad), int(good))


def booted_at_s() -> float:
    """When this boot began, by the wall clock as it is now."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


_known: Final[dict[tuple[str, bool], tuple[tuple[int, float], tuple[Recorded, ...]]]] = {}
"""What each database said, by its size and time: most passes find nothing new."""


async def recorded(facts: Facts, path: str, *, earlier_boots: bool) -> tuple[Recorded, ...]:
    """Read what the database at a path has of this boot, or of all time; raises OSError or Transient."""
    before = await _state(facts, path)
    known = _known.get((path, earlier_boots))
    if known is not None and known[0] == before:
        return known[1]
    data = await facts.content(path, _MOST_BYTES)
    if len(data) > _MOST_BYTES:
        raise Transient(f"rasdaemon's database {path} is larger than {_MOST_BYTES >> 20} MB")
    journal = (await facts.examine_anew(f"{path}-journal")).itself
    if journal is not None or await _state(facts, path) != before:
        raise Transient(f"rasdaemon is writing to {path}")
    since_s = 0.0 if earlier_boots else booted_at_s()
    found = await facts.read(f"{path} since {since_s:.0f}", lambda: ask(data, since_s))
    if time.time() - before[1] > _RACY_S:
        _known[path, earlier_boots] = (before, found)
    return found


async def _state(facts: Facts, path: str) -> tuple[int, float]:
    there = (await facts.examine_anew(path)).target
    if there is None:
        raise Transient(f"rasdaemon has no database {path}")
    return there.size, there.mtime
