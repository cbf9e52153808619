# SPDX-License-Identifier: Apache-2.0
import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from refloat_agent.events.mount_table import MountTableSource
from refloat_checks.wakes import MountTable

from .conftest import Serve, Told


@pytest.fixture
async def namespace() -> AsyncIterator[int]:
    """A process in a mount namespace of its own."""
    if os.geteuid() != 0:
        pytest.skip("a mount namespace takes root")
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 60",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    if not await process.stdout.readline():
        pytest.skip("this kernel gives no mount namespace")
    yield process.pid
    process.kill()
    await process.wait()


async def run_in(namespace: int, *argv: str) -> None:
    entered = await asyncio.create_subprocess_exec("nsenter", f"--target={namespace}", "--mount", *argv)
    assert await entered.wait() == 0


async def test_it_tells_of_each_mount_remount_and_unmount(namespace: int, serving: Serve, tmp_path: Path) -> None:
    told = Told(MountTable())
    async with serving(MountTableSource(told.subscription, Path(f"/proc/{namespace}/mountinfo"))):
        for argv in (
            ("mount", "-t", "tmpfs", "none", str(tmp_path)),
            ("mount", "-o", "remount,ro", str(tmp_path)),
            ("umount", str(tmp_path)),
        ):
            assert told.counts.events == 0
            await run_in(namespace, *argv)

            assert await told.next() == {MountTable()}
            told.counts.events = 0


async def test_without_a_table_it_says_so(serving: Serve, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await MountTableSource(Told(MountTable()).subscription, tmp_path / "mountinfo").serve(lambda: None)
