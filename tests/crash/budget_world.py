# SPDX-License-Identifier: Apache-2.0
"""A cluster whose network loses, repeats and reorders everything, around the real loop and ledger of the coordinator.

Agents are models: they go out on a grant alone, keep their cycle over a restart, and forget what they were granted.
Whenever one goes out, and whenever leave is given, the world counts for itself.
"""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from unit.coordinator.world import FakeClock

from refloat_contract.errors import Transient
from refloat_contract.messages import (
    CycleInfo,
    Event,
    Failure,
    Message,
    NodeReport,
    NodeStatus,
    Order,
    Request,
    decode,
    encode,
)
from refloat_contract.reasons import Dialect
from refloat_contract.topics import Kind, Topics
from refloat_contract.topics import parse as parse_topic
from refloat_contract.words import OrderKind, Phase, Purpose, RequestKind, Verdict
from refloat_coordinator.bus import Inbox
from refloat_coordinator.feed import Feed
from refloat_coordinator.loop import Loop, Ports
from refloat_coordinator.permits.boots import BootRule
from refloat_coordinator.permits.breaker import Incident, Trip
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.permit import Permit
from refloat_coordinator.permits.rules import Rules
from refloat_coordinator.record.ledger import Ledger
from refloat_coordinator.waves.wave import Wave
from refloat_service.mqtt import Publication
from refloat_slurm.gateway import Change, Job, NodeView, Registration

TOPICS: Final = Topics("test")
RACKS: Final = {f"r{rack}": frozenset(f"r{rack}n{number}" for number in range(1, 6)) for rack in range(1, 4)}
SERVERS: Final = {"s1": RACKS["r1"] | RACKS["r2"], "s2": RACKS["r3"]}
NAMES: Final = sorted(frozenset().union(*RACKS.values()))
CLUSTER, RACK, HEALTH, BOOTS = 5, 2, 1, 1
GIVE_UP_S: Final = 300.0
ASK_AGAIN_S: Final = 10.0
RULES: Final = Rules(
    fixed=(Limit("cluster", Amount(CLUSTER)),),
    per_group={"rack": Amount(RACK)},
    health=Amount(HEALTH),
    boot=BootRule(at_once=Amount(BOOTS), per="server", one_at_a_time="rack", give_up_s=GIVE_UP_S),
    listed={"rack": RACKS, "server": SERVERS},
)
TRIP: Final = Trip(percent=30, nodes=5, window_s=200.0, clear_s=60.0)
LIMITS: Final = {"cluster": (CLUSTER, frozenset(NAMES)), **{name: (RACK, nodes) for name, nodes in RACKS.items()}}
OUT: Final = frozenset({Phase.RUNNING, Phase.REBOOTING, Phase.CHECKING, Phase.HELD})


class Killed(BaseException):
    """The coordinator was killed; no handler of the product may catch it."""


@dataclass
class Node:
    """A node: what Slurm says of it, what its agent keeps, and what its agent forgets at a restart."""

    name: str
    flags: frozenset[str] = frozenset({"IDLE"})
    reason: str = ""
    boot: int = 1
    boot_time: int = 1000
    up: bool = True
    back_at: float = 0.0
    away_since: float = 0.0
    sick: bool = False
    # kept
    phase: Phase = Phase.IN_SERVICE
    cycle: str = ""
    recipe: str = ""
    cause: str = ""
    wish: str = ""
    drained: bool = False
    exempt: bool = False
    """Its leave was given because it was down already."""
    # forgotten
    asked: str = ""
    asked_at: float = 0.0
    granted: str = ""

    @property
    def is_triggered(self) -> bool:
        return "DRAIN" in self.flags and self.reason.split(" ")[0] in {"reboot", "reconfigure"}

    @property
    def boots(self) -> bool:
        return self.phase is Phase.REBOOTING

    @property
    def is_out_by_leave(self) -> bool:
        return self.phase in OUT or self.drained


