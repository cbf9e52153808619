# SPDX-License-Identifier: Apache-2.0
"""The records of the kernel log: their form, and patterns for them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_ESCAPE: Final = re.compile(rb"\\x([0-9a-f]{2})")
_LEVELS: Final = 8
# The kernel's own limit of a record (LOG_LINE_MAX); it bounds what a bad pattern costs, too.
_MOST: Final = 1024


@dataclass(frozen=True, slots=True)
class Record:
    """One record of /dev/kmsg; `at_s` is on the kernel's own clock, which begins with the boot."""

    priority: int
    sequence: int
    at_s: float
    message: str
    fields: Mapping[str, str]

    @property
    def is_from_kernel(self) -> bool:
        """False for what a program wrote into /dev/kmsg: the kernel never gives that its own facility, 0."""
        return self.priority < _LEVELS


def parse_record(data: bytes) -> Record:
    r"""Parse a record (Documentation/ABI/testing/dev-kmsg): `prio,seq,usec,flags;message`, then ` KEY=value` lines.

    Raises ValueError for what is not of that form.
    """
    head, semicolon, rest = data.partition(b";")
    if not semicolon:
        raise ValueError(f"not a record of the kernel log: {data[:80]!r}")
    priority, sequence, microseconds, *_ = head.split(b",")
    message, *lines = rest.rstrip(b"\n").split(b"\n")
    pairs = (_text(line[1:]).partition("=") for line in lines if line.startswith(b" "))
    fields = {key: value for key, _, value in pairs}
    return Record(int(priority), int(sequence), int(microseconds) / 1e6, _text(message)[:_MOST], fields)


def _text(data: bytes) -> str:
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), data).decode(errors="replace")


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern. Raises ValueError that says what is wrong with it, and where."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
