# SPDX-License-Identifier: Apache-2.0
"""The ledger: waves, permits, and the event log that is also the outbox, in SQLite; never blocks the event loop.

Everything a caller has awaited is on the disk (``synchronous=FULL``). One thread does all the work, in order.
"""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from refloat_contract.errors import Corrupt, Misconfigured, Transient
from refloat_contract.messages import Event
from refloat_contract.words import EventKind
from refloat_coordinator.lease import Deposed, Holder, Lease
from refloat_coordinator.permits.breaker import Incident
from refloat_coordinator.permits.permit import Permit
from refloat_coordinator.record import filesystems, schema
from refloat_coordinator.waves.wave import Wave

log = structlog.get_logger(__name__)

ENDED_WAVES_KEPT: Final = 200
INCIDENTS_KEPT: Final = 200

_FORGET_OLD_INCIDENTS: Final = (
    "DELETE FROM incidents WHERE id NOT IN (SELECT id FROM incidents ORDER BY opened_at DESC LIMIT ?)"
)
_FIRST_WITH_LEASE: Final = 2

T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Pending:
    """An event that is still to be delivered, and its place in the outbox."""

    seq: int
    event: Event


@dataclass(frozen=True, slots=True)
class Backlog:
    """How the outbox stands: events waiting, set aside as unacceptable, and dropped for want of room."""

    waiting: int
    rejected: int
    dropped: int


