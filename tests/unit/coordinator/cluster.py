# SPDX-License-Identifier: Apache-2.0
"""A small cluster around the coordinator's loop: Slurm, a broker that keeps what is not acknowledged, and agents.

Every boundary at which the coordinator could be killed calls `Cluster.boundary`.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from unit.coordinator.world import T0, FakeClock

from refloat_contract.errors import Refused, Transient, UnknownNode
from refloat_contract.messages import (
    CycleInfo,
    Event,
    LastCycle,
    Message,
    NodeReport,
    NodeStatus,
    Order,
    Request,
    WaveReport,
    decode,
    encode,
)
from refloat_contract.reasons import Dialect, Trigger, parse
from refloat_contract.topics import Kind, Topics
from refloat_contract.topics import parse as parse_topic
from refloat_contract.words import EventKind, OrderKind, Outcome, Phase, RequestKind, Verdict
from refloat_coordinator.bus import Inbox
from refloat_coordinator.feed import Feed
from refloat_coordinator.hands import EndedJob, Hands, told
from refloat_coordinator.loop import Loop, Ports
from refloat_coordinator.permits.breaker import Incident
from refloat_coordinator.permits.budget import Limit
from refloat_coordinator.permits.permit import Permit
from refloat_coordinator.questions import free_at
from refloat_coordinator.record.ledger import Ledger, open_ledger
from refloat_coordinator.waves.blocker import AskBlocker, BlockerAnswer, judge
from refloat_coordinator.waves.decisions import AskJobs, EndJobs, Question
from refloat_coordinator.waves.wave import Wave
from refloat_service.mqtt import Publication
from refloat_slurm.gateway import AdminLevel, Change, Job, JobEnd, NodeView, Registration

TOPICS = Topics("test")


class Killed(BaseException):
    """The coordinator was killed; no handler of the product may catch it."""


@dataclass
class Agent:
    """One node with its agent. ``fate`` is good, dead (does not come back) or bad (its check fails after the boot)."""

    name: str
    fate: str = "good"
    flags: frozenset[str] = frozenset({"IDLE"})
    reason: str = ""
    boot: int = 1
    phase: Phase = Phase.IN_SERVICE
    cycle: CycleInfo | None = None
    last: LastCycle | None = None
    granted: bool = False
    patience: int = 0
    reboots: int = 0
    cycles: int = 0
    events: int = 0

    @property
    def view(self) -> NodeView:
        registration = Registration(1000 * self.boot, 1000 * self.boot + 10)
        return NodeView(self.name, self.flags, self.reason, "root", 0, registration)


@dataclass(eq=False)
class Kept:
    """A message that the broker keeps until it is acknowledged; it is delivered once in each life."""

    topic: str
    payload: bytes


@dataclass
class Cluster:
    """All of it but the coordinator, which may be killed at the boundaries whose numbers are in ``kills``."""

    agents: dict[str, Agent]
    clock: FakeClock = field(default_factory=FakeClock)
    kills: frozenset[int] = frozenset()
    boundaries: int = 0
    slurm_down: bool = False
    running: dict[str, Job] = field(default_factory=dict)
    stubborn: set[str] = field(default_factory=set)
    levels: dict[str, AdminLevel] = field(default_factory=dict)
    ended: list[tuple[str, JobEnd]] = field(default_factory=list)
    queue: deque[Kept] = field(default_factory=deque)
    retained: dict[str, bytes] = field(default_factory=dict)
    max_out: int = 0
    violations: list[str] = field(default_factory=list)
    blocker: Callable[[AskBlocker, float], BlockerAnswer] = lambda asked, at: judge(asked, 0, "", at)
    _at: float = 0.0

    def boundary(self) -> None:
        self.boundaries += 1
        if self.boundaries in self.kills:
            raise Killed

    # Slurm

    @property
    def backend(self) -> str:
        return "fake"

    async def node(self, name: str) -> NodeView:
        if self.slurm_down:
            raise Transient("connect failure")
        if name not in self.agents:
            raise UnknownNode(name)
        view = self.view(name)
        return NodeView(view.name, view.flags, view.reason)

    async def node_in_full(self, name: str) -> NodeView:
        return self.view(name)

    async def nodes(self) -> Mapping[str, NodeView]:
        if self.slurm_down:
            raise Transient("connect failure")
        return {name: self.view(name) for name in self.agents}

    def is_busy(self, agent: Agent) -> bool:
        return "ALLOCATED" in self.view(agent.name).flags

    def view(self, name: str) -> NodeView:
        view = self.agents[name].view
        busy = {"ALLOCATED"} if any(job.nodes == name for job in self.running.values()) else {"IDLE"}
        return replace(view, flags=(view.flags - {"IDLE"}) | busy) if "IDLE" in view.flags else view

    async def jobs(self, name: str) -> tuple[Job, ...]:
        return tuple(job for job in self.running.values() if job.nodes == name)

    async def all_jobs(self) -> tuple[Job, ...]:
        return tuple(self.running.values())

    async def admin_level(self, user: str) -> AdminLevel:
        return self.levels.get(user, AdminLevel.NONE)

    async def partitions(self) -> Mapping[str, str]:
        return {"batch": ",".join(self.agents)}

    async def end_job(self, job: str, how: JobEnd) -> None:
        self.boundary()
        if job in self.stubborn:
            raise Refused("Only batch jobs are accepted or processed")
        self.ended.append((job, how))
        del self.running[job]
        self.boundary()

    def run_job(self, job: str, node: str, ends_at: float = 0.0) -> None:
        """Have a job run on a node until somebody ends it."""
        self.running[job] = Job(job, "alice", "RUNNING", int(ends_at), node)

    async def update(self, name: str, change: Change | None, reason: str | None = None) -> None:
        self.boundary()
        agent = self.agents[name]
        if change is Change.DRAIN:
            if "DRAIN" in agent.flags:
                self.violations.append(f"{name}: {agent.reason!r} overwritten with {reason!r}")
            agent.flags, agent.reason = agent.flags | {"DRAIN"}, reason or ""
        elif change is Change.RESUME:
            if agent.phase not in {Phase.IN_SERVICE, Phase.DRAINING}:
                self.violations.append(f"{name}: resumed in phase {agent.phase}")
            agent.flags, agent.reason = frozenset({"IDLE"}), ""
        self.boundary()

    async def aclose(self) -> None:
        """Nothing to end."""

    # The broker

    def say(self, agent: Agent, message: Message, kind: Kind) -> None:
        self.queue.append(Kept(TOPICS.node(agent.name, kind), encode(message)))

    async def publish(self, publication: Publication) -> None:
        self.boundary()
        if publication.retain:
            self.retained[publication.topic] = publication.payload
            return
        address = parse_topic(publication.topic)
        order = decode(Order, publication.payload)
        if order.kind is OrderKind.GRANT:
            self.agents[address.name].granted = True
        self.agents[address.name].patience = 1

    # Agents

    def live(self) -> None:
        """One step of every agent."""
        for agent in self.agents.values():
            self._live(agent)
        out = sum(1 for agent in self.agents.values() if agent.phase not in {Phase.IN_SERVICE, Phase.DRAINING})
        self.max_out = max(self.max_out, out)

    def _live(self, agent: Agent) -> None:
        trigger = parse(agent.reason, Dialect())
        match agent.phase:
            case Phase.IN_SERVICE if "DRAIN" in agent.flags and isinstance(trigger, Trigger):
                agent.cycles += 1
                agent.cycle = CycleInfo(id=f"{agent.name}-{agent.cycles}", recipe="reboot", wave=trigger.wave)
                agent.granted, agent.patience = False, 0
                self._enter(agent, Phase.DRAINING)
            case Phase.DRAINING if "DRAIN" not in agent.flags:
                self._end(agent, Outcome.CANCELLED)
            case Phase.DRAINING if agent.granted and agent.cycle and not self.is_busy(agent):
                agent.flags = frozenset({"DOWN", "DRAIN"})
                agent.reason = f"rebooting refloat={agent.cycle.id} wave={agent.cycle.wave}"
                self._enter(agent, Phase.REBOOTING)
            case Phase.DRAINING if agent.patience or self.is_busy(agent):
                agent.patience = max(0, agent.patience - 1)
            case Phase.DRAINING if agent.cycle:
                agent.patience = 3
                request = Request(
                    id="r", node=agent.name, kind=RequestKind.PERMIT, cycle=agent.cycle.id, wave=agent.cycle.wave
                )
                self.say(agent, request, Kind.REQUEST)
            case Phase.REBOOTING if agent.fate == "dead":
                agent.flags = frozenset({"DOWN", "DRAIN", "NOT_RESPONDING"})
                self.say(agent, NodeStatus(node=agent.name, online=False), Kind.STATUS)
            case Phase.REBOOTING:
                agent.boot += 1
                agent.reboots += 1
                self._enter(agent, Phase.CHECKING)
            case Phase.CHECKING if agent.fate == "bad" and agent.cycle:
                agent.reason = f"refloat-hold: no link refloat={agent.cycle.id}"
                self._enter(agent, Phase.HELD, "no link")
            case Phase.CHECKING:
                agent.flags, agent.reason = frozenset({"IDLE"}), ""
                self._end(agent, Outcome.DONE)
            case _:
                pass

    def _enter(self, agent: Agent, phase: Phase, why: str = "") -> None:
        agent.phase = phase
        self._tell(agent, EventKind.HOLD if phase is Phase.HELD else EventKind.PHASE_ENTERED)
        self.report(agent, why)

    def _end(self, agent: Agent, outcome: Outcome) -> None:
        if agent.cycle is None:
            raise AssertionError(agent.name)
        agent.last = LastCycle(id=agent.cycle.id, outcome=outcome, wave=agent.cycle.wave, boot_id=f"boot-{agent.boot}")
        agent.phase = Phase.IN_SERVICE
        self._tell(agent, EventKind.RESUMED if outcome is Outcome.DONE else EventKind.CANCELLED)
        agent.cycle = None
        self.report(agent)

    def _tell(self, agent: Agent, kind: EventKind) -> None:
        agent.events += 1
        event = Event(
            id=f"{agent.name}-{agent.events}",
            node=agent.name,
            at_ns=int(T0) * 10**9 + agent.events,
            kind=kind,
            title="t",
            message="m",
            phase=agent.phase,
            cycle=agent.cycle.id if agent.cycle else "",
            wave=agent.cycle.wave if agent.cycle else "",
            boot_id=f"boot-{agent.boot}",
        )
        self.say(agent, event, Kind.EVENT)

    def report(self, agent: Agent, why: str = "") -> None:
        self._at += 1
        report = NodeReport(
            at=self._at,
            boot_id=f"boot-{agent.boot}",
            phase=agent.phase,
            since=0,
            why=why,
            cycle=agent.cycle,
            last_cycle=agent.last,
            verdict=Verdict.HEALTHY,
        )
        message = NodeStatus(node=agent.name, online=True, report=report)
        self.retained[TOPICS.node(agent.name, Kind.STATUS)] = encode(message)
        self.say(agent, message, Kind.STATUS)


class KillableLedger(Ledger):
    """A ledger around whose writes the coordinator may be killed."""

    cluster: Cluster

    async def save(
        self, waves: Iterable[Wave] = (), events: Iterable[Event] = (), incidents: Iterable[Incident] = ()
    ) -> None:
        self.cluster.boundary()
        await super().save(waves, events, incidents)
        self.cluster.boundary()

    async def save_permits(self, granted: Collection[Permit], ended: Collection[str]) -> None:
        self.cluster.boundary()
        await super().save_permits(granted, ended)
        self.cluster.boundary()

    async def record(self, events: Sequence[Event]) -> list[Event]:
        self.cluster.boundary()
        new = await super().record(events)
        self.cluster.boundary()
        return new


class Run:
    """One life of the coordinator's loop in a cluster, without its tasks: a turn is a turn."""

    def __init__(self, cluster: Cluster, ledger: Ledger, epoch: int, limits: tuple[Limit, ...] = ()) -> None:
        self.cluster = cluster
        self.posted: list[Publication] = []
        self.recorded = 0
        self._delivered: set[Kept] = set()
        self.inbox = Inbox(cluster.clock, lambda: None)
        self.asked: list[Question] = []
        ports = Ports(ledger, cluster.clock, self.posted.append, self._count, ask=self.asked.append)
        self.loop = Loop(ports, self.inbox, TOPICS, epoch=epoch, limits=limits, dialect=Dialect())
        self.feed = Feed(cluster, cluster.publish, TOPICS, cluster.clock, epoch=epoch, heartbeat_s=5)
        self.hands = Hands(cluster, Dialect(), on_ended=self._jobs_ended)

    async def _jobs_ended(self, order: EndJobs, jobs: Sequence[EndedJob]) -> None:
        await self.loop.note(told(order, jobs, int(self.cluster.clock.now() * 1e9)))

    def _count(self) -> None:
        self.recorded += 1

    def connect(self) -> None:
        """What a broker hands over at a subscription: all that it kept."""
        for topic, payload in self.cluster.retained.items():
            if topic.endswith("/status") and "/node/" in topic:
                self.inbox.receive(topic, payload, lambda: None)

    def receive(self) -> None:
        """What has arrived; only what the loop has dealt with leaves the broker."""
        for item in [kept for kept in self.cluster.queue if kept not in self._delivered]:
            self._delivered.add(item)
            self.inbox.receive(item.topic, item.payload, partial(self._acknowledge, item))

    def _acknowledge(self, item: Kept) -> None:
        self.cluster.boundary()
        self.cluster.queue.remove(item)

    async def turn(self, seconds: float = 5.0) -> None:
        """Agents live, Slurm is read, the loop takes a step, and what it wants is done."""
        self.cluster.clock.time += seconds
        self.cluster.live()
        self.receive()
        self.loop.observe(await self.feed.read())
        for order in await self.loop.step():
            if self.loop.wants(order):
                await self.hands.perform(order)
        while self.asked:
            question = self.asked.pop(0)
            if isinstance(question, AskJobs):
                self.loop.hear_jobs(free_at(await self.cluster.all_jobs()), self.cluster.clock.now())
            else:
                self.loop.hear_blocker(question.wave, self.cluster.blocker(question, self.cluster.clock.now()))
        while self.posted:
            await self.cluster.publish(self.posted.pop(0))

    def reports(self, wave: str) -> WaveReport:
        return decode(WaveReport, self.cluster.retained[TOPICS.wave(wave)])


async def open_killable(path: Path, cluster: Cluster) -> tuple[KillableLedger, int]:
    ledger = KillableLedger(path, max_events=10_000, outbox=True, deadline_s=10)
    ledger.cluster = cluster
    return ledger, await ledger.begin()


async def open_plain(path: Path) -> tuple[Ledger, int]:
    return await open_ledger(path)
