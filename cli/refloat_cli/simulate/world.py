# SPDX-License-Identifier: Apache-2.0
"""The simulated world: one clock that jumps from event to event, slurmctld, the nodes, and the real coordinator's loop.

The coordinator takes a turn at a fixed pace: the feed tells what changed, its loop decides, and its errands are carried
out. Between two turns nodes act at their exact times.
"""

import math
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from refloat_agent.config import AgentSettings
from refloat_cli.simulate.course import Course
from refloat_cli.simulate.inventory import Inventory, Mix
from refloat_cli.simulate.memory import MemoryLedger
from refloat_cli.simulate.node import Content, Fate, SimulatedNode, Site
from refloat_cli.simulate.plan import Plan, Share, count_of
from refloat_cli.spec import taken
from refloat_contract import topics
from refloat_contract.errors import Misconfigured
from refloat_contract.messages import Order, decode
from refloat_contract.reasons import Dialect
from refloat_contract.topics import Kind, Topics
from refloat_contract.words import Turn, WaveState
from refloat_coordinator.bus import Inbox
from refloat_coordinator.feed import view_of
from refloat_coordinator.fleet import Read
from refloat_coordinator.hands import Hands
from refloat_coordinator.loop import Loop, Ports
from refloat_coordinator.operators.desk import Desk
from refloat_coordinator.questions import free_at
from refloat_coordinator.waves.blocker import AskBlocker, BlockerAnswer
from refloat_coordinator.waves.decisions import Question
from refloat_coordinator.waves.wave import PauseCause, Wave
from refloat_service.mqtt import Publication
from refloat_slurm.gateway import Change, NodeView
from refloat_slurm.simulated import Rules, SimulatedGateway, SimulatedSlurmctld
from refloat_slurm.simulated.agenda import Agenda

_TURN_S: Final = 5.0
"""How often the coordinator looks at first, as a real one does."""
_NODE_TURNS: Final = 1_000_000
_FEW_TURNS: Final = 100
"""A simulation that lasts looks ever more rarely: half as often after so many turns, times nodes, but not fewer."""
_REST_S: Final = 0.5
"""Waves are decided once in a turn; what nodes ask for meanwhile is answered at once."""
_QUIET_S: Final = 60.0
"""Where nothing has happened that a coordinator acts on, only its deadlines can move it: so often is enough."""
_SCHEDULE_S: Final = 30.0
"""Slurm's default between two passes of its backfill scheduler."""
_SLURMD_TIMEOUT_S: Final = 300.0
_BACKLOG: Final = 100
"""Users who see so many jobs wait submit no more; Slurm's backfill looks at as many."""

_ENDED: Final = frozenset({Turn.DONE, Turn.HELD, Turn.SKIPPED})
_PASSING: Final = frozenset({PauseCause.SLURM, PauseCause.ABORT})
"""Pauses that end by themselves; at any other a human must look, and the simulation is over."""

Progress = Callable[[float], None]
"""Told how much of the wave is over, from 0 to 1."""


@dataclass(slots=True)
class _Clock:
    """The coordinator's clock."""

    agenda: Agenda

    def now(self) -> float:
        return self.agenda.now

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - nothing in a simulation waits
        raise AssertionError("nothing in a simulation waits")