class Ledger:
    """The open database. Make one with `open_ledger`."""

    def __init__(self, path: Path, *, max_events: int, outbox: bool, deadline_s: float) -> None:
        self._path = path
        self._max_events = max_events
        self._outbox = outbox
        self._deadline_s = deadline_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._db: sqlite3.Connection | None = None
        self._dropped = 0
        self._epoch = 0

    async def lease(self) -> Lease:
        """Who leads, as the file says now. May be asked before `begin`, and then changes nothing."""
        return await self._do(_read_lease, fenced=False, mode="BEGIN")

    async def begin(self, taker: Holder | None = None, seen: Lease | None = None, above: int = 0) -> int:
        """Make the database ready and take the lease; answers with the new epoch, which lies above ``above``, too.

        From now on every transaction fails once somebody else has taken it.

        Raises:
            Deposed: the lease is no longer as it was ``seen``: another one was faster.
        """
        await self._do(_choose_journal, fenced=False, mode="")
        self._epoch = await self._do(lambda db: self._begin(db, taker, seen, above), fenced=False)
        return self._epoch

    async def renew(self) -> None:
        """Move the lease on.

        Raises:
            Deposed: another one has taken it.
        """
        await self._do(lambda db: _none(db.execute("UPDATE lease SET beat = beat + 1")))

    async def confirm(self) -> None:
        """Return if the lease is still ours.

        Raises:
            Deposed: another one has taken it.
        """
        await self._do(_none, mode="BEGIN")

    async def resign(self) -> None:
        """Give the lease back, so that another one need not wait."""
        await self._do(lambda db: _none(db.execute("UPDATE lease SET holder = '', beat = beat + 1")))

    async def load_waves(self, *, ended: bool) -> list[Wave]:
        """The waves that have ended, or those that have not, oldest first."""
        sql = "SELECT id, body FROM waves WHERE ended = ? ORDER BY started_at, id"
        return await self._do(lambda db: [self._read(Wave, *row) for row in db.execute(sql, (int(ended),))])

    async def load_permits(self) -> dict[str, Permit]:
        """The permits, by node."""
        sql = "SELECT node, body FROM permits"
        return await self._do(lambda db: {row[0]: self._read(Permit, *row) for row in db.execute(sql)})

    async def load_incidents(self) -> list[Incident]:
        """The incidents of the breaker, oldest first."""
        sql = "SELECT id, body FROM incidents ORDER BY opened_at, id"
        return await self._do(lambda db: [self._read(Incident, *row) for row in db.execute(sql)])

    async def save(
        self, waves: Iterable[Wave] = (), events: Iterable[Event] = (), incidents: Iterable[Incident] = ()
    ) -> None:
        """Keep these waves, events and incidents: all of them or none."""
        opened = [(one.id, one.opened_at, one.model_dump_json()) for one in incidents]
        rows = [(w.id, int(w.is_ended), w.started_at, w.model_dump_json()) for w in waves]
        told = tuple(events)

        def write(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO waves (id, ended, started_at, body) VALUES (?, ?, ?, ?)", rows)
            if any(ended for _, ended, _, _ in rows):
                _forget_old_waves(db)
            if opened:
                db.executemany("INSERT OR REPLACE INTO incidents (id, opened_at, body) VALUES (?, ?, ?)", opened)
                db.execute(_FORGET_OLD_INCIDENTS, (INCIDENTS_KEPT,))
            self._insert(db, told)

        await self._do(write)

    async def save_permits(self, granted: Collection[Permit], ended: Collection[str]) -> None:
        """Keep these permits and forget those of the nodes in ``ended``."""
        rows = [(p.node, p.model_dump_json()) for p in granted]

        def write(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM permits WHERE node = ?", [(node,) for node in ended])
            db.executemany("INSERT OR REPLACE INTO permits (node, body) VALUES (?, ?)", rows)

        await self._do(write)

    async def record(self, events: Sequence[Event]) -> list[Event]:
        """Keep these events; answers with those that were new. The same id twice is once."""
        return await self._do(lambda db: self._insert(db, events))

    async def pending(self, limit: int) -> list[Pending]:
        """The oldest events that are still to be delivered, in their order."""
        sql = "SELECT seq, id, body FROM events WHERE delivered = 0 AND rejected = '' ORDER BY seq LIMIT ?"
        return await self._do(
            lambda db: [Pending(seq, self._read(Event, name, body)) for seq, name, body in db.execute(sql, (limit,))]
        )

    async def after(self, seq: int, kinds: Collection[EventKind], limit: int) -> tuple[list[Pending], int]:
        """The oldest events of these kinds behind ``seq``, and up to where none of them is left out."""
        sql = (
            "SELECT seq, id, body FROM events"
            " WHERE seq > ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?"
        )

        def read(db: sqlite3.Connection) -> tuple[list[Pending], int]:
            rows = db.execute(sql, (seq, _json(kinds), limit)).fetchall()
            found = [Pending(number, self._read(Event, name, body)) for number, name, body in rows]
            return found, found[-1].seq if len(found) == limit else max(seq, _last_seq(db))

        return await self._do(read)

    async def cursor(self, name: str) -> int:
        """A reader's place in the event log; that of a new one is behind all there is."""

        def read(db: sqlite3.Connection) -> int:
            db.execute("INSERT OR IGNORE INTO cursors VALUES (?, ?)", (name, _last_seq(db)))
            return int(db.execute("SELECT seq FROM cursors WHERE name = ?", (name,)).fetchone()[0])

        return await self._do(read)

    async def move_cursor(self, name: str, seq: int) -> None:
        """This reader has dealt with all events up to ``seq``."""
        await self._do(lambda db: _none(db.execute("UPDATE cursors SET seq = ? WHERE name = ?", (seq, name))))

    async def delivered(self, seqs: Sequence[int]) -> None:
        """These events arrived."""
        sql = "UPDATE events SET delivered = 1 WHERE seq = ?"
        await self._do(lambda db: _none(db.executemany(sql, [(seq,) for seq in seqs])))

    async def reject(self, seq: int, why: str) -> None:
        """Set this event aside: the receiver will never take it."""
        await self._do(lambda db: _none(db.execute("UPDATE events SET rejected = ? WHERE seq = ?", (why, seq))))

    async def retry_rejected(self) -> int:
        """Queue again what was set aside, since an administrator may have mended the cause; answers with how many."""
        sql = "UPDATE events SET rejected = '' WHERE rejected != '' AND delivered = 0"
        return await self._do(lambda db: db.execute(sql).rowcount)

    async def backlog(self) -> Backlog:
        """How the outbox stands."""
        sql = "SELECT total(rejected = ''), total(rejected != '') FROM events WHERE delivered = 0"

        def read(db: sqlite3.Connection) -> Backlog:
            waiting, rejected = db.execute(sql).fetchone()
            return Backlog(int(waiting), int(rejected), self._dropped)

        return await self._do(read)

    async def events(
        self,
        *,
        nodes: Collection[str] = (),
        since_ns: int = 0,
        kinds: Collection[EventKind] = (),
        checks: Collection[str] = (),
        waves: Collection[str] = (),
        limit: int = 1000,
    ) -> list[Event]:
        """The newest ``limit`` events that fit, oldest first; an empty collection fits all."""
        # Sets go through JSON, since a wave may name more nodes than SQLite takes parameters; an empty one fits all.
        sql = (
            "SELECT id, body FROM events WHERE at_ns >= ?1"
            " AND (?2 = '[]' OR node IN (SELECT value FROM json_each(?2)))"
            " AND (?3 = '[]' OR kind IN (SELECT value FROM json_each(?3)))"
            " AND (?4 = '[]' OR wave IN (SELECT value FROM json_each(?4)))"
            " AND (?5 = '[]' OR json_extract(body, '$.check') IN (SELECT value FROM json_each(?5)))"
            " ORDER BY seq DESC LIMIT ?6"
        )
        parameters = (since_ns, _json(nodes), _json(kinds), _json(waves), _json(checks), limit)
        rows = await self._do(lambda db: db.execute(sql, parameters).fetchall())
        return [self._read(Event, *row) for row in reversed(rows)]

    async def aclose(self) -> None:
        """Close the database; what was awaited is on the disk already."""

        def close() -> None:
            if self._db is not None:
                self._db.close()
                self._db = None

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deadline_s):
                await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _do(
        self, work: Callable[[sqlite3.Connection], T], *, fenced: bool = True, mode: str = "BEGIN IMMEDIATE"
    ) -> T:
        run = partial(self._in_transaction, work, fenced=fenced, mode=mode)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except TimeoutError as error:
            raise Transient(f"{self._path} did not answer within {self._deadline_s:g} s: is the disk well?") from error

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T], *, fenced: bool, mode: str) -> T:
        try:
            db = self._connection()
            with db:
                if mode:
                    db.execute(mode)
                if fenced:
                    self._check_lead(db)
                return work(db)
        except sqlite3.OperationalError as error:
            raise Transient(
                f"{self._path} cannot be written or read: {error}; is the disk full or read-only?"
            ) from error
        except sqlite3.DatabaseError as error:
            raise Corrupt(_corrupt(self._path, str(error))) from error

    def _check_lead(self, db: sqlite3.Connection) -> None:
        """In every transaction: what a coordinator that was stopped for a while still wants is no longer wanted."""
        epoch = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0]
        if epoch != self._epoch:
            leader = _read_lease(db).holder
            who = f"the coordinator on {leader.host}" if leader and leader.host else "another coordinator"
            raise Deposed(f"{who} leads since epoch {epoch}, ours was {self._epoch}: ask there")

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=self._deadline_s)
            try:
                db.execute("PRAGMA synchronous = FULL")
            except sqlite3.Error:
                db.close()
                raise
            self._db = db
        return self._db

    def _begin(self, db: sqlite3.Connection, taker: Holder | None, seen: Lease | None, above: int) -> int:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise Corrupt(_corrupt(self._path, str(verdict)))
        now = _read_lease(db)
        if seen is not None and now != seen:
            raise Deposed(f"another coordinator was faster to take epoch {now.epoch}")
        version = schema.version_of(db)
        if version > schema.VERSION:
            raise Misconfigured(
                f"{self._path} was written by a newer release (schema {version}, this one knows {schema.VERSION}):"
                " install that release, or move the file away"
            )
        schema.migrate(db)
        if 0 < version < schema.VERSION:
            log.info("ledger_migrated", path=str(self._path), schema=schema.VERSION, before=version)
        me = taker or Holder("")
        db.execute(
            "UPDATE lease SET holder = ?, host = ?, boot_id = ?, locked = ?, beat = beat + 1",
            (me.id, me.host, me.boot_id, int(me.locked)),
        )
        epoch = max(now.epoch, above) + 1
        db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (epoch,))
        return epoch

    def _insert(self, db: sqlite3.Connection, events: Iterable[Event]) -> list[Event]:
        sql = (
            "INSERT INTO events (id, node, kind, wave, at_ns, body, delivered) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO NOTHING"
        )
        done = int(not self._outbox)
        new = [
            e
            for e in events
            if db.execute(sql, (e.id, e.node, e.kind, e.wave, e.at_ns, e.model_dump_json(), done)).rowcount
        ]
        if new:
            self._prune(db)
        return new

    def _prune(self, db: sqlite3.Connection) -> None:
        """Keep the log bounded: the oldest delivered go first, and only when none is left, undelivered ones."""
        span = db.execute("SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM events").fetchone()[0]
        if span <= self._max_events:
            return
        too_many = db.execute("SELECT count(*) FROM events").fetchone()[0] - self._max_events
        if too_many <= 0:
            return
        sql = "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE delivered = {} ORDER BY seq LIMIT ?)"
        gone = db.execute(sql.format(1), (too_many,)).rowcount
        if gone < too_many:
            lost = db.execute(sql.format(0), (too_many - gone,)).rowcount
            self._dropped += lost
            log.error("undelivered_events_dropped", count=lost, so_far=self._dropped, max_events=self._max_events)

    def _read(self, model: type[B], name: str, body: str) -> B:
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise Corrupt(_corrupt(self._path, f"{model.__name__} {name} cannot be read")) from error


