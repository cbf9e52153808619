# SPDX-License-Identifier: Apache-2.0
"""The titles of all processes, read again and again at half the cost: what was opened once stays open."""

from __future__ import annotations

import os

from refloat_checks.proc import Roots
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

_TITLE_BYTES: Final = 4096
_READ_ONLY: Final = os.O_RDONLY | os.O_CLOEXEC
_INIT: Final = 1
_MOST_WITNESSES: Final = 256
_SHARE: Final = 2  # of the descriptors that a process may have, one in so many is kept here


@record
class Title:
    """A process and its title, with one blank between words; kernel threads and zombies have their name in brackets.

    A bare tuple, because a node has thousands of them and looks at them every minute.
    """

    pid: int
    title: str

    @property
    def word(self) -> str:
        """The first word."""
        return self.title.partition(" ")[0]


def by_word(titles: Iterable[Title]) -> dict[str, list[Title]]:
    """Sort titles by their first words."""
    found: dict[str, list[Title]] = {}
    for each in titles:
        found.setdefault(each.word, []).append(each)
    return found


def title_of(data: bytes) -> str:
    """Make a title of what `/proc/PID/cmdline` holds."""
    text = data.replace(b"\0", b" ").decode("utf-8", "surrogateescape").strip()
    return " ".join(text.split()) if "  " in text or "\n" in text or "\t" in text else text


@record
class _Kept:
    """A process that was read before: the descriptor, what it held then, and what that means."""

    place: int
    data: bytes
    title: Title


def most_kept() -> int:
    """How many descriptors may stay open here, so that enough are left for all else."""
    import resource  # noqa: PLC0415 - for whoever keeps them

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft // _SHARE if soft != resource.RLIM_INFINITY else 1 << 16


class TitleReader:
    """Reads all titles, at most `most` of them through a descriptor that stays open; not from two threads at once.

    Such a descriptor belongs to the process, not to its number: it shows what the process calls itself now, also
    after an exec, and fails with ESRCH when it has ended, whoever has its number by then.
    """

    def __init__(self, roots: Roots, most: int = 0) -> None:
        self._proc = f"{roots.proc}/"
        # Files of a fixture can be replaced, and a descriptor would show the old one for ever.
        self._is_running_system = roots.is_running_system
        self._most = most if roots.is_running_system else 0
        self._kept: dict[str, _Kept] = {}
        self._witnesses: dict[tuple[str, ...], int] = {}

    def read(self) -> tuple[Title, ...]:
        """Read all titles but our own; processes that end meanwhile are left out."""
        own = self._own()
        names = [name for name in os.listdir(self._proc) if name.isdigit() and name not in own]  # noqa: PTH208 - names
        self._forget(self._kept.keys() - set(names))
        found = []
        for name in names:
            try:
                found.append(self._title(name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended between the listing and the reading
        return tuple(found)

    def keep_witness(self, asked: tuple[str, ...], pid: int) -> None:
        """Keep which process had the title that was asked for: most likely it has it still."""
        if len(self._witnesses) >= _MOST_WITNESSES:  # a script may ask for another one each time
            self._witnesses.clear()
        self._witnesses[asked] = pid

    def witness(self, asked: tuple[str, ...]) -> int | None:
        """Give the process that had the title when this was asked last."""
        return self._witnesses.get(asked)

    def read_one(self, pid: int) -> Title | None:
        """Read the title that the process of this number has now; None if there is none. From any thread."""
        try:
            return self._named(str(pid), _read(f"{self._proc}{pid}/cmdline"))
        except (FileNotFoundError, ProcessLookupError):
            return None

    def _own(self) -> set[str]:
        """Our own process, and those that it was forked from: they have its command line, and with it its words."""
        found = {str(os.getpid())}
        parent = os.getppid()
        if parent > _INIT and self._is_running_system:
            title = _read("/proc/self/cmdline")
            try:
                while parent > _INIT and _read(f"/proc/{parent}/cmdline") == title:
                    found.add(str(parent))
                    parent = int(_read(f"/proc/{parent}/stat").rpartition(b")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                pass  # whatever forked us has ended
        return found

    def close(self) -> None:
        """Close what is open."""
        self._forget(tuple(self._kept))

    def __del__(self) -> None:
        """Close what is open: readers go with the configuration that they were made for."""
        self.close()

    def _title(self, name: str) -> Title:
        kept = self._kept.get(name)
        if kept is None:
            return self._first(name)
        try:
            data = os.pread(kept.place, _TITLE_BYTES, 0)
        except ProcessLookupError:
            self._forget((name,))
            return self._first(name)
        if data and data == kept.data:
            return kept.title
        title = self._named(name, data)
        self._kept[name] = _Kept(kept.place, data, title)
        return title

    def _first(self, name: str) -> Title:
        place = os.open(f"{self._proc}{name}/cmdline", _READ_ONLY)
        is_kept = False
        try:
            data = os.read(place, _TITLE_BYTES)
            title = self._named(name, data)
            is_kept = len(self._kept) < self._most
        finally:
            if not is_kept:
                os.close(place)
        if is_kept:
            self._kept[name] = _Kept(place, data, title)
        return title

    def _named(self, name: str, data: bytes) -> Title:
        title = title_of(data)
        return Title(int(name), title or f"[{title_of(_read(f'{self._proc}{name}/comm'))}]")

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            os.close(self._kept.pop(name).place)


def _read(path: str) -> bytes:
    place = os.open(path, _READ_ONLY)
    try:
        return os.read(place, _TITLE_BYTES)
    finally:
        os.close(place)
