# SPDX-License-Identifier: Apache-2.0
"""Run a program: an argv list, never a shell, with a deadline, its own process group and bounded output."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Final

from refloat_contract.errors import Refused, Transient
from refloat_service import affinity
from refloat_service.completed import LAUNCHER, OUTPUT_CAP_BYTES, Completed, as_run, require_program

_GRACE_S: Final = 1.0


async def run(
    argv: Sequence[str],
    *,
    deadline_s: float,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    cap_bytes: int = OUTPUT_CAP_BYTES,
    pinned: bool = True,
) -> Completed:
    """Run ``argv`` to its end, whatever its exit status.

    Past the deadline the whole process group is killed. A process in uninterruptible sleep cannot be killed: it is left
    alone then, and this call returns all the same. Not ``pinned``: on all processors, where we ourselves keep to some.

    Raises:
        Transient: the deadline passed, or the output was larger than ``cap_bytes``.
        Refused: the program does not exist or may not be run.
    """
    require_program(argv)
    started = time.monotonic()
    try:
        with contextlib.nullcontext() if pinned else affinity.as_before():
            process = await asyncio.create_subprocess_exec(
                *LAUNCHER,
                *argv,
                stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=dict(env) if env is not None else None,
                start_new_session=True,
            )
    except (OSError, ValueError) as error:
        raise Refused(f"cannot run {argv[0]}: {error}") from error
    try:
        async with asyncio.timeout(deadline_s):
            out, err = await _collect(process, stdin, cap_bytes)
    except TimeoutError as error:
        raise Transient(f"{argv[0]} did not end within {deadline_s:g} s; killed") from error
    finally:
        # Also when this task is cancelled: nothing that we started is left behind.
        if process.returncode is None:
            await _kill(process)
    done = Completed(
        tuple(argv),
        process.returncode if process.returncode is not None else -signal.SIGKILL,
        out.decode(errors="replace"),
        err.decode(errors="replace"),
        time.monotonic() - started,
    )
    return as_run(done)


async def _collect(process: asyncio.subprocess.Process, stdin: bytes | None, cap: int) -> tuple[bytes, bytes]:
    if process.stdout is None or process.stderr is None:
        raise AssertionError("the program was started with pipes")
    if process.stdin is not None and stdin is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(stdin)
            await process.stdin.drain()
        process.stdin.close()
    out, err = await asyncio.gather(_read(process.stdout, cap), _read(process.stderr, cap))
    await process.wait()
    return out, err


async def _read(stream: asyncio.StreamReader, cap: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while block := await stream.read(1 << 16):
        size += len(block)
        if size > cap:
            raise Transient(f"a program printed more than {cap} bytes; killed")
        parts.append(block)
    return b"".join(parts)


async def _kill(process: asyncio.subprocess.Process) -> None:
    try:
        for sig in (signal.SIGTERM, signal.SIGKILL):
            _signal(process, sig)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_S):
                    await process.wait()
                    return
    except asyncio.CancelledError:
        # Whoever waits for us cannot wait any longer; the rest of the group must not outlive us.
        _signal(process, signal.SIGKILL)
        raise


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