@dataclass
class World:
    """All of it; ``dice`` decides, so that a seed is a story."""

    dice: random.Random
    path: Path
    lossy: bool = True
    clock: FakeClock = field(default_factory=FakeClock)
    nodes: dict[str, Node] = field(default_factory=lambda: {name: Node(name) for name in NAMES})
    slurm_down: bool = False
    kill_in: int = -1
    lives: int = 0
    grants: dict[tuple[str, str], float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    """What has happened, so that a test can tell that its story was about something."""
    _number: int = 0
    _bag: list[tuple[str, bytes]] = field(default_factory=list)
    _retained: dict[str, bytes] = field(default_factory=dict)
    _posted: list[Publication] = field(default_factory=list)
    _table: dict[str, NodeView] = field(default_factory=dict)

    # The coordinator

    async def start(self) -> None:
        """Begin a life of the coordinator on what the last one left."""
        self.lives += 1
        ledger = KillableLedger(self.path, max_events=10_000, outbox=False, deadline_s=10)
        ledger.world = self
        epoch = await ledger.begin()
        self.ledger = ledger
        self.inbox = Inbox(self.clock, lambda: None)
        ports = Ports(ledger, self.clock, self._posted.append, lambda: None)
        self.loop = Loop(ports, self.inbox, TOPICS, epoch=epoch, limits=(), dialect=Dialect(), trip=TRIP)
        self.loop.rule(RULES)
        self.feed = Feed(Slurm(self), self._unpublished, TOPICS, self.clock, epoch=epoch, heartbeat_s=5)
        await self.loop.load()
        for topic, payload in self._retained.items():
            self.inbox.receive(topic, payload, lambda: None)

    async def turn(self) -> None:
        """Slurm may be read, the loop takes a step and tells; or it is killed in the midst of that."""
        self.clock.time += 1
        before = dict(self.loop.permits)
        try:
            if not self.lossy or self.dice.random() < 0.6:
                self.loop.observe(await self.feed.read())
            await self.loop.step()
            while self._posted:
                self.boundary()
                self._tell(self._posted.pop(0))
        except Killed:
            self.kill_in = -1
            self._posted.clear()
            await self.ledger.aclose()
            await self.start()
            self.seen.add("killed")
        self._count_grants(before)

    def boundary(self) -> None:
        """The coordinator may be killed here."""
        self.kill_in -= 1
        if self.kill_in == 0:
            raise Killed

    def _tell(self, publication: Publication) -> None:
        if publication.topic.endswith("/order"):
            order = decode(Order, publication.payload)
            if order.kind is OrderKind.GRANT:
                self._is_the_same(order)
            elif order.why.startswith("incident"):
                self.seen.add("incident")
            elif order.why.startswith(("budget boot", "one rack")):
                self.seen.add("boot")
            elif order.why.startswith("budget health"):
                self.seen.add("health")
            elif order.why.startswith("budget"):
                self.seen.add("budget")
            self._bag.append((publication.topic, publication.payload))

    def _is_the_same(self, order: Order) -> None:
        permit, node = self.loop.permits.get(order.node), self.nodes[order.node]
        is_wanted = order.cycle in {node.cycle, node.wish}  # not asked for long ago, and delivered again
        if is_wanted and permit is not None and permit.cycle == order.cycle:
            first = self.grants.setdefault((order.node, order.cycle), permit.granted_at)
            if first != permit.granted_at and not permit.boots:
                self.violations.append(f"{order.node}: {order.cycle} was granted at {first} and {permit.granted_at}")

    # Counting

    def _count_grants(self, before: Mapping[str, Permit]) -> None:
        """No leave that was given in this turn took more out than its limits allow."""
        permits = self.loop.permits
        new = [p for name, p in permits.items() if name not in before or before[name].cycle != p.cycle]
        free = {p.node for p in new if self._is_down(p.node)}
        for permit in new:
            self.nodes[permit.node].exempt = permit.node in free
        out = {name for name, view in self._table.items() if _is_out(view)} | set(permits)
        for permit in new:
            for name, (most, nodes) in LIMITS.items():
                others = (out & nodes) - free
                if permit.node in nodes and permit.node not in free and len(others) > most:
                    self.violations.append(f"{permit.node} may go, but of {name} are out: {sorted(others)}")

    def _is_down(self, name: str) -> bool:
        view = self._table.get(name)
        return view is not None and "DOWN" in view.flags and "NOT_RESPONDING" not in view.flags

    def _goes_out(self, node: Node, permit: str) -> None:
        """An agent goes out: it has leave that stands, and no limit is exceeded by what has leave."""
        standing = self.loop.permits.get(node.name)
        if standing is None or standing.cycle != permit:
            self.violations.append(f"{node.name} goes out for {permit}, but holds {standing}")
        for name, (most, nodes) in LIMITS.items():
            out = [n for n in nodes if self.nodes[n].is_out_by_leave and not self.nodes[n].exempt]
            if node.name in nodes and len(out) > most:
                self.violations.append(f"of {name} are out by leave: {sorted(out)}")
        self._count_boots(node)

    def _count_boots(self, node: Node) -> None:
        for name, nodes in SERVERS.items():
            booting = [n for n in nodes if self._loads(self.nodes[n])]
            if node.boots and node.name in nodes and len(booting) > BOOTS:
                self.violations.append(f"{sorted(booting)} boot from {name}")

    def _loads(self, node: Node) -> bool:
        lost = bool(node.away_since) and self.clock.time - node.away_since > GIVE_UP_S
        return node.boots and not lost

    def read_table(self) -> Mapping[str, NodeView]:
        """Slurm's node table."""
        if self.slurm_down:
            raise Transient("connect failure")
        self._table = {node.name: _view(node) for node in self.nodes.values()}
        return self._table

    # The network

    def send(self, node: Node, kind: Kind, message: Message) -> None:
        topic, payload = TOPICS.node(node.name, kind), encode(message)
        if self.lossy and self.dice.random() < 0.1:
            return
        if kind is Kind.STATUS:
            self._retained[topic] = payload
        self._bag.append((topic, payload))
        if self.lossy and self.dice.random() < 0.15:
            self._bag.append((topic, payload))

    def deliver(self, most: int) -> None:
        """Some of what is under way arrives, in any order, some of it twice or never."""
        for _ in range(min(most, len(self._bag))):
            item = self._bag.pop(self.dice.randrange(len(self._bag)) if self.lossy else 0)
            if self.lossy and self.dice.random() < 0.1:
                self._bag.append(item)  # and again, later
            if parse_topic(item[0]).kind is Kind.ORDER:
                self._hear(decode(Order, item[1]))
            else:
                self.inbox.receive(item[0], item[1], lambda: None)

    def _hear(self, order: Order) -> None:
        node = self.nodes[order.node]
        if order.kind is OrderKind.GRANT and node.up and order.request == node.asked:
            node.granted = order.cycle

    async def _unpublished(self, _publication: Publication) -> None:
        """Agents of this world read Slurm for themselves."""

    # Agents

    def look(self, node: Node) -> None:
        """One step of an agent."""
        if not node.up:
            return
        match node.phase:
            case Phase.IN_SERVICE:
                self._in_service(node)
            case Phase.DRAINING:
                self._draining(node)
            case Phase.RUNNING:
                self._enter(node, Phase.CHECKING)
            case Phase.REBOOTING:
                self._go_down(node)
            case Phase.CHECKING if self.lossy and self.dice.random() < 0.15:
                self._enter(node, Phase.HELD)
            case Phase.CHECKING:
                self._back(node)
            case Phase.HELD if not self.lossy or self.dice.random() < 0.1:
                self._enter(node, Phase.CHECKING)
            case _:
                pass

    def _in_service(self, node: Node) -> None:
        if node.is_triggered:
            self._give_back(node)
            node.cycle, node.recipe = self._name("c", node), node.reason.split(" ")[0]
            node.cause = "lustre" if "cause=" in node.reason else ""
            self._enter(node, Phase.DRAINING)
        elif node.drained and "DRAIN" in node.flags:
            if not node.sick:
                node.flags, node.reason = frozenset({"IDLE"}), ""
                self._give_back(node)
                self.report(node)
            elif self.dice.random() < 0.1:
                node.reason, node.drained = "reboot cause=lustre", False  # its remedy
        elif not node.sick or not _serves(node):
            if node.wish:
                self._give_back(node)
        elif node.granted and node.granted == node.wish:
            node.flags, node.reason, node.drained = node.flags | {"DRAIN"}, "refloat: lustre: stale", True
            self._goes_out(node, node.wish)
            self.seen.add("drained by a check")
        else:
            node.wish = node.wish or self._name("h", node)
            self._ask(node, node.wish, Purpose.HEALTH)

    def _draining(self, node: Node) -> None:
        if not node.is_triggered:
            self._end(node)
        elif node.granted and node.granted == node.cycle:
            node.flags, node.reason = frozenset({"DOWN", "DRAIN"}), f"rebooting refloat={node.cycle}"
            self._enter(node, Phase.REBOOTING if node.recipe == "reboot" else Phase.RUNNING)
            self._goes_out(node, node.cycle)
            self.seen.add(node.recipe)
        else:
            self._ask(node, node.cycle, Purpose.CYCLE)

    def _ask(self, node: Node, permit: str, purpose: Purpose) -> None:
        if node.asked and self.clock.time - node.asked_at < ASK_AGAIN_S:
            return
        node.asked, node.asked_at = self._name("q", node), self.clock.time
        request = Request(
            id=node.asked,
            node=node.name,
            kind=RequestKind.PERMIT,
            purpose=purpose,
            cycle=permit,
            recipe=node.recipe if purpose is Purpose.CYCLE else "",
            cause="lustre" if purpose is Purpose.HEALTH else node.cause,
            at=self._now(),
        )
        self.send(node, Kind.REQUEST, request)

    def _give_back(self, node: Node) -> None:
        permit, node.wish, node.drained = node.wish or node.cycle, "", False
        if permit:
            node.asked = node.granted = ""
            release = Request(id=self._name("q", node), node=node.name, kind=RequestKind.RELEASE, cycle=permit)
            self.send(node, Kind.REQUEST, release)

    def _enter(self, node: Node, phase: Phase) -> None:
        node.phase = phase
        self.report(node)

    def _back(self, node: Node) -> None:
        node.flags, node.reason = frozenset({"IDLE"}), ""
        self._end(node)

    def _end(self, node: Node) -> None:
        self._give_back(node)
        node.cycle, node.phase, node.exempt = "", Phase.IN_SERVICE, False
        self.report(node)

    def _go_down(self, node: Node) -> None:
        node.up, node.away_since = False, self.clock.time
        is_lost = self.lossy and self.dice.random() < 0.15
        node.back_at = self.clock.time + (2 * GIVE_UP_S if is_lost else self.dice.randrange(5, 60))
        self.send(node, Kind.STATUS, NodeStatus(node=node.name, online=False))

    def tick(self) -> None:
        """Nodes that are on their way back arrive."""
        for node in self.nodes.values():
            if not node.up and self.clock.time >= node.back_at:
                self.boot(node)
            elif not node.up:
                node.flags |= {"NOT_RESPONDING"}

    def boot(self, node: Node) -> None:
        """The node is up in another boot; who was under way goes on, who had only asked asks again."""
        node.boot, node.boot_time, node.up = node.boot + 1, int(self.clock.time), True
        node.away_since, node.flags = 0.0, node.flags - {"NOT_RESPONDING"}
        if node.phase is Phase.REBOOTING:
            node.phase = Phase.CHECKING
        self.restart(node)

    def restart(self, node: Node) -> None:
        """The agent is killed and starts again."""
        if node.up:
            node.asked = node.granted = ""
            self.report(node)

    def report(self, node: Node) -> None:
        """Tell the node's status."""
        failing = (Failure(check="lustre", message="stale"),) if node.sick else ()
        report = NodeReport(
            at=self._now(),
            boot_id=f"{node.name}-{node.boot}",
            phase=node.phase,
            since=0,
            verdict=Verdict.UNHEALTHY if node.sick else Verdict.HEALTHY,
            failing=failing,
            cycle=CycleInfo(id=node.cycle, recipe=node.recipe) if node.cycle else None,
        )
        self.send(node, Kind.STATUS, NodeStatus(node=node.name, online=True, report=report))

    def _name(self, kind: str, node: Node) -> str:
        self._number += 1
        return f"{kind}{self._number}-{node.name}"

    def _now(self) -> float:
        # Later than all that was said before, as on a node.
        self._number += 1
        return self.clock.time + self._number / 1e6


@dataclass
class Slurm:
    """The gateway that the feed reads."""

    world: World
    backend: str = "model"

    async def nodes(self) -> Mapping[str, NodeView]:
        return self.world.read_table()

    async def node(self, name: str) -> NodeView:
        raise NotImplementedError(name)

    async def node_in_full(self, name: str) -> NodeView:
        raise NotImplementedError(name)

    async def jobs(self, name: str) -> tuple[Job, ...]:
        raise NotImplementedError(name)

    async def update(self, name: str, change: Change | None, reason: str | None = None) -> None:
        raise NotImplementedError(name)

    async def aclose(self) -> None:
        """Nothing to end."""


class KillableLedger(Ledger):
    """A ledger around whose writes the coordinator may be killed."""

    world: World

    async def save(
        self, waves: Iterable[Wave] = (), events: Iterable[Event] = (), incidents: Iterable[Incident] = ()
    ) -> None:
        self.world.boundary()
        await super().save(waves, events, incidents)
        self.world.boundary()

    async def save_permits(self, granted: Collection[Permit], ended: Collection[str]) -> None:
        self.world.boundary()
        await super().save_permits(granted, ended)
        self.world.boundary()

    async def record(self, events: Sequence[Event]) -> list[Event]:
        self.world.boundary()
        return await super().record(events)


def _view(node: Node) -> NodeView:
    registration = Registration(node.boot_time, node.boot_time + 10)
    return NodeView(node.name, node.flags, node.reason, "root", 0, registration)


def _is_out(view: NodeView) -> bool:
    if view.flags & {"DOWN", "NOT_RESPONDING"}:
        return True
    return "DRAIN" in view.flags and view.reason.split(" ")[0] not in {"reboot", "reconfigure"}


def _serves(node: Node) -> bool:
    return not node.flags & {"DRAIN", "DOWN"}
