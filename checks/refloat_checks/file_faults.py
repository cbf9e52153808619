# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a file: its type, mode, owners, device numbers, size, times, or what may be done with it."""

from __future__ import annotations

import os

from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Final

    from refloat_checks.probed import Attributes


@record
class Seen:
    """A file's attributes, its owners' names where they are asked for, and which of `rwx` we may do."""

    attributes: Attributes
    user: str = ""
    group: str = ""
    access: str = ""


@record
class Wanted:
    """What must be true of a file; None is not compared. Numbers of owners are texts; times are in seconds.

    `written` is of the content, `changed` of owners and mode too: not before so many seconds ago, or before that.
    """

    type: str | None = None
    mode: int | None = None
    mode_has: int | None = None
    uid: str | None = None
    gid: str | None = None
    user: str | None = None
    group: str | None = None
    device: int | None = None
    major: int | None = None
    minor: int | None = None
    min_size: float | None = None
    written_within_s: float | None = None
    written_before_s: float | None = None
    changed_within_s: float | None = None
    changed_before_s: float | None = None
    unread: bool = False
    access: str = ""


@record
class Fault:
    """Which part of what is wanted is not so, by its name there, and what it is."""

    part: str
    seen: int | str


_EQUAL: Final[Mapping[str, Callable[[Seen], int | str]]] = {
    "type": lambda seen: seen.attributes.type,
    "mode": lambda seen: seen.attributes.mode,
    "uid": lambda seen: str(seen.attributes.uid),
    "gid": lambda seen: str(seen.attributes.gid),
    "user": lambda seen: seen.user,
    "group": lambda seen: seen.group,
    "device": lambda seen: seen.attributes.device,
    "major": lambda seen: os.major(seen.attributes.special),
    "minor": lambda seen: os.minor(seen.attributes.special),
}


def faults(seen: Seen, wanted: Wanted, now: float) -> Iterator[Fault]:
    """Tell all that is wrong; `now` in seconds since the epoch."""
    for part, value in _EQUAL.items():
        should_be = getattr(wanted, part)
        if should_be is not None and (is_so := value(seen)) != should_be:
            yield Fault(part, is_so)
    mode, size = seen.attributes.mode, seen.attributes.size
    if wanted.mode_has is not None and mode & wanted.mode_has != wanted.mode_has:
        yield Fault("mode_has", mode)
    if wanted.min_size is not None and size < wanted.min_size:
        yield Fault("min_size", size)
    yield from _of_times(seen.attributes, wanted, int(now))
    if not set(wanted.access) <= set(seen.access):
        yield Fault("access", seen.access)


def _of_times(found: Attributes, wanted: Wanted, now: int) -> Iterator[Fault]:
    for part, when, age_s, must_be_older in (
        ("written_within_s", found.mtime, wanted.written_within_s, False),
        ("written_before_s", found.mtime, wanted.written_before_s, True),
        ("changed_within_s", found.ctime, wanted.changed_within_s, False),
        ("changed_before_s", found.ctime, wanted.changed_before_s, True),
    ):
        # Whole seconds, as stat(1) prints them.
        if age_s is not None and (int(when) < now - age_s) is not must_be_older:
            yield Fault(part, now - int(when))
    if wanted.unread and found.mtime <= found.atime:
        yield Fault("unread", now - int(found.atime))
