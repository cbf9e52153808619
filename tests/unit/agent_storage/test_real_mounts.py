# SPDX-License-Identifier: Apache-2.0
"""Real mounts: mounted, probed, held by a real process, let go, detached."""

import asyncio
import ctypes
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from storage_node import proven

from refloat_agent.effects.mounts import NodeMounts, Pace
from refloat_agent.effects.storage.holders import HolderSearch
from refloat_agent.storage import Storage
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_contract.errors import GivenUp, Refused

Make = Callable[..., NodeMounts]


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A mount point. Root alone may mount, and only where the machine lets it."""
    place = tmp_path / "scratch"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.mount(b"refloat-test", bytes(place), b"tmpfs", 0, None) != 0:
        pytest.skip("needs root and the right to mount")
    libc.umount2(bytes(place), 0)
    yield place
    while libc.umount2(bytes(place), 2) == 0:  # MNT_DETACH
        pass


@pytest.fixture
async def make(scratch: Path) -> AsyncIterator[Make]:
    """Makes the adapter for a real tmpfs."""
    pool = ProbePool()

    def storage(**changes: Any) -> NodeMounts:
        keys = {
            "name": "scratch",
            "path": str(scratch),
            "mount": [["mount", "-t", "tmpfs", "scratch0", str(scratch)]],
            "unmount": [["umount", str(scratch)]],
            "source": "scratch0",
            "probe": "write",
            "unmount_deadline_s": 0.5,
            **changes,
        }
        one = Storage.model_validate(keys)
        return NodeMounts((one,), Roots(), pool, HolderSearch(Roots()), Pace(again_s=0.05, watch_s=1.0))

    yield storage
    await pool.aclose()


@pytest.fixture
def holder(scratch: Path) -> Iterator[Callable[[], int]]:
    """Starts a process that works in the storage; gives its pid."""
    running: list[subprocess.Popen[bytes]] = []

    def start() -> int:
        wait = "import sys; print(flush=True); sys.stdin.read()"
        process = subprocess.Popen(
            [sys.executable, "-c", wait], cwd=scratch, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        running.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process.pid

    yield start
    for process in running:
        process.communicate()


async def test_a_real_filesystem_is_mounted_written_to_and_unmounted(make: Make, scratch: Path) -> None:
    mounts = make()
    await mounts.mount()
    (up,) = await mounts.state()
    left = await asyncio.to_thread(os.listdir, scratch)

    await mounts.unmount("c1", reboots=True, still=proven)
    (down,) = await mounts.state()

    assert (up.right, up.why, left) == (True, f"{scratch} is mounted from scratch0 (tmpfs)", [])
    assert (down.mounted, down.right) == (False, False)


async def test_a_read_only_filesystem_is_not_right(make: Make, scratch: Path) -> None:
    mount = [["mount", "-t", "tmpfs", "-o", "ro", "scratch0", str(scratch)]]
    mounts = make(mount=mount, mount_deadline_s=0.1)
    with pytest.raises(Refused, match="cannot write"):
        await mounts.mount()

    (found,) = await mounts.state()

    assert (found.right, found.why) == (False, f"{scratch}: cannot write {scratch}: Read-only file system")


async def test_a_real_process_keeps_it_and_is_named(make: Make, scratch: Path, holder: Callable[[], int]) -> None:
    mounts = make()
    await mounts.mount()
    pid = await asyncio.to_thread(holder)

    with pytest.raises(GivenUp, match=rf"^unmount {scratch} busy: pid {pid} python\S* uid 0$"):
        await mounts.unmount("c1", reboots=True, still=proven)

    assert await asyncio.to_thread(os.path.ismount, scratch)


async def test_lazy_takes_it_from_sight_and_from_no_one_who_uses_it(
    make: Make, scratch: Path, holder: Callable[[], int]
) -> None:
    mounts = make(busy="lazy")
    await mounts.mount()
    pid = await asyncio.to_thread(holder)

    await mounts.unmount("c1", reboots=True, still=proven)
    (found,) = await mounts.state()

    assert (found.mounted, await asyncio.to_thread(os.path.ismount, scratch)) == (False, False)
    assert (await asyncio.to_thread(os.statvfs, f"/proc/{pid}/cwd")).f_bsize > 0
