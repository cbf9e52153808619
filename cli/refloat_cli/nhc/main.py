# SPDX-License-Identifier: Apache-2.0
"""`nhc`: drop-in for the Node Health Check, so that `HealthCheckProgram=/usr/sbin/nhc` keeps working.

The work is done in a child; the parent only waits. Whatever hangs, and be it in the kernel, this program answers.
"""

# ruff: noqa: PLC0415 - what is not run is not imported: this starts on every node, all day

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, NoReturn

    from refloat_cli.nhc.options import Asked

TIMED_OUT: Final = 142
BAD_USAGE: Final = 10
GRACE_S: Final = 12.0  # for two questions to slurmctld, after the checks' own deadline
MOST_S: Final = 57.0  # slurmd kills HealthCheckProgram after 60 s
_TOGGLES: Final = (signal.SIGUSR1, signal.SIGUSR2)
_SIGNALS: Final = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}


def main() -> NoReturn:
    """Run the command."""
    gc.disable()  # what ends in a moment leaves no garbage that matters
    from refloat_cli.nhc import options

    try:
        asked = options.parse(sys.argv[1:])
    except options.BadUsage as error:
        sys.stdout.write(options.HELP)
        sys.stderr.write(f"nhc:  ERROR:  {error}\n")
        sys.exit(BAD_USAGE)
    if asked.help:
        sys.stdout.write(options.HELP)
        sys.exit(0)
    given = asked.variables.get("TIMEOUT", "")
    limit_s = float(given) + GRACE_S if given.isdecimal() and int(given) else MOST_S
    sys.exit(guarded(lambda: _run(asked), limit_s))


def _run(asked: Asked) -> int:
    from refloat_cli.nhc import running

    return running.run(asked)


def guarded(work: Callable[[], int], limit_s: float) -> int:
    """Do the work in a child and give its exit status; past the limit kill it with all that it started.

    A child in uninterruptible sleep cannot be killed, and is not waited for either.
    """
    for number in _TOGGLES:
        # Before the child is there: what such a signal does by itself is to end the program.
        signal.signal(number, _ignore)
    child = os.fork()
    if child == 0:
        _work(work)
    handle = os.pidfd_open(child)
    told: list[int] = []
    for number in _SIGNALS:
        signal.signal(number, lambda number, _: told.append(number))
    for number in _TOGGLES:
        signal.signal(number, lambda number, _: _pass_on(handle, number))
    if _ends(handle, told, time.monotonic() + limit_s):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _kill_group(child)
    if told:
        sys.stdout.write(f"ERROR:  nhc:  Terminated by signal {signal.Signals(told[0]).name}.\n")
        return _SIGNALS[signal.Signals(told[0])]
    sys.stdout.write(f"ERROR:  nhc:  Not done within {limit_s:g} s; the node's state is left as it is.\n")
    return TIMED_OUT


def _ends(handle: int, told: list[int], until_s: float) -> bool:
    """Wait for the child's end: False where time or a signal came first."""
    waker, written = os.pipe()
    for end in (waker, written):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(written)
    while not told:
        ready, _, _ = select.select([handle, waker], [], [], max(0.0, until_s - time.monotonic()))
        if handle in ready:
            return True
        if not ready:
            break
        os.read(waker, 1)
    return False


def _ignore(_: int, __: object) -> None:
    """Go on. Not SIG_IGN, which all programs that are started would inherit."""


def _pass_on(handle: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return  # it has just ended


def _work(work: Callable[[], int]) -> NoReturn:
    os.setsid()
    status = 1
    try:
        status = work()
    except Exception as error:  # noqa: BLE001 - the end of the process: told as the interpreter would
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Threads that hang must not keep the process, nor may whatever stands on the parent's stack be run twice.
        os._exit(status if 0 <= status <= 255 else 1)  # noqa: PLR2004 - an exit status


def _kill_group(child: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child, number)
        except ProcessLookupError:
            return
        time.sleep(0.05)
