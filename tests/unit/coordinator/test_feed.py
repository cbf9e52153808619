# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass, field

import pytest
from unit.coordinator.world import T0, FakeClock

from refloat_contract.errors import Transient
from refloat_contract.messages import CoordinatorStatus, SlurmView, decode
from refloat_contract.topics import Topics
from refloat_coordinator.feed import Feed
from refloat_coordinator.fleet import Read, Unread
from refloat_service.mqtt import Publication
from refloat_slurm.gateway import Change
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld

TOPICS = Topics("test")


@dataclass
class Broker:
    """Takes publications while it is up, in their order."""

    up: bool = True
    taken: list[Publication] = field(default_factory=list)

    async def publish(self, publication: Publication) -> None:
        if not self.up:
            raise Transient("not connected")
        self.taken.append(publication)

    def views(self) -> list[str]:
        """The nodes whose views were published since the last look."""
        views = [p for p in self.taken if p.topic.endswith("/slurm")]
        assert all(p.retain for p in self.taken)
        self.taken = [p for p in self.taken if p not in views]
        return [decode(SlurmView, p.payload).node for p in views]

    def heartbeat(self) -> CoordinatorStatus:
        return decode(CoordinatorStatus, self.taken[-1].payload)


@dataclass
class Stage:
    """A feed over a simulated slurmctld."""

    slurm: SimulatedSlurmctld = field(default_factory=lambda: SimulatedSlurmctld(["n1", "n2"], now=1000.0))
    broker: Broker = field(default_factory=Broker)

    def __post_init__(self) -> None:
        for name in ("n1", "n2"):
            self.slurm.register(name, 900.0)
        self.slurm.tick(1010.0)
        gateway = SimulatedGateway(self.slurm)
        self.clock = FakeClock()
        self.feed = Feed(gateway, self.broker.publish, TOPICS, self.clock, epoch=7, heartbeat_s=5)


async def test_the_first_read_tells_all_and_then_the_heartbeat() -> None:
    stage = Stage()
    fact = await stage.feed.read()
    told = await stage.feed.tell(slurm_ok=True)

    assert isinstance(fact, Read)
    assert (fact.began_at, [view.node for view in fact.changed]) == (T0, ["n1", "n2"])
    assert told
    assert stage.broker.taken[-1].topic == TOPICS.coordinator()
    assert stage.broker.views() == ["n1", "n2"]
    beat = stage.broker.heartbeat()
    assert (beat.epoch, beat.seq, beat.period_s, beat.slurm_ok) == (7, 1, 5.0, True)


async def test_only_what_changed_is_told_again() -> None:
    stage = Stage()
    await stage.feed.read()
    await stage.feed.tell(slurm_ok=True)
    stage.broker.views()
    stage.slurm.update("n2", Change.DRAIN, "reboot")
    fact = await stage.feed.read()
    await stage.feed.tell(slurm_ok=True)

    assert isinstance(fact, Read)
    assert [(v.node, v.seq, v.reason, set(v.flags)) for v in fact.changed] == [("n2", 2, "reboot", {"IDLE", "DRAIN"})]
    assert stage.broker.views() == ["n2"]


async def test_a_boot_time_that_jitters_is_no_change() -> None:
    stage = Stage()
    first = await stage.feed.read()
    stage.slurm.register("n1", 901.0, 900.0)
    stage.slurm.tick(1011.0)
    second = await stage.feed.read()

    assert isinstance(first, Read)
    assert isinstance(second, Read)
    before = {view.node: view for view in first.changed}
    assert all(view.slurmd_start_time != before[view.node].slurmd_start_time for view in second.changed)


async def test_after_a_reconnect_all_is_told_again() -> None:
    stage = Stage()
    await stage.feed.read()
    await stage.feed.tell(slurm_ok=True)
    stage.broker.views()
    stage.feed.forget_told()
    await stage.feed.tell(slurm_ok=True)

    assert stage.broker.views() == ["n1", "n2"]


async def test_what_did_not_arrive_is_told_with_the_next_period() -> None:
    stage = Stage()
    stage.broker.up = False
    await stage.feed.read()
    lost = await stage.feed.tell(slurm_ok=True)
    stage.broker.up = True
    await stage.feed.read()
    told = await stage.feed.tell(slurm_ok=True)

    assert (lost, told) == (False, True)
    assert stage.broker.views() == ["n1", "n2"]


