# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables, as the migrations that made them; a file of any older release is brought up to date."""

import sqlite3
from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE waves (id TEXT PRIMARY KEY, ended INTEGER NOT NULL, started_at REAL NOT NULL, body TEXT NOT NULL);
    CREATE TABLE permits (node TEXT PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        node TEXT NOT NULL,
        kind TEXT NOT NULL,
        wave TEXT NOT NULL,
        at_ns INTEGER NOT NULL,
        body TEXT NOT NULL,
        delivered INTEGER NOT NULL DEFAULT 0,
        rejected TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX events_outbox ON events (seq) WHERE delivered = 0 AND rejected = '';
    CREATE INDEX events_node ON events (node, seq);
    """,
    """
    CREATE TABLE lease (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        holder TEXT NOT NULL,
        host TEXT NOT NULL,
        boot_id TEXT NOT NULL,
        locked INTEGER NOT NULL,
        beat INTEGER NOT NULL
    );
    INSERT INTO lease VALUES (1, '', '', '', 0, 0);
    CREATE TABLE cursors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('ledger', random() & 9223372036854775807);
    """,
    "CREATE TABLE incidents (id TEXT PRIMARY KEY, opened_at REAL NOT NULL, body TEXT NOT NULL)",
)
"""Each brings a file from the version of its index to the next. Add to the end; never change one that was released."""

VERSION: Final = len(MIGRATIONS)

_META: Final = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID"


def version_of(db: sqlite3.Connection) -> int:
    """The version of a file; 0 for an empty one."""
    if db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0] == 0:
        return 0
    row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    return 0 if row is None else int(row[0])


def migrate(db: sqlite3.Connection) -> int:
    """Bring the file up to date within the open transaction; answers with the version that it had."""
    before = version_of(db)
    db.execute(_META)
    db.execute("INSERT OR IGNORE INTO meta VALUES ('epoch', 0)")
    for script in MIGRATIONS[before:]:
        # Not executescript: that would commit first.
        for statement in script.split(";\n"):
            db.execute(statement)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (max(before, VERSION),))
    return before
