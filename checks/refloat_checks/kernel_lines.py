# SPDX-License-Identifier: Apache-2.0
"""The records of the kernel log: their form, and patterns for them.

A record (Documentation/ABI/testing/dev-kmsg) is `priority,number,microseconds,flags;message`, then lines of
`KEY=value`, each behind a blank. Ten thousand a second may come, so nothing is parsed that is not asked for.
"""

import errno
import re
from functools import lru_cache
from typing import Final

_ESCAPE: Final = re.compile(rb"\\x([0-9a-f]{2})")
_BACKSLASH: Final = 0x5C
# The kernel's own limit of a record (LOG_LINE_MAX); it bounds what a bad pattern costs, too.
_MOST: Final = 1024


def is_from_kernel(record: bytes) -> bool:
    """False for what a program wrote into /dev/kmsg: the kernel never gives that its own facility, 0."""
    # The priority is the level, 0 to 7, and eight times the facility: one digit.
    return record[1:2] == b","


def number(record: bytes) -> int:
    """Its number, which is one more than that of the record before it; raises OSError for what is no record."""
    return _head(record, 1)


def logged_at_s(record: bytes) -> float:
    """When it was logged, on the kernel's own clock, which begins with the boot; raises OSError like `number`."""
    return _head(record, 2) / 1e6


def _head(record: bytes, place: int) -> int:
    try:
        return int(record.split(b",", 3)[place])
    except (IndexError, ValueError) as error:
        raise OSError(errno.EBADMSG, f"not a record of the kernel log: {record[:80]!r}") from error


def message(record: bytes) -> str:
    """Its text, without the kernel's escapes."""
    text = record.partition(b";")[2].partition(b"\n")[0]
    if b"\\x" in text:
        text = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text)
    return text.decode("utf-8", "replace")[:_MOST]


def written(text: str) -> bytes:
    """A text as it stands in a record: with the kernel's escapes."""
    plain = range(0x20, 0x7F)
    return b"".join(
        bytes([each]) if each in plain and each != _BACKSLASH else b"\\x%02x" % each for each in text.encode()
    )


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern. Raises ValueError that says what is wrong with it, and where."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
