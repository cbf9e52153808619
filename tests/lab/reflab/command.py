# SPDX-License-Identifier: Apache-2.0
"""Runs commands: argv lists only, each in a session of its own, each with a deadline."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reflab.errors import Failed, TimedOut

Completed = subprocess.CompletedProcess[str]

TAIL_LINES = 15


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
            out, err = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            message = f"{_shown(argv)}: no end after {timeout_s:g} s"
            raise TimedOut(message) from None
        except BaseException:
            _end(process)
            raise
    if check and process.returncode:
        raise Failed(_complaint(argv, process.returncode, err or out))
    return subprocess.CompletedProcess(list(argv), process.returncode, out, err)


def run_logged(argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None) -> None:
    """Run a long `argv` with its output appended to `log`; raise `Failed` with the log's end."""
    with log.open("ab") as sink:
        code = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, check=False
        ).returncode
    if code:
        raise Failed(_complaint(argv, code, log.read_text(errors="replace")) + f"\n(all of it: {log})")


def say(line: str) -> None:
    """Print one progress line at once, also into a pipe."""
    print(f"lab: {line}", flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Announce something that takes longer than two seconds, and say how long it took."""
    say(f"{what} ...")
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.1f} s")


def _end(process: subprocess.Popen[str]) -> None:
    # nsenter forks into the container's pid namespace: killing it alone would leave the child
    # with our pipes open, so the whole session goes.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def _complaint(argv: Sequence[str], code: int, output: str) -> str:
    tail = "\n".join(output.strip().splitlines()[-TAIL_LINES:])
    return f"{_shown(argv)}: code {code}\n{tail}"


def _shown(argv: Sequence[str]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 200 else text[:197] + "..."