async def open_ledger(
    path: Path, *, max_events: int = 100_000, outbox: bool = True, deadline_s: float = 10.0
) -> tuple[Ledger, int]:
    """Open or make the database; answers with it and the new epoch. Without ``outbox`` events count as delivered.

    Raises:
        Corrupt: the file cannot be read back.
        Misconfigured: a newer release wrote it.
        Transient: the disk does not answer, is full, or may not be written.
    """
    ledger = Ledger(path, max_events=max_events, outbox=outbox, deadline_s=deadline_s)
    try:
        return ledger, await ledger.begin()
    except BaseException:
        await ledger.aclose()
        raise


def _read_lease(db: sqlite3.Connection) -> Lease:
    """The lease; of a file that knows of none, or is empty, one that nobody holds."""
    version = schema.version_of(db)
    if version == 0:
        return Lease()
    epoch = int(db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])
    if version < _FIRST_WITH_LEASE:
        return Lease(epoch)
    name, host, boot_id, locked, beat = db.execute("SELECT holder, host, boot_id, locked, beat FROM lease").fetchone()
    own = db.execute("SELECT value FROM meta WHERE key = 'ledger'").fetchone()[0]
    return Lease(epoch, Holder(name, host, boot_id, bool(locked)) if name else None, beat, f"{own:016x}")


def _choose_journal(db: sqlite3.Connection) -> None:
    """WAL, but not on a network filesystem: it shares memory, and so has one host (sqlite.org/wal.html)."""
    path = db.execute("PRAGMA database_list").fetchone()[2]
    mode = "WAL" if filesystems.is_local(path) else "DELETE"
    if db.execute("PRAGMA journal_mode").fetchone()[0].upper() != mode:
        db.execute(f"PRAGMA journal_mode = {mode}")


def _last_seq(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])


def _forget_old_waves(db: sqlite3.Connection) -> None:
    db.execute(
        "DELETE FROM waves WHERE ended = 1 AND id NOT IN"
        " (SELECT id FROM waves WHERE ended = 1 ORDER BY started_at DESC LIMIT ?)",
        (ENDED_WAVES_KEPT,),
    )


def _corrupt(path: Path, what: str) -> str:
    return f"{path} cannot be read back ({what}): restore it from a backup, or move it away to start with none"


def _json(values: Iterable[str]) -> str:
    return json.dumps([str(value) for value in values])


def _none(_: object) -> None:
    return None