@dataclass(slots=True)
class World:
    """A cluster in virtual time; `run` takes it through the plan's wave."""

    plan: Plan
    inventory: Inventory
    mix: Mix
    reads: int = 0
    writes: int = 0
    reboots: int = 0
    turns: int = 0
    turn_s: float = field(init=False)
    slurmctld: SimulatedSlurmctld = field(init=False)
    nodes: dict[str, SimulatedNode] = field(init=False)
    course: Course = field(init=False)
    wave: Wave | None = None
    _agenda: Agenda = field(init=False)
    _chance: random.Random = field(init=False)
    _ledger: MemoryLedger = field(init=False)
    _inbox: Inbox = field(init=False)
    _loop: Loop = field(init=False)
    _desk: Desk = field(init=False)
    _hands: Hands = field(init=False)
    _topics: Topics = field(default_factory=lambda: Topics("simulated"))
    _posted: list[Publication] = field(default_factory=list)
    _asked: list[Question] = field(default_factory=list)
    _changed: dict[str, NodeView] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Bring all of it up; jobs that ran in the dump run on."""
        plan, names = self.plan, self.inventory.names
        self._chance = random.Random(plan.seed)  # noqa: S311 - a simulation that can be repeated
        self._agenda = agenda = Agenda(_start(plan))
        self.turn_s = plan.turn_s or _TURN_S
        rules = Rules(slurmd_timeout_s=_SLURMD_TIMEOUT_S, schedule_s=_SCHEDULE_S)
        self.slurmctld = SimulatedSlurmctld(names, rules=rules, now=self.now, clock=lambda: agenda.now, log_limit=0)
        self.course = Course(self.now)
        self._build_coordinator()
        self._build_nodes()
        self._place_jobs()
        self._submit()

    @property
    def now(self) -> float:
        """Seconds since 1970, in virtual time."""
        return self._agenda.now

    def new_boot_id(self) -> str:
        """An id that no boot had yet."""
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something so many seconds from now."""
        self._agenda.after(seconds, action)

    def tell(self, content: Content) -> None:
        """Send a message to the coordinator."""
        self._inbox.put(content, _nothing)

    def noted(self, node: SimulatedNode) -> None:
        """Keep the course up to date with what a node is at."""
        self.course.put(node, self.now)

    # Running

    async def run(self, progress: Progress = lambda _done: None) -> None:
        """Warm up, start the wave, and go on until it has ended or its time is up.

        Raises:
            Misconfigured: the wave's spec is wrong.
        """
        began_at = self.now
        await self._until(began_at + self.plan.warm_up_s, lambda: False)
        await self._turn()
        self.course.begin(self.now)
        spec = {"nodes": self.inventory.hostlist, **taken(self.plan.wave)}
        started = await self._desk.wave_start({"spec": spec})
        self._follow(started.id)
        await self._until(began_at + self.plan.until_s, lambda: self._is_over(progress))
        self._follow(started.id)
        self.course.end(self.now)

    async def _until(self, at: float, is_over: Callable[[], bool]) -> None:
        due_at, looked_at = self.now, -math.inf
        while due_at < at and not is_over():
            for happen in self._agenda.until(due_at):
                happen()
            if self._is_due() or self.now - looked_at >= _QUIET_S:
                await self._turn()
                looked_at = self.now
            due_at = self.now + self.turn_s

    def _is_due(self) -> bool:
        """Whether anything happened that the coordinator acts on; jobs that come and go are not."""
        self.slurmctld.tick()
        self._changed.update(self.slurmctld.take_stirred())
        if len(self._inbox):
            return True
        return any(_serves(view) != _serves(self.nodes[name].view) for name, view in self._changed.items())

    def _is_over(self, progress: Progress) -> bool:
        if self.wave is None:
            raise AssertionError("the wave was started")
        self._follow(self.wave.id)
        wave = self.wave
        if self.turns % 50 == 0:
            progress(len(wave.with_turn(*_ENDED)) / len(wave.members))
        return wave.is_ended or (wave.state is WaveState.PAUSED and wave.pause not in _PASSING)

    def _follow(self, wave_id: str) -> None:
        self.wave = self._loop.waves.get(wave_id) or self._ledger.waves[wave_id]

    async def _turn(self) -> None:
        """What the coordinator does in one period: read, decide, write, tell."""
        self.turns += 1
        self._slow_down()
        self.slurmctld.tick()
        changed = {**self._changed, **self.slurmctld.take_stirred()} if self.turns > 1 else self.slurmctld.views()
        self._changed = {}
        self._loop.observe(Read(self.now, tuple(view_of(view, 1, self.turns) for view in changed.values())))
        while True:
            for errand in await self._loop.step():
                self.writes += 1
                await self._hands.perform(errand)
            self._deliver()
            if not self._answer() and not len(self._inbox):
                break
        for name, view in changed.items():
            node = self.nodes[name]
            if node.up:
                node.shown(view)
            self.course.put(node, self.now)
        self.course.sample(self.now)

    def _slow_down(self) -> None:
        if not self.plan.turn_s and self.turns % max(_FEW_TURNS, _NODE_TURNS // len(self.nodes)) == 0:
            self.turn_s *= 2

    def _deliver(self) -> None:
        posted, self._posted = self._posted, []
        for publication in posted:
            address = topics.parse(publication.topic)
            if address.kind is Kind.ORDER:
                node = self.nodes[address.name]
                if node.up:
                    node.ordered(decode(Order, publication.payload))

    def _answer(self) -> bool:
        """Answer what the wave has asked; a simulation runs no command, so its blocker lets all nodes go."""
        asked = tuple(self._asked)
        self._asked.clear()
        for question in asked:
            if isinstance(question, AskBlocker):
                self._loop.hear_blocker(question.wave, BlockerAnswer(frozenset(question.nodes), self.now))
            else:
                self._loop.hear_jobs(free_at(self.slurmctld.all_jobs()), self.now)
        return bool(asked)

    def _submit(self) -> None:
        """Users keep so many nodes busy, as far as there are any; what a dump left in the queue comes first."""
        self.slurmctld.tick()
        serving = len(self.nodes) - self.slurmctld.out
        short = self.mix.load * serving - (serving - self.slurmctld.idle)
        waiting = self.slurmctld.jobs_waiting
        while short > 0 and waiting < _BACKLOG:
            job = self.mix.draw(self._chance)
            nodes = min(job.nodes, max(1, len(self.nodes) // 4))
            self.slurmctld.submit(job.seconds, nodes=nodes, limit_s=job.limit_s)
            short -= nodes
            waiting += 1
        self.later(_SCHEDULE_S, self._submit)

    # Building

    def _build_coordinator(self) -> None:
        clock, dialect = _Clock(self._agenda), Dialect()
        self._ledger = MemoryLedger()
        self._inbox = Inbox(clock, _nothing)
        ports = Ports(self._ledger, clock, self._posted_now, _nothing, ask=self._asked.append)
        limits = self.plan.limits
        self._loop = Loop(
            ports,
            self._inbox,
            self._topics,
            epoch=1,
            limits=limits.limits(),
            dialect=dialect,
            loops=limits.loops(),
            rest_s=_REST_S,
        )
        self._loop.rule(self.plan.rules(self.inventory.names))
        gateway = SimulatedGateway(self.slurmctld, sleep=_no_time)
        self._desk = Desk(self._loop, self._ledger, clock, gateway)
        self._hands = Hands(gateway, dialect, self._loop.orders.poke)

    def _posted_now(self, publication: Publication) -> None:
        self._posted.append(publication)

    def _build_nodes(self) -> None:
        plan, names = self.plan, list(self.inventory.names)
        settings = AgentSettings.model_validate({"mode": "act", "mqtt": {"host": "localhost"}})
        image = str(plan.wave.get("image", ""))
        site = Site(settings, settings.policy(), image)
        gone = _drawn(self._chance, names, plan.faults.never_return)
        failing = _drawn(self._chance, names, plan.faults.fail_check)
        self.nodes = {}
        for name in names:
            fate = self._fate(returns=name not in gone, passes=name not in failing)
            node = SimulatedNode(name, site, fate, self)
            node.image = "before"
            self.nodes[name] = node
        for name, reason in self.inventory.out.items():
            self.slurmctld.update(name, Change.DRAIN, reason)
        for name in self.inventory.silent:
            self.slurmctld.update(name, Change.DOWN, self.inventory.out.get(name, "Not responding"))
            self.nodes[name].up = False
        for name, view in self.slurmctld.views().items():
            node = self.nodes[name]
            node.view = view
            if node.up:
                node.announce()

    def _fate(self, *, returns: bool, passes: bool) -> Fate:
        times, chance = self.plan.times, self._chance

        def draw(seconds: float) -> float:
            return seconds * chance.uniform(1 - times.spread, 1 + times.spread)

        return Fate(
            shutdown_s=draw(times.shutdown_s),
            boot_s=draw(times.boot_s),
            unmount_s=draw(times.unmount_s),
            mount_s=draw(times.mount_s),
            check_s=draw(times.check_s),
            returns=returns,
            passes=passes,
        )

    def _place_jobs(self) -> None:
        ratio = self.mix.ratio
        for job in self.inventory.running:
            left = self.mix.left(job, self._chance) if ratio else job.left_s
            self.slurmctld.place(left, job.on, limit_s=job.left_s)
        for waiting in self.inventory.pending:
            drawn = self.mix.run_time(waiting.limit_s, self._chance)
            self.slurmctld.submit(drawn, nodes=waiting.nodes, limit_s=waiting.limit_s)
        if not self.inventory.running and not self.inventory.pending:
            self._fill()
        for node in self.nodes.values():
            node.view = self.slurmctld.view(node.name)
            self.course.put(node, self.now)

    def _fill(self) -> None:
        """Jobs that run already, in the middle of their time, where no dump says which there are."""
        free = [name for name in self.inventory.names if name not in self.inventory.out]
        self._chance.shuffle(free)
        wanted = len(free) * (1 - self.mix.load)
        while len(free) > wanted:
            job = self.mix.draw(self._chance)
            on = [free.pop() for _ in range(min(job.nodes, len(free)))]
            self.slurmctld.place(job.seconds, on, limit_s=job.limit_s)


def _start(plan: Plan) -> float:
    if not plan.start:
        return float(int(datetime.now().astimezone().timestamp()))
    try:
        return datetime.fromisoformat(plan.start).astimezone().timestamp()
    except ValueError as error:
        raise Misconfigured(f"start: {plan.start!r} is no time; write it like 2026-11-23T20:00") from error


def _drawn(chance: random.Random, names: list[str], share: Share) -> frozenset[str]:
    return frozenset(chance.sample(names, count_of(share, len(names))))


def _serves(view: NodeView | None) -> bool:
    return view is not None and "DRAIN" not in view.flags and "DOWN" not in view.flags


async def _no_time(_seconds: float) -> None:
    """Slurm answers at once."""


def _nothing() -> None:
    """There is nobody to acknowledge to, and nobody to wake."""
