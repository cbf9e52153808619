# SPDX-License-Identifier: Apache-2.0
"""The system calls that Python does not offer yet: inotify(7), and a timerfd that tells when the clock is set."""

import ctypes
import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

# inotify(7).
IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4
IN_CLOSE_WRITE: Final = 0x8
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_UNMOUNT: Final = 0x2000
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x1000000
IN_DONT_FOLLOW: Final = 0x2000000
_EVENT: Final = struct.Struct("iIII")

# timerfd_create(2); the flags that files share have the same numbers as in open(2).
_CLOCK_REALTIME: Final = 0
_ABSOLUTE_AND_CANCEL_ON_SET: Final = 0x1 | 0x2
_ITIMERSPEC: Final = struct.Struct("llll")

_libc: Final = ctypes.CDLL(None, use_errno=True)


class InotifyEvent(NamedTuple):
    """What happened to which name in which watched directory; the name is empty for the directory itself."""

    watch: int
    mask: int
    name: str


def _checked(result: int, what: str = "") -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *([what] if what else []))
    return result


def inotify() -> int:
    """Open an inotify file that does not block. Raises OSError."""
    return _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def inotify_add(file: int, path: str, mask: int) -> int:
    """Watch a path; may block as long as its filesystem does. Raises OSError."""
    return _checked(_libc.inotify_add_watch(file, os.fsencode(path), ctypes.c_uint32(mask)), path)


def inotify_remove(file: int, watch: int) -> None:
    """Watch no longer; a watch that is gone already is no fault."""
    _libc.inotify_rm_watch(file, watch)


def inotify_events(data: bytes) -> Iterator[InotifyEvent]:
    """Split what was read from an inotify file."""
    at = 0
    while at < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield InotifyEvent(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0")))
        at += length


def clock_set_timer() -> int:
    """Open a timer whose reading fails with ECANCELED when the wall clock is set, and never ends. Raises OSError."""
    file = _checked(_libc.timerfd_create(_CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC))
    try:
        # As far off as systemd sets its own: the largest that all kernels take.
        far = _ITIMERSPEC.pack(0, 0, (1 << 31) - 1, 0)
        _checked(_libc.timerfd_settime(file, _ABSOLUTE_AND_CANCEL_ON_SET, far, None))
    except OSError:
        os.close(file)
        raise
    return file