async def test_the_heartbeat_vouches_only_for_views_that_arrived() -> None:
    stage = Stage()

    async def only_heartbeats(publication: Publication) -> None:
        if publication.topic.endswith("/slurm"):
            raise Transient("no acknowledgement")
        stage.broker.taken.append(publication)

    feed = Feed(SimulatedGateway(stage.slurm), only_heartbeats, TOPICS, FakeClock(), epoch=1, heartbeat_s=5)
    await feed.read()
    await feed.tell(slurm_ok=True)

    assert not stage.broker.heartbeat().slurm_ok


async def test_a_slurmctld_that_is_down_is_said_and_changes_nothing() -> None:
    stage = Stage()
    await stage.feed.read()
    await stage.feed.tell(slurm_ok=True)
    stage.slurm.stop()
    stage.broker.views()
    fact = await stage.feed.read()
    await stage.feed.tell(slurm_ok=False)

    assert isinstance(fact, Unread)
    assert stage.feed.seq == 1
    assert stage.broker.views() == []
    assert not stage.broker.heartbeat().slurm_ok


async def test_a_node_that_left_the_table_is_told_as_unknown_once() -> None:
    stage = Stage()
    await stage.feed.read()
    gateway = SimulatedGateway(SimulatedSlurmctld(["n1"], now=1000.0))
    stage.feed._gateway = gateway
    gone, later = await stage.feed.read(), await stage.feed.read()

    assert isinstance(gone, Read)
    assert isinstance(later, Read)
    assert [v.node for v in gone.changed if not v.known] == ["n2"]
    assert [v.node for v in later.changed if not v.known] == []


async def test_what_changed_is_told_at_once_and_the_heartbeat_only_when_it_is_due() -> None:
    stage = Stage()
    told: list[list[str]] = []
    for second in range(12):
        stage.slurm.update("n1", Change.DRAIN, f"reboot {second}")
        await stage.feed.read()
        await stage.feed.tell(slurm_ok=True)
        told.append([p.topic.rsplit("/", 1)[1] for p in stage.broker.taken])
        stage.broker.taken.clear()
        stage.clock.time += 1.0

    assert all(topics[0] == "slurm" for topics in told)
    assert [second for second, topics in enumerate(told) if topics[-1] == "status"] == [0, 5, 10]


async def test_the_heartbeat_says_at_once_that_slurm_is_silent_and_that_it_answers_again() -> None:
    stage = Stage()
    said: list[bool] = []
    for slurm_ok in (True, True, False, False, True, True):
        await stage.feed.read()
        await stage.feed.tell(slurm_ok=slurm_ok)
        said += [decode(CoordinatorStatus, p.payload).slurm_ok for p in stage.broker.taken if "/slurm" not in p.topic]
        stage.broker.taken.clear()
        stage.clock.time += 0.5

    assert said == [True, False, True]


@pytest.mark.parametrize(("nodes", "period_s"), [(2, 5.0), (5000, 5.0), (10_000, 10.0)])
async def test_the_heartbeat_names_the_nodes_and_is_more_seldom_for_very_many(nodes: int, period_s: float) -> None:
    broker = Broker()
    gateway = SimulatedGateway(SimulatedSlurmctld([f"n{number}" for number in range(nodes)], now=1000.0))

    async def only_heartbeats(publication: Publication) -> None:
        if not publication.topic.endswith("/slurm"):
            await broker.publish(publication)

    feed = Feed(gateway, only_heartbeats, TOPICS, FakeClock(), epoch=1, heartbeat_s=5)
    await feed.read()
    await feed.tell(slurm_ok=True)

    beat = broker.heartbeat()
    assert (beat.nodes, beat.period_s) == (nodes, period_s)


async def test_a_node_that_comes_back_to_the_table_is_told_again() -> None:
    stage = Stage()
    both = stage.feed._gateway
    await stage.feed.read()
    stage.feed._gateway = SimulatedGateway(SimulatedSlurmctld(["n1"], now=1000.0))
    await stage.feed.read()
    stage.feed._gateway = both
    fact = await stage.feed.read()

    assert isinstance(fact, Read)
    assert "n2" in [view.node for view in fact.changed if view.known]
