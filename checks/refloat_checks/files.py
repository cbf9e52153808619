# SPDX-License-Identifier: Apache-2.0
"""Check a file: what it is, whose, how old, what may be done with it, and what stands in it."""

import errno
import os
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, Field, model_validator

from refloat_checks.amounts import Kilobytes, least_size_kb, size_text
from refloat_checks.api import AbsolutePath, Finding, Limits, failed, passed, unknown
from refloat_checks.facts import Facts
from refloat_checks.file_faults import Fault, Seen, Wanted, faults
from refloat_checks.lines import Compared, compare
from refloat_checks.nhc.checks.file_contents import CAP_BYTES, lines
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.probed import Attributes, Examination
from refloat_checks.wakes import FileChange, Wake

_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


class FileType(StrEnum):
    """What a path can be."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    SOCKET = "socket"
    FIFO = "fifo"
    BLOCK = "block"
    CHAR = "char"


def _octal(value: object) -> str:
    text = str(value)
    if isinstance(value, int) or not 1 <= len(text) <= 5 or not set(text) <= set("01234567"):  # noqa: PLR2004
        raise ValueError('a mode is written as an octal string, as in "0644"')
    return text


Mode = Annotated[str, BeforeValidator(_octal)]


class FileLimits(Limits):
    """What must be true of a path. Links are followed, but for `is_a = "symlink"` and `follow = false`.

    ```toml
    [[check]]
    name = "munge-key"
    type = "file"
    path = "/etc/munge/munge.key"
    is_a = "file"
    mode = "0400"
    owner = "munge"

    [[check]]
    name = "access-control"
    type = "file"
    path = "/etc/security/access.conf"
    lines = ["-:ALL EXCEPT root*", "!+:ALL:ALL"]
    ```
    """

    path: AbsolutePath = Field(description="The file.")
    exists: bool = Field(default=True, description="false: there must be nothing there.")
    is_a: FileType | None = Field(None, description="Its type.")
    follow: bool = Field(default=True, description="false: a link itself is looked at, not what it leads to.")
    mode: Mode | None = Field(None, description='Its exact mode, as in `"0644"`.')
    mode_has: Mode | None = Field(None, description='Bits of the mode that must be set, as in `"4000"` (setuid).')
    owner: str | None = Field(None, description="Its owner, by name or number.")
    group: str | None = Field(None, description="Its group, by name or number.")
    min_size: Kilobytes | None = Field(None, description='Its least size, as in `"1"` (bytes) or `"10M"`.')
    max_age_s: float | None = Field(None, gt=0, description="It must have been written within so many seconds.")
    min_age_s: float | None = Field(None, gt=0, description="It must not have been written within so many seconds.")
    changed_within_s: float | None = Field(
        None, gt=0, description="Its content, owners or mode must have changed within so many seconds."
    )
    changed_before_s: float | None = Field(
        None, gt=0, description="None of these must have changed within so many seconds."
    )
    unread: bool = Field(default=False, description="true: nobody must have read it since it was written.")
    device: int | None = Field(None, ge=0, description="Number of the device that its filesystem is on (stat's `%d`).")
    major: int | None = Field(None, ge=0, description="Major number of the device that it is.")
    minor: int | None = Field(None, ge=0, description="Minor number of the device that it is.")
    access: str = Field(
        "",
        pattern=r"^r?w?x?$",
        description='What its mode and owners must allow to us, as in `"rx"`; as root nearly all.',
    )
    readable: bool = Field(
        default=False, description="true: it is really read (its first byte; a directory's first entry)."
    )
    writable: bool = Field(
        default=False,
        description="true: for a directory only; a file is really written, synced, read back and removed there.",
    )
    lines: tuple[MatchString, ...] = Field(
        (), description="Match strings: some line must match each, and with `!` before it none may."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        tested = {key for key in self.model_fields_set if getattr(self, key) != type(self).model_fields[key].default}
        if not self.exists and tested - {"path", "exists", "follow"}:
            raise ValueError("a file that must not exist (exists = false) has nothing else to test")
        return self

    @property
    def is_followed(self) -> bool:
        """Whether what a link leads to is meant, and not the link."""
        return self.follow and self.is_a is not FileType.SYMLINK


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What was seen of a path. `seen` None: nothing is there. Errors: why reading or writing failed, or nothing."""

    seen: Seen | None
    read_error: str = ""
    write_error: str = ""
    compared: Compared = field(default_factory=Compared)


def judge(found: FileFacts, limits: FileLimits, uid: int | None, name: str, now: float) -> Finding:
    """Compare what was seen with what is asked for; `uid` is the number of `limits.owner`."""
    if found.seen is None:
        message = f"{limits.path} does not exist"
        return failed(name, message) if limits.exists else passed(name, message)
    if not limits.exists:
        return failed(name, f"{limits.path} exists, and should not")
    wrong = [_said(fault, limits) for fault in faults(found.seen, _wanted(limits, uid), now)]
    if found.read_error:
        wrong.append(f"cannot be read: {found.read_error}")
    if found.write_error:
        wrong.append(f"cannot be written: {found.write_error}")
    wrong += _of_lines(found.compared, limits)
    size_bytes = found.seen.attributes.size
    if wrong:
        return failed(name, f"{limits.path} {', and '.join(wrong)}", size_bytes=size_bytes)
    return passed(name, f"{limits.path} is as it should be", size_bytes=size_bytes)


