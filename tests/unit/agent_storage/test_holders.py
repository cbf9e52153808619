# SPDX-License-Identifier: Apache-2.0
"""Who holds a mount, told from /proc alone."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from storage_node import Node

from refloat_agent.effects.storage import table
from refloat_agent.effects.storage.holders import Holder, Holders, HolderSearch
from refloat_checks.proc import Roots
from refloat_contract.errors import Transient

SCRATCH = "36 21 0:45 / /scratch rw - lustre 10.0.0.1@o2ib:/scratch rw\n"
ENTRY = table.parse(SCRATCH).entries[0]


@pytest.fixture
def search(node: Node) -> HolderSearch:
    """Looks through a made-up /proc, whose namespace has /scratch mounted."""
    with node.mountinfo.open("a") as text:
        text.write(SCRATCH)
    return HolderSearch(node.roots)


def _open(folder: Path, number: int, target: str, mount_id: int) -> None:
    (folder / "fd" / str(number)).symlink_to(target)
    (folder / "fdinfo" / str(number)).write_text(f"pos:\t0\nflags:\t0100000\nmnt_id:\t{mount_id}\nino:\t7\n")


async def test_links_open_files_and_mappings_are_found_and_neighbours_are_not(node: Node, search: HolderSearch) -> None:
    node.process(10, "bash", cwd="/scratch/alice")
    _open(node.process(11, "tail"), 3, "/scratch/log (deleted)", 36)
    node.process(12, "vim", cwd="/scratchy")
    _open(node.process(13, "sshd"), 4, "socket:[4711]", 9)
    _open(node.process(14, "cat"), 5, "/scratch/elsewhere", 77)  # by this name, but another mount lies there

    held = await search.who(ENTRY)

    assert sorted((each.pid, each.held_by) for each in held.processes) == [
        (10, "cwd"),
        (11, "file /scratch/log (deleted)"),
    ]


async def test_a_process_of_another_namespace_is_found_by_the_filesystem_and_not_by_a_name(
    node: Node, search: HolderSearch
) -> None:
    folder = node.process(20, "singularity")
    (folder / "ns").mkdir()
    (folder / "ns/mnt").symlink_to("mnt:[4026532999]")
    (folder / "mountinfo").write_text("91 90 0:45 /project /data rw - lustre 10.0.0.1@o2ib:/scratch rw\n")
    _open(folder, 3, "/data/input", 91)

    held = await search.who(ENTRY)

    assert [(each.pid, each.held_by) for each in held.processes] == [(20, "file /data/input")]


async def test_a_mapping_alone_holds_too(node: Node, search: HolderSearch) -> None:
    folder = node.process(30, "mpirun")
    (folder / "maps").write_text("7f00-7f01 r-xp 00000000 00:2d 12345    /scratch/lib/libmpi.so\n")
    (node.process(31, "bash") / "maps").write_text("7f00-7f01 r-xp 00000000 08:01 7    /usr/lib/libc.so.6\n")

    held = await search.who(ENTRY)

    assert [(each.pid, each.held_by) for each in held.processes] == [(30, "mapping /scratch/lib/libmpi.so")]


@pytest.mark.parametrize(
    ("cgroup", "job"),
    [
        ("0::/system.slice/slurmstepd.scope/job_4711/step_0/user/task_0", "4711"),
        ("12:cpuset:/slurm/uid_1000/job_4712/step_batch\n1:name=systemd:/system.slice/slurmd.service", "4712"),
        ("12:memory:/slurm_n1/uid_1000/job_4713/step_0\n0::/", "4713"),
        ("0::/user.slice/user-1000.slice/session-3.scope", ""),
        ("0::/system.slice/job_5.service", ""),
    ],
)
async def test_the_job_is_told_by_the_cgroup(node: Node, search: HolderSearch, cgroup: str, job: str) -> None:
    node.process(991, "python", cwd="/scratch", cgroup=cgroup)

    (holder,) = (await search.who(ENTRY)).processes

    assert (holder.job, holder.uid, holder.command) == (job, 1000, "python")


async def test_what_is_no_process_is_named_too(node: Node, search: HolderSearch) -> None:
    with node.mountinfo.open("a") as text:
        text.write("37 36 0:46 / /scratch/sub rw - tmpfs none rw\n")
    backing = node.roots.sys / "block/loop3/loop/backing_file"
    backing.parent.mkdir(parents=True)
    backing.write_text("/scratch/image.ext4\n")
    (node.proc / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n/scratch/swap    file\t1\t0\t-2\n")

    held = await search.who(ENTRY)

    assert str(held) == "mount /scratch/sub; loop3 (/scratch/image.ext4); swap /scratch/swap"


async def test_many_holders_are_counted_and_three_are_named(node: Node, search: HolderSearch) -> None:
    for pid in range(100, 150):
        node.process(pid, "rank", cwd="/scratch")

    held = await search.who(ENTRY)

    assert (len(held.processes), held.more, held.complete) == (20, 30, True)
    assert str(held).endswith("; and 47 more")


async def test_a_search_that_cannot_be_made_is_no_answer(node: Node) -> None:
    with pytest.raises(Transient, match="who holds it could not be read"):
        await HolderSearch(Roots(node.place / "none", node.roots.sys)).who(ENTRY)


def test_a_holder_is_told_in_a_line() -> None:
    of_job = Holder(991, 1000, "python", "/slurm/job_4711", "4711", "cwd")
    login = Holder(7, 0, "bash", "/user.slice", "", "cwd")

    assert str(Holders((of_job, login))) == "pid 991 python uid 1000 (job 4711); pid 7 bash uid 0"
    assert not Holders()


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A real mount. Root alone may mount, and only where the machine lets it."""
    place = tmp_path / "mnt"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.mount(b"refloat-test", bytes(place), b"tmpfs", 0, None) != 0:
        pytest.skip("needs root and the right to mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=False)


CHILD = """
import os, sys
place = sys.argv[1]
file = open(place + "/data", "w")
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["our namespace", "its own namespace"])
def child(request: pytest.FixtureRequest, tmpfs: Path) -> Iterator[int]:
    """A process with a file open there."""
    launch = [] if request.param == "our namespace" else ["unshare", "--mount", "--propagation", "private"]
    with subprocess.Popen(
        [*launch, sys.executable, "-c", CHILD, str(tmpfs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


@pytest.fixture
def entry(tmpfs: Path) -> table.Entry:
    """The real mount in the real table."""
    found = table.read(Roots()).at(str(tmpfs))
    assert found is not None
    return found


async def test_a_real_process_is_found_by_its_open_file_also_in_another_mount_namespace(
    tmpfs: Path, entry: table.Entry, child: int
) -> None:
    held = await HolderSearch(Roots()).who(entry)

    assert [(each.pid, each.uid, each.held_by) for each in held.processes] == [(child, 0, f"file {tmpfs}/data")]
