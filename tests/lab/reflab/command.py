# SPDX-License-Identifier: Apache-2.0
"""Runs commands: argv lists only, each in a session of its own, each with a deadline."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from reflab.errors import Failed, TimedOut

Completed = subprocess.CompletedProcess[str]

TAIL_LINES = 15
SLICE_S = 0.1
REAP_S = 1.0


def run(
    argv: Sequence[str],
    *,
    timeout_s: float = 60.0,
    check: bool = True,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> Completed:
    """Run `argv` and return what it printed; raise `Failed` on a bad code if `check`, `TimedOut` past the deadline."""
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=env,
        start_new_session=True,
    ) as process:
        try:
            out, err = _communicate(process, stdin, time.monotonic() + timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            raise TimedOut(f"{_shown(argv)}: no end after {timeout_s:g} s") from None
        except BaseException:
            _end(process)
            raise
    if check and process.returncode:
        raise Failed(_complaint(argv, process.returncode, err or out))
    return subprocess.CompletedProcess(list(argv), process.returncode, out, err)


def run_attached(argv: Sequence[str]) -> int:
    """Run `argv` on our own terminal and return its code."""
    with subprocess.Popen(argv) as process:
        while True:
            try:
                return process.wait(SLICE_S)
            except subprocess.TimeoutExpired:
                _continue_if_stopped(process.pid)


def run_logged(argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None) -> None:
    """Run a long `argv` with its output appended to `log`; raise `Failed` with the log's end."""
    with log.open("ab") as sink:
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, check=False).returncode
    if code:
        raise Failed(_complaint(argv, code, log.read_text(errors="replace")) + f"\n(all of it: {log})")


def say(line: str) -> None:
    """Print one progress line at once, also into a pipe."""
    sys.stdout.write(f"lab: {line}\n")
    sys.stdout.flush()


@contextmanager
def step(what: str) -> Iterator[None]:
    """Announce something that takes longer than two seconds, and say how long it took."""
    say(f"{what} ...")
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.1f} s")


def _communicate(process: subprocess.Popen[str], stdin: str, until: float) -> tuple[str, str]:
    """Talk to `process` until it ends; raise `TimeoutExpired` at the time `until`."""
    given: str | None = stdin
    while True:
        try:
            return process.communicate(given, timeout=min(SLICE_S, max(0.0, until - time.monotonic())))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= until:
                raise
            given = None  # what was given the first time is still being sent
            _continue_if_stopped(process.pid)


def _continue_if_stopped(pid: int) -> None:
    """Wake an nsenter that stopped itself.

    A container that shuts down stops all its processes, then ends and continues them. An nsenter
    whose child stops does the same, but nobody in the container can continue it: it would never
    reap its child, and the shutdown would wait 90 s for that.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            os.kill(pid, signal.SIGCONT)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill `process` and all of its session.

    Its children first: nsenter's child is in the container, and if nobody reaps it, it stays there
    as a zombie that the container's shutdown waits for.
    """
    with suppress(OSError):
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(REAP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _complaint(argv: Sequence[str], code: int, output: str) -> str:
    tail = "\n".join(output.strip().splitlines()[-TAIL_LINES:])
    return f"{_shown(argv)}: code {code}\n{tail}"


def _shown(argv: Sequence[str]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 200 else text[:197] + "..."
