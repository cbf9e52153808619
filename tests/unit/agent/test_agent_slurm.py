# SPDX-License-Identifier: Apache-2.0
"""When slurmctld is asked, and whose view counts; and what /proc says of job steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes import FakeClock, FakeProcesses, World

from refloat_agent.effects.processes import ProcProcesses
from refloat_agent.effects.slurm import AgentSlurm
from refloat_contract.errors import Transient
from refloat_contract.messages import CoordinatorStatus, SlurmView
from refloat_slurm.gateway import Change, Job, NodeView, Registration


@dataclass
class Gateway:
    """Answers, or does not, and counts how often it was asked."""

    backend: str = "fake"
    up: bool = True
    asked: int = 0
    view: NodeView = field(default_factory=lambda: NodeView("n1", frozenset({"IDLE"})))

    async def node(self, name: str) -> NodeView:
        self.asked += 1
        if not self.up:
            raise Transient("Unable to contact slurm controller")
        return self.view

    async def node_in_full(self, name: str) -> NodeView:
        return await self.node(name)

    async def nodes(self) -> Mapping[str, NodeView]:
        raise NotImplementedError

    async def jobs(self, name: str) -> tuple[Job, ...]:
        return ()

    async def update(self, name: str, change: Change | None, reason: str | None = None) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing to end."""


@dataclass
class Scene:
    world: World = field(default_factory=World)
    gateway: Gateway = field(default_factory=Gateway)
    slurm: AgentSlurm = field(init=False)

    def __post_init__(self) -> None:
        self.slurm = AgentSlurm(self.gateway, "n1", FakeClock(self.world), FakeProcesses(self.world))

    def feed(self, seq: int, reason: str = "", *, epoch: int = 1) -> None:
        self.slurm.offer(SlurmView(node="n1", epoch=epoch, seq=seq, flags=("IDLE",), reason=reason))

    def beat(self, seq: int, *, epoch: int = 1, slurm_ok: bool = True) -> None:
        self.slurm.heartbeat(CoordinatorStatus(online=True, epoch=epoch, seq=seq, period_s=5.0, slurm_ok=slurm_ok))


async def test_a_slurmctld_that_does_not_answer_is_left_alone_for_longer_and_longer() -> None:
    scene = Scene()
    scene.gateway.up = False
    for _ in range(600):
        with pytest.raises(Transient, match="Unable to contact"):
            await scene.slurm.read()
        scene.world.now_s += 1.0

    assert 600 / 19 < scene.gateway.asked < 600 / 9

    scene.gateway.up = True
    scene.world.now_s += 20.0
    assert await scene.slurm.read() == scene.gateway.view


async def test_the_newer_of_the_feed_and_the_own_view_counts() -> None:
    scene = Scene()
    await scene.slurm.read()
    scene.world.now_s += 3.0
    scene.feed(1, "from the feed")
    scene.beat(1)
    latest = scene.slurm.latest()
    assert latest is not None
    assert (latest.from_feed, latest.fresh) == (True, False)

    scene.world.now_s += 1.0
    await scene.slurm.read()

    latest = scene.slurm.latest()
    assert latest is not None
    assert not latest.from_feed


@pytest.mark.parametrize("case", ["slurm does not answer", "another epoch", "silence"])
def test_a_feed_is_not_trusted_after(case: str) -> None:
    scene = Scene()
    scene.feed(1)
    scene.beat(1)
    assert scene.slurm.feed_age_s() == 0.0

    if case == "slurm does not answer":
        scene.beat(2, slurm_ok=False)
    elif case == "another epoch":
        scene.beat(1, epoch=2)
    else:
        scene.world.now_s += 16.0

    assert scene.slurm.feed_age_s() is None


def test_an_older_view_of_the_feed_is_ignored_and_counted() -> None:
    scene = Scene()
    scene.feed(5, "new")
    scene.beat(5)
    scene.feed(4, "old")

    latest = scene.slurm.latest()
    assert latest is not None
    assert (latest.view.reason, scene.slurm.stale_feed) == ("new", 1)


@pytest.mark.parametrize(
    ("flags", "offset_s", "registered"),
    [
        ("DOWN+DRAIN", 0, True),
        ("DOWN+DRAIN", 4, True),
        ("DOWN+DRAIN", -60, False),
        ("DOWN+DRAIN+NOT_RESPONDING", 0, False),
    ],
)
async def test_only_the_slurmd_that_runs_now_counts_as_registered(
    flags: str, offset_s: int, *, registered: bool
) -> None:
    scene = Scene()
    started = int(scene.world.wall_s - scene.world.now_s)
    scene.gateway.view = NodeView(
        "n1", frozenset(flags.split("+")), registration=Registration(started, started + offset_s)
    )

    assert await scene.slurm.is_registered() == registered


async def test_a_node_that_slurmctld_has_not_heard_of_is_not_registered() -> None:
    assert not await Scene().slurm.is_registered()


# /proc


def _process(proc: Path, pid: int, comm: str, cmdline: str, cwd: str = "/") -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "cmdline").write_bytes(cmdline.encode())
    (folder / "status").write_text("Name:\tx\nUid:\t1000\t1000\t1000\t1000\n")
    (folder / "cwd").symlink_to(cwd)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    _process(tmp_path, 1, "systemd", "/sbin/init\0")
    _process(tmp_path, 20, "slurmstepd", "/usr/sbin/slurmstepd\0infinity\0")
    _process(tmp_path, 30, "slurmstepd", "slurmstepd: [7.batch]\0\0\0")
    _process(tmp_path, 40, "bash", "slurmstepd: [8.0]\0", "/scratch/alice")
    (tmp_path / "self").mkdir()
    return tmp_path


async def test_job_steps_are_told_from_what_only_keeps_a_cgroup_alive_or_calls_itself_so(proc: Path) -> None:
    (step,) = await ProcProcesses(proc).steps()

    assert (step.pid, step.title) == (30, "slurmstepd: [7.batch]")


async def test_a_proc_that_cannot_be_listed_is_unknown_not_empty(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="cannot be listed"):
        await ProcProcesses(tmp_path / "none").steps()
