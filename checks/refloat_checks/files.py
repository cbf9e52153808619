# SPDX-License-Identifier: Apache-2.0
"""Check a file: that it is there (or not), of the right type, owner and mode, fresh, and can be read or written."""

import errno
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from refloat_checks.amounts import Size, least_size_kb, size_text
from refloat_checks.api import AbsolutePath, Finding, Limits, failed, passed, unknown
from refloat_checks.facts import Facts
from refloat_checks.probes import FileStat


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


class FileLimits(Limits):
    """What must be true of a path. Links are followed, but for `is_a = "symlink"`.

    ```toml
    [[check]]
    name = "munge-key"
    type = "file"
    path = "/etc/munge/munge.key"
    is_a = "file"
    mode = "0400"
    owner = "munge"
    ```
    """

    path: AbsolutePath = Field(description="The file.")
    exists: bool = Field(default=True, description="false: there must be nothing there.")
    is_a: FileType | None = Field(None, description="Its type.")
    mode: Annotated[str, BeforeValidator(_octal)] | None = Field(None, description='Its exact mode, as in `"0644"`.')
    owner: str | None = Field(None, description="Its owner, by name or number.")
    min_size: Size | None = Field(None, description='Its least size, as in `"1"` (bytes) or `"10M"`; no percentage.')
    max_age_s: float | None = Field(None, gt=0, description="It must have been written within so many seconds.")
    readable: bool = Field(
        default=False, description="true: it is really read (its first byte; a directory's first entry)."
    )
    writable: bool = Field(
        default=False,
        description="true: for a directory only; a file is really written, synced, read back and removed there.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        tests = (self.is_a, self.mode, self.owner, self.min_size, self.max_age_s)
        if not self.exists and (self.readable or self.writable or any(test is not None for test in tests)):
            raise ValueError("a file that must not exist (exists = false) has nothing else to test")
        if self.min_size is not None and self.min_size.endswith("%"):
            raise ValueError("min_size of a file cannot be a percentage")
        return self


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What was seen of a path. `stat` None: nothing is there. Errors: why reading or writing failed, or nothing."""

    stat: FileStat | None
    read_error: str = ""
    write_error: str = ""


def judge(seen: FileFacts, limits: FileLimits, uid: int | None, name: str) -> Finding:
    """Compare what was seen with what is asked for; `uid` is the number of `limits.owner`."""
    if seen.stat is None:
        message = f"{limits.path} does not exist"
        return failed(name, message) if limits.exists else passed(name, message)
    if not limits.exists:
        return failed(name, f"{limits.path} exists, and should not")
    wrong = [*_of_type(seen.stat, limits), *_of_owner(seen.stat, limits, uid), *_of_content(seen.stat, limits)]
    if seen.read_error:
        wrong.append(f"cannot be read: {seen.read_error}")
    if seen.write_error:
        wrong.append(f"cannot be written: {seen.write_error}")
    if wrong:
        return failed(name, f"{limits.path} {', and '.join(wrong)}", size_bytes=seen.stat.size)
    return passed(name, f"{limits.path} is as it should be", size_bytes=seen.stat.size)


def _of_type(stat: FileStat, limits: FileLimits) -> list[str]:
    fits = limits.is_a is None or stat.type == limits.is_a
    return [] if fits else [f"is a {stat.type} (should be a {limits.is_a})"]


def _of_owner(stat: FileStat, limits: FileLimits, uid: int | None) -> list[str]:
    wrong = []
    if limits.mode is not None and stat.mode != int(limits.mode, 8):
        wrong.append(f"has mode {stat.mode:04o} (should be {int(limits.mode, 8):04o})")
    if uid is not None and stat.uid != uid:
        wrong.append(f"belongs to uid {stat.uid} (should be {limits.owner})")
    return wrong


def _of_content(stat: FileStat, limits: FileLimits) -> list[str]:
    wrong = []
    if limits.min_size is not None and stat.size < 1024 * least_size_kb(limits.min_size, 0):
        wrong.append(f"has {size_text(stat.size / 1024)} (limit {limits.min_size})")
    if limits.max_age_s is not None and stat.age_s > limits.max_age_s:
        wrong.append(f"was last written {stat.age_s:.0f} s ago (limit {limits.max_age_s:g} s)")
    return wrong


async def look(facts: Facts, limits: FileLimits, name: str) -> Finding:
    """Look at the file, through a helper that may hang."""
    try:
        uid = None if limits.owner is None else await facts.uid(limits.owner)
    except OSError as error:
        return unknown(name, f"user {limits.owner} cannot be looked up: {error.strerror}")
    try:
        stat = await facts.stat(limits.path, follow=limits.is_a is not FileType.SYMLINK)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return judge(FileFacts(None), limits, uid, name)
        return unknown(name, f"{limits.path} cannot be looked at: {_why(error)}")
    return judge(await _try(facts, limits, stat), limits, uid, name)


async def _try(facts: Facts, limits: FileLimits, stat: FileStat) -> FileFacts:
    read_error = write_error = ""
    if limits.readable:
        try:
            await facts.try_read(limits.path, directory=stat.type == FileType.DIRECTORY)
        except OSError as error:
            read_error = _why(error)
    if limits.writable:
        try:
            await facts.try_write(limits.path)
        except OSError as error:
            write_error = _why(error)
    return FileFacts(stat, read_error, write_error)


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
