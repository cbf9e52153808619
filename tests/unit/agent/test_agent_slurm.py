# SPDX-License-Identifier: Apache-2.0
"""When slurmctld is asked, and whose view counts; and what /proc says of job steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes import FakeClock, FakeProcesses, World

from refloat_agent.effects.processes import ProcProcesses
from refloat_agent.effects.slurm import FIRST_LOOK_S, READS_PER_S, AgentSlurm
from refloat_agent.in_service import wants
from refloat_agent.observation import HealthFacts
from refloat_agent.state import Policy, initial
from refloat_contract.errors import Transient
from refloat_contract.messages import CoordinatorStatus, SlurmView
from refloat_slurm.gateway import Change, Job, NodeView, Registration

POLICY = Policy(node="n1", recipes={})
STATE = initial("boot", "nonce")


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


@pytest.mark.parametrize(("offset_s", "flags"), [(0, "DOWN+DRAIN"), (-60, "DOWN+DRAIN"), (0, "DOWN+NOT_RESPONDING")])
async def test_while_the_feed_tells_slurmctld_is_not_asked_for_its_whole_table(offset_s: int, flags: str) -> None:
    scene = Scene()
    started = int(scene.world.wall_s - scene.world.now_s)
    view = SlurmView(
        node="n1", epoch=1, seq=1, flags=flags.split("+"), boot_time=started, slurmd_start_time=started + offset_s
    )
    scene.slurm.offer(view)
    scene.beat(1)
    asked = scene.gateway.asked

    assert await scene.slurm.is_registered() == (offset_s == 0 and "NOT_RESPONDING" not in flags)
    assert scene.gateway.asked == asked

    scene.world.now_s += 60.0  # the feed is silent
    await scene.slurm.is_registered()
    assert scene.gateway.asked > asked


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


def test_a_view_that_came_since_the_last_heartbeat_is_newer_than_an_own_read_before_it() -> None:
    scene = Scene()
    scene.feed(1, "before")
    scene.beat(1)
    scene.world.now_s += 3.0
    scene.slurm._own, scene.slurm._own_s = NodeView("n1", frozenset({"IDLE"})), scene.world.now_s
    scene.world.now_s += 1.0
    scene.feed(2, "since")

    latest = scene.slurm.latest()
    assert latest is not None
    assert (latest.view.reason, latest.from_feed, latest.age_s) == ("since", True, 0.0)


def test_a_view_that_the_broker_kept_is_no_newer_than_the_heartbeat() -> None:
    scene = Scene()
    scene.feed(1)
    scene.beat(1)
    scene.world.now_s += 3.0
    scene.slurm.offer(SlurmView(node="n1", epoch=1, seq=2), kept=True)

    assert scene.slurm.feed_age_s() == 3.0


@pytest.mark.parametrize(("nodes", "seconds"), [(10_000, 8), (1000, 60)])
async def test_slurmctld_is_not_stormed_by_all_nodes_whose_feed_falls_silent_at_once(nodes: int, seconds: int) -> None:
    scenes = [Scene() for _ in range(nodes)]
    for scene in scenes:
        scene.feed(1)
        beat = CoordinatorStatus(online=True, epoch=1, seq=1, period_s=5.0, slurm_ok=True, nodes=nodes)
        scene.slurm.heartbeat(beat)
        scene.slurm.heartbeat(beat.model_copy(update={"online": False}))  # its last will
    begin = int(min(FIRST_LOOK_S, nodes / READS_PER_S))
    at_once = sum([await looks(scene, 0) for scene in scenes])
    reads = [sum([await looks(scene, second) for scene in scenes]) for second in range(begin, begin + seconds)]

    assert at_once == 0
    assert max(reads) <= 50
    # And nobody is forgotten.
    assert sum(reads) == pytest.approx(min(READS_PER_S, nodes / POLICY.poll_s) * seconds, rel=0.3)


async def looks(scene: Scene, second: int) -> int:
    """One second of an agent that only serves: it looks when its rules tell it to; answers with how often it asked."""
    scene.world.now_s = 1000.0 + second
    hint = scene.slurm.latest()
    if not wants(STATE, hint, HealthFacts(), POLICY).slurm:
        return 0
    await scene.slurm.read()
    return 1


async def test_after_a_doubt_the_node_is_read_at_once_however_many_ask() -> None:
    scene = Scene()
    scene.feed(1)
    scene.slurm.heartbeat(CoordinatorStatus(online=False, epoch=1, nodes=10_000))
    scene.slurm.doubt()

    assert scene.slurm.latest() is None
    assert await looks(scene, 0) == 1


async def test_what_is_told_while_the_node_is_read_is_newer_than_the_answer() -> None:
    scene = Scene()
    scene.feed(1)
    scene.beat(1)

    class Slow(Gateway):
        async def node(self, name: str) -> NodeView:
            scene.world.now_s += 1.0
            scene.feed(2, "reboot")
            scene.world.now_s += 1.0
            return self.view

    scene.slurm.gateway = Slow()
    await scene.slurm.read()

    latest = scene.slurm.latest()
    assert latest is not None
    assert latest.view.reason == "reboot"


async def test_a_doubt_that_comes_while_the_node_is_read_stands() -> None:
    scene = Scene()

    class Doubted(Gateway):
        async def node(self, name: str) -> NodeView:
            scene.slurm.doubt()
            return self.view

    scene.slurm.gateway = Doubted()
    await scene.slurm.read()
    assert scene.slurm.latest() is None

    scene.slurm.gateway = Gateway()
    await scene.slurm.read()
    assert scene.slurm.latest() is not None


async def test_a_silence_soon_after_the_start_is_one_like_any_other() -> None:
    scene = Scene()
    scene.slurm.latest()  # nothing is known yet
    await scene.slurm.read()
    scene.feed(1)
    scene.slurm.heartbeat(CoordinatorStatus(online=True, epoch=1, seq=1, slurm_ok=True, nodes=10_000))
    scene.world.now_s += 10.0
    scene.slurm.heartbeat(CoordinatorStatus(online=False, epoch=1))
    scene.world.now_s += 30.0

    latest = scene.slurm.latest()
    assert latest is not None
    assert latest.rests
