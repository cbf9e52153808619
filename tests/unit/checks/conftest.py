# SPDX-License-Identifier: Apache-2.0
"""Fixture trees of /proc and /sys, and a pool whose helpers are gone after each test."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from refloat_checks.facts import Facts, source
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots

MOUNTINFO = """\
22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/l
23 22 0:21 / /proc rw,nosuid shared:2 - proc proc rw
30 22 8:1 / /scratch\\040one rw,relatime shared:3 master:4 - ext4 /dev/sdb1 ro,errors=remount-ro
31 22 0:44 / /lustre rw,nosuid - lustre 10.0.0.1@o2ib:/scratch rw,flock
32 31 0:45 / /lustre rw,nodev - tmpfs tmpfs rw,size=1k
"""


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """An empty system with a mount table."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "mountinfo").write_text(MOUNTINFO)
    (tmp_path / "sys" / "class" / "net").mkdir(parents=True)
    return Roots(tmp_path / "proc", tmp_path / "sys")


@pytest.fixture
def add_process(roots: Roots) -> Callable[..., None]:
    """Add a process to the fixture tree."""

    def add(pid: int, comm: str, cmdline: bytes = b"", ppid: int = 1, uid: int = 0, state: str = "S") -> None:
        place = roots.proc / str(pid)
        place.mkdir()
        (place / "stat").write_text(f"{pid} ({comm}) {state} {ppid} 1 1 0 -1 4194560\n")
        (place / "cmdline").write_bytes(cmdline)
        (place / "status").write_text(f"Name:\t{comm}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t0\n")

    return add


@pytest.fixture
def add_sys(roots: Roots) -> Callable[[dict[str, str]], None]:
    """Add files to the fixture's /sys, by their paths there."""

    def add(files: dict[str, str]) -> None:
        for name, text in files.items():
            (roots.sys / name).parent.mkdir(parents=True, exist_ok=True)
            (roots.sys / name).write_text(text)

    return add


@pytest.fixture
def add_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Add a program to PATH that says what a test has it say; its calls are lines of the file that is given back."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def add(name: str, says: str = "", status: int = 0, then: str = ":") -> Path:
        (folder / f"{name}.said").write_text(says)
        calls = tmp_path / f"{name}.calls"
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "$*" >>{calls}\ncat {folder}/{name}.said\n{then}\nexit {status}\n')
        program.chmod(0o755)
        return calls

    return add


@pytest.fixture
async def pool() -> AsyncIterator[ProbePool]:
    """A pool of real helpers."""
    pool = ProbePool()
    yield pool
    await pool.aclose()


@pytest.fixture
def facts(roots: Roots, pool: ProbePool) -> Facts:
    """The facts of one pass over the fixture tree."""
    return source(roots, pool)()