def _wanted(limits: FileLimits, uid: int | None) -> Wanted:
    number = limits.group is not None and limits.group.isdigit()
    return Wanted(
        type=limits.is_a,
        mode=_bits(limits.mode),
        mode_has=_bits(limits.mode_has),
        uid=None if uid is None else str(uid),
        gid=limits.group if number else None,
        group=None if number else limits.group,
        device=limits.device,
        major=limits.major,
        minor=limits.minor,
        min_size=None if limits.min_size is None else 1024 * least_size_kb(limits.min_size, 0),
        written_within_s=limits.max_age_s,
        written_before_s=limits.min_age_s,
        changed_within_s=limits.changed_within_s,
        changed_before_s=limits.changed_before_s,
        unread=limits.unread,
        access=limits.access,
    )


def _bits(mode: str | None) -> int | None:
    return None if mode is None else int(mode, 8)


def _said(fault: Fault, limits: FileLimits) -> str:
    seen = fault.seen
    match fault.part:
        case "type":
            return f"is a {seen} (should be a {limits.is_a})"
        case "mode":
            return f"has mode {seen:04o} (should be {_bits(limits.mode):04o})"
        case "mode_has":
            return f"has mode {seen:04o} (should have {_bits(limits.mode_has):04o})"
        case "uid":
            return f"belongs to uid {seen} (should be {limits.owner})"
        case "gid" | "group":
            return f"belongs to group {seen} (should be {limits.group})"
        case "device" | "major" | "minor":
            return f"has {fault.part} number {seen} (should be {getattr(limits, fault.part)})"
        case "min_size":
            return f"has {size_text(float(seen) / 1024)} (limit {limits.min_size})"
        case "access":
            return f"allows us {seen or 'nothing'} (should be {limits.access})"
        case _:
            return _said_of_time(fault, limits)


def _said_of_time(fault: Fault, limits: FileLimits) -> str:
    match fault.part:
        case "written_within_s":
            return f"was last written {fault.seen} s ago (limit {limits.max_age_s:g} s)"
        case "written_before_s":
            return f"was written {fault.seen} s ago (not within {limits.min_age_s:g} s)"
        case "changed_within_s":
            return f"last changed {fault.seen} s ago (limit {limits.changed_within_s:g} s)"
        case "changed_before_s":
            return f"changed {fault.seen} s ago (not within {limits.changed_before_s:g} s)"
        case _:
            return f"was read {fault.seen} s ago, after it was written"


def _of_lines(compared: Compared, limits: FileLimits) -> list[str]:
    if compared.unwanted is not None:
        pattern = limits.lines[compared.unwanted.place][1:]
        return [f"has line {compared.unwanted.number}, which is like {pattern} (should not)"]
    return [f"has no line like {limits.lines[place]}" for place in compared.missing]


def wakes(limits: FileLimits) -> tuple[Wake, ...]:
    """Tell what wakes it: the file."""
    return (FileChange(limits.path),)


async def look(facts: Facts, limits: FileLimits, name: str) -> Finding:
    """Look at the file, through a helper that may hang."""
    try:
        uid = None if limits.owner is None else await facts.uid(limits.owner)
    except OSError as error:
        return unknown(name, f"user {limits.owner} cannot be looked up: {error.strerror}")
    examined = await facts.examine(limits.path)
    attributes = examined.target if limits.is_followed else examined.itself
    now = time.time()
    if attributes is None:
        if examined.errno in _ABSENT:
            return judge(FileFacts(None), limits, uid, name, now)
        return unknown(name, f"{limits.path} cannot be looked at: {os.strerror(examined.errno)}")
    try:
        compared = await _compared(facts, limits)
    except OSError as error:
        return unknown(name, f"{limits.path} cannot be read: {_why(error)}")
    return judge(await _try(facts, limits, examined, attributes, compared), limits, uid, name, now)


async def _compared(facts: Facts, limits: FileLimits) -> Compared:
    if not limits.lines:
        return Compared()
    data = await facts.content(limits.path, CAP_BYTES)
    if len(data) > CAP_BYTES:
        # What the rest of it holds nobody knows.
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return compare(lines(data.decode(errors="surrogateescape")), limits.lines)


async def _try(
    facts: Facts, limits: FileLimits, examined: Examination, attributes: Attributes, compared: Compared
) -> FileFacts:
    read_error = write_error = ""
    if limits.readable:
        try:
            await facts.try_read(limits.path, directory=attributes.type == FileType.DIRECTORY)
        except OSError as error:
            read_error = _why(error)
    if limits.writable:
        try:
            await facts.try_write(limits.path)
        except OSError as error:
            write_error = _why(error)
    named = limits.group is not None and not limits.group.isdigit()
    group = await facts.group_name(attributes.gid) if named else ""
    return FileFacts(Seen(attributes, group=group, access=examined.access), read_error, write_error, compared)


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
