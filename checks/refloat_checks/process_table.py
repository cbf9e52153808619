# SPDX-License-Identifier: Apache-2.0
"""The process table as ps shows it: titles alone, which is cheap, or with owners, times and memory."""

from __future__ import annotations

import os

from refloat_checks.proc import Roots, read_text
from refloat_checks.process_titles import Title, TitleReader, by_word
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Final

    from refloat_checks.facts import Facts

_STAT_BYTES: Final = 4096
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024
_PERMILLE: Final = 1000


@record
class ProcessUse:
    """A process with its effective owner and what it uses; shares of one CPU and of all memory are per mille."""

    pid: int
    ppid: int
    uid: int
    title: str
    cpu_permille: int
    memory_permille: int
    rss_kb: int
    vsz_kb: int
    cpu_s: int
    started_ticks: int

    @property
    def word(self) -> str:
        """The title's first word."""
        return self.title.partition(" ")[0]


def _read_at(table: int, name: str, cap: int) -> bytes:
    place = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=table)
    try:
        return os.read(place, cap)
    finally:
        os.close(place)


def read_uses(roots: Roots, ram_kb: int) -> tuple[ProcessUse, ...]:
    """Read all processes but our own, with what they use."""
    uptime_s = float(read_text(roots.proc / "uptime").split()[0])
    table = os.open(roots.proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = []
        for title in TitleReader(roots).read():
            try:
                stat = _read_at(table, f"{title.pid}/stat", _STAT_BYTES).decode(errors="surrogateescape")
                uid = _read_uid(table, str(title.pid))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            found.append(parse_use(title, stat, uid, uptime_s=uptime_s, ram_kb=ram_kb))
        return tuple(found)
    finally:
        os.close(table)


def parse_use(title: Title, stat: str, uid: int, *, uptime_s: float, ram_kb: int) -> ProcessUse:
    """Compute a process's shares as ps does, of `/proc/PID/stat` (proc(5))."""
    # Counted from the field behind the name, which is the third.
    fields = stat[stat.rindex(")") + 2 :].split()
    ppid, started = int(fields[1]), int(fields[19])
    ticks = int(fields[11]) + int(fields[12])
    lived_ticks = int(uptime_s * _TICKS_PER_S) - started
    rss_kb = int(fields[21]) * _PAGE_KB
    return ProcessUse(
        title.pid,
        ppid,
        uid,
        title.title,
        ticks * _PERMILLE // lived_ticks if lived_ticks > 0 else 0,
        min(rss_kb * _PERMILLE // ram_kb, _PERMILLE - 1) if ram_kb else 0,
        rss_kb,
        int(fields[20]) // 1024,
        ticks // _TICKS_PER_S,
        started,
    )


def _read_uid(table: int, name: str) -> int:
    # The owner of /proc/PID is the effective user, but root for a process that may not dump core (proc(5)).
    owner = os.stat(name, dir_fd=table).st_uid
    if owner != 0:
        return owner
    status = _read_at(table, f"{name}/status", _STAT_BYTES)
    return int(status[status.index(b"\nUid:") + 5 :].split(None, 2)[1])


@record
class Identity:
    """Whose a process is, and when it was started: with its number this names it for ever."""

    uid: int
    started_ticks: int


def read_identities(roots: Roots, pids: Iterable[int]) -> dict[int, Identity]:
    """Read whose these processes are; those that have ended are left out."""
    table = os.open(roots.proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = {}
        for pid in pids:
            try:
                stat = _read_at(table, f"{pid}/stat", _STAT_BYTES)
                uid = _read_uid(table, str(pid))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            started = int(stat[stat.rindex(b")") + 2 :].split()[19])
            found[pid] = Identity(uid, started)
        return found
    finally:
        os.close(table)


async def titles(facts: Facts) -> tuple[Title, ...]:
    """Read the titles, once per pass."""
    return await facts.read("process titles", facts.titles.read)


async def witness(facts: Facts, asked: tuple[str, ...]) -> Title | None:
    """Read the title of the process that had the one that was asked for when this was asked last, if it is there."""
    pid = facts.titles.witness(asked)
    return None if pid is None else await facts.read(f"process title {pid}", lambda: facts.titles.read_one(pid))


async def titles_by_word(facts: Facts) -> Mapping[str, Sequence[Title]]:
    """Read the titles, and sort them by their first words, of which there are fewer; once per pass."""

    async def sort() -> Mapping[str, Sequence[Title]]:
        return by_word(await titles(facts))

    return await facts.remember(("process titles by word",), sort)


async def uses(facts: Facts, ram_kb: int) -> tuple[ProcessUse, ...]:
    """Read what the processes use, once per pass."""
    return await facts.read("what processes use", lambda: read_uses(facts.roots, ram_kb))


async def identities(facts: Facts, pids: tuple[int, ...]) -> dict[int, Identity]:
    """Read whose these processes are."""
    source = f"processes {' '.join(map(str, pids))}"
    return await facts.read(source, lambda: read_identities(facts.roots, pids)) if pids else {}
