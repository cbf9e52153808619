# SPDX-License-Identifier: Apache-2.0
"""Starts a process whose uptime begins at zero.

slurmd reports the uptime that it reads. Without a time namespace per boot that is the host's, and
slurmctld never sees a reboot. unshare(1) can set whole seconds only, which puts the boot time up
to a second early; slurmctld ignores a boot that seems older than the node's last word.
"""

import ctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path

CLONE_NEWTIME = 0x80
NS_PER_S = 1_000_000_000
OFFSETS = Path("/proc/self/timens_offsets")
EXEC_FAILED = 127


def run_from_zero(argv: Sequence[str], output: Path) -> int:
    """Run `argv` in a new time namespace, output appended to `output`; return its code, 128 + N after signal N."""
    _enter_new_time()
    # fork itself: vfork, which subprocess prefers, shares memory and may not enter a time namespace.
    pid = os.fork()
    if pid == 0:
        _become(argv, output)
    _pid, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _enter_new_time() -> None:
    """Give the children to come clocks that start now; our own go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWTIME) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare(CLONE_NEWTIME)")
    clocks = {"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME}
    lines = [_offset(name, time.clock_gettime_ns(clock)) for name, clock in clocks.items()]
    OFFSETS.write_text("\n".join(lines) + "\n")


def _offset(name: str, now_ns: int) -> str:
    # Negative offsets, too, have nanoseconds that count upward: floor division does that.
    seconds, nanoseconds = divmod(-now_ns, NS_PER_S)
    return f"{name} {seconds} {nanoseconds}"


def _become(argv: Sequence[str], output: Path) -> None:
    """Be `argv`, in the forked child; never return."""
    try:
        source = os.open(os.devnull, os.O_RDONLY)
        sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for wanted, descriptor in enumerate((source, sink, sink)):
            os.dup2(descriptor, wanted)
        os.execvp(argv[0], list(argv))  # noqa: S606 - an argv list, no shell
    finally:
        os._exit(EXEC_FAILED)
