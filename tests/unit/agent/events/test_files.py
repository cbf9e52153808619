# SPDX-License-Identifier: Apache-2.0
import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from refloat_agent.events import files
from refloat_agent.events.files import PathSource, cgroup_source, file_source
from refloat_checks.proc import Mount, Roots
from refloat_checks.wakes import CgroupEmpty, FileChange
from refloat_contract.errors import Transient

from .conftest import Serve, Told


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "REARM_S", 0.01)


async def settle(source: PathSource[FileChange], told: Told) -> None:
    """Let all be read that was told by now."""
    await asyncio.sleep(0.15)
    told.wakes.clear()


def replace(key: Path) -> None:
    new = key.with_suffix(".new")
    new.write_text("another")
    new.rename(key)


CHANGES: list[Callable[[Path], object]] = [
    lambda key: key.write_text("other"),
    lambda key: key.chmod(0o600),
    lambda key: os.chown(key, 12345, -1),
    lambda key: key.unlink(),
    replace,
    lambda key: key.rename(key.with_name("elsewhere")),
    lambda key: key.parent.rename(key.parent.with_name("elsewhere")),
]


@pytest.mark.parametrize("change", CHANGES)
async def test_it_tells_of_each_change_to_a_file(
    tmp_path: Path, serving: Serve, change: Callable[[Path], object]
) -> None:
    key = tmp_path / "munge/key"
    key.parent.mkdir()
    key.write_text("secret")
    told = Told(FileChange(str(key)), FileChange("/etc/passwd"))
    async with serving(file_source(told.subscription, Roots())):
        try:
            change(key)
        except PermissionError as error:
            pytest.skip(str(error))

        assert FileChange(str(key)) in await told.next()


async def test_other_files_beside_it_wake_nobody(tmp_path: Path, serving: Serve) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    told = Told(FileChange(str(key)), FileChange(str(other)))
    async with serving(file_source(told.subscription, Roots())):
        for number in range(100):
            (tmp_path / f"noise{number}").touch()
        other.touch()

        assert FileChange(str(other)) in await told.next()
        assert told.counts.events >= 100


async def test_a_path_that_comes_into_being_step_by_step_is_followed(tmp_path: Path, serving: Serve) -> None:
    key = tmp_path / "a/b/key"
    told = Told(FileChange(str(key)))
    source = file_source(told.subscription, Roots())
    async with serving(source):
        steps: tuple[Callable[[], None], ...] = (key.parent.parent.mkdir, key.parent.mkdir, key.touch)
        for step in steps:
            step()
            await told.next()
            await settle(source, told)
        key.unlink()

        assert await told.next() == {FileChange(str(key))}


async def test_a_link_that_is_turned_elsewhere_is_followed(tmp_path: Path, serving: Serve) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").touch()
    (tmp_path / "current").symlink_to("old")
    told = Told(FileChange(f"{tmp_path}/current/key"))
    source = file_source(told.subscription, Roots())
    async with serving(source):
        (tmp_path / "next").symlink_to("new")
        (tmp_path / "next").rename(tmp_path / "current")
        await told.next()
        await settle(source, told)
        (tmp_path / "old/key").unlink()
        (tmp_path / "new/key").write_text("written")

        assert await told.next() == told_of(told)


def told_of(told: Told) -> set[FileChange]:
    return {wake for wake in told.subscription.wakes if isinstance(wake, FileChange)}


async def test_what_is_on_a_filesystem_that_may_hang_is_left_to_its_interval(
    tmp_path: Path, serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    local = FileChange(str(tmp_path / "key"))
    remote = FileChange(str(tmp_path / "home/key"))
    mounts = (
        Mount("/", "/dev/sda1", "ext4", frozenset()),
        Mount(str(tmp_path / "home"), "server:/home", "nfs4", frozenset()),
    )
    monkeypatch.setattr(files, "read_mounts", lambda _: mounts)
    told = Told(local, remote)
    async with serving(file_source(told.subscription, Roots())):
        assert told.left_out == {remote: f"{tmp_path}/home is on a filesystem that may hang (nfs4)"}
        (tmp_path / "home/key").touch()
        (tmp_path / "key").touch()

        assert local in await told.next()


async def test_no_file_is_left_behind_each_time_that_the_paths_hang(tmp_path: Path) -> None:
    source, go = file_source(Told(FileChange(str(tmp_path / "key"))).subscription, Roots()), threading.Event()
    hung = source.threads.start("the watched paths", lambda: go.wait(5))
    before = open_files()

    with pytest.raises(Transient, match="has not returned"):
        await source.serve(lambda: None)

    assert open_files() == before
    go.set()
    await hung


def open_files() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


async def test_a_control_group_tells_when_it_fills_and_empties(tmp_path: Path, serving: Serve) -> None:
    top = Path("/sys/fs/cgroup")
    group = top / f"refloat-test-{os.getpid()}"
    if not (top / "cgroup.controllers").exists():
        pytest.skip("no cgroup v2 here")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    wake = CgroupEmpty(f"/{group.name}")
    told = Told(wake)
    process = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        async with serving(cgroup_source(told.subscription, Roots())):
            (group / "cgroup.procs").write_text(str(process.pid))
            assert await told.next() == {wake}
            await asyncio.sleep(0.1)
            told.wakes.clear()
            process.kill()
            await process.wait()

            assert await told.next() == {wake}
    finally:
        group.rmdir()


async def test_control_groups_that_fit_a_glob_come_and_go(tmp_path: Path, serving: Serve) -> None:
    jobs = tmp_path / "fs/cgroup/slurm"
    jobs.mkdir(parents=True)
    wake = CgroupEmpty("/slurm/job_*")
    told = Told(wake)
    async with serving(cgroup_source(told.subscription, Roots(sys=tmp_path))):
        (jobs / "system").mkdir()
        (jobs / "job_4711").mkdir()
        assert await told.next() == {wake}
        assert told.counts.events >= 2  # more where others change something on the way, such as in /tmp
        await asyncio.sleep(0.15)
        told.wakes.clear()
        (jobs / "job_4711").rmdir()

        assert await told.next() == {wake}
