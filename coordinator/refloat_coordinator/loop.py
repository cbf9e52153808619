# SPDX-License-Identifier: Apache-2.0
"""The loop: observe, decide (pure), save, perform. Nothing else in the coordinator changes a wave or a permit."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from refloat_contract.errors import Refused, Transient
from refloat_contract.messages import Event, NodeStatus, Order, Request, WaveReport, encode
from refloat_contract.reasons import Dialect
from refloat_contract.topics import Kind, Topics
from refloat_contract.words import EventKind, OrderKind, Purpose, RequestKind
from refloat_coordinator import fleet as fleets
from refloat_coordinator.bus import Arrival, Inbox
from refloat_coordinator.clock import Clock
from refloat_coordinator.fleet import Fact, Fleet
from refloat_coordinator.permits import breaker as breakers
from refloat_coordinator.permits import grants as permit_rules
from refloat_coordinator.permits import leaves as leave_rules
from refloat_coordinator.permits.breaker import Breaker, Incident, Trip
from refloat_coordinator.permits.budget import Limit
from refloat_coordinator.permits.grants import Denial, Grant, Loops
from refloat_coordinator.permits.groups import Groups
from refloat_coordinator.permits.leaves import Leaves
from refloat_coordinator.permits.permit import Permit
from refloat_coordinator.permits.rooms import Rooms
from refloat_coordinator.permits.rules import Rules
from refloat_coordinator.record.ledger import Ledger
from refloat_coordinator.waves import chronicle
from refloat_coordinator.waves import moves as wave_moves
from refloat_coordinator.waves import wave as wave_rules
from refloat_coordinator.waves.blocker import AskBlocker, BlockerAnswer
from refloat_coordinator.waves.decisions import AskJobs, EndJobs, Errand, Question, Tell
from refloat_coordinator.waves.wave import Described, Wave
from refloat_coordinator.waves.world import Settled, World
from refloat_service.mqtt import Publication

log = structlog.get_logger(__name__)

TICK_S: Final = 1.0
_BATCH: Final = 5000
_REST: Final = 4.0
"""A wave over thousands of nodes is dear to decide, and can wait; an agent that asks for a permit cannot."""
_COUNTED: Final = 100_000
_FOLLOWER_BACKLOG: Final = 10_000
_NO_MORE_THAN: Final = Loops()
_TRIP: Final = Trip()
_ANSWERS_PER_S: Final = 200.0
"""Who is denied comes again spread by this, so that thousands do not come at once."""
_JOBS_ENDED_AGAIN_S: Final = 60.0
"""Jobs that were told to end are told again after so long."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What the loop reaches the world through: the disk, time, and a mailbox."""

    ledger: Ledger
    clock: Clock
    post: Callable[[Publication], None]
    recorded: Callable[[], None]
    """Called when the ledger has new events."""
    leads: Callable[[], bool] = lambda: True
    """Whether nobody else can lead yet."""
    ask: Callable[[Question], None] = lambda _question: None
    """Ask what a wave has to know before it can go on; asked again while it is not answered."""


class Loop:
    """The state of the coordinator, and the one place that changes it."""

    def __init__(
        self,
        ports: Ports,
        inbox: Inbox,
        topics: Topics,
        *,
        epoch: int,
        limits: tuple[Limit, ...],
        dialect: Dialect,
        idle_checks_at_once: int = 0,
        loops: Loops = _NO_MORE_THAN,
        trip: Trip = _TRIP,
        rest_s: float = 0.0,
    ) -> None:
        """``rest_s`` is the least time between two decisions about waves."""
        self.fleet = Fleet(dialect=dialect)
        self.waves: dict[str, Wave] = {}
        self.permits: dict[str, Permit] = {}
        self.rules = Rules(limits)
        self.budget = self.rules.budget(())
        self.breaker = Breaker(trip)
        self.free_at: Mapping[str, float] = {}
        """When the last job of each node ends, as Slurm said at ``jobs_at``."""
        self.jobs_at = 0.0
        self.loops = loops
        self.leaves = Leaves(idle_checks_at_once, since=ports.clock.now())
        self.trouble = ""
        """Why nothing can be saved now; empty while all is well."""
        self.stepped_at = ports.clock.now()
        self._ports = ports
        self._inbox = inbox
        self._topics = topics
        self._epoch = epoch
        self._rest_s = rest_s
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._facts: deque[Fact] = deque()
        self._reports: dict[str, WaveReport] = {}
        self._tried: dict[tuple[str, str], int] = {}
        self._settled: dict[str, Settled] = {}
        self._described: dict[str, Described] = {}
        self._ended: dict[tuple[str, str], float] = {}
        self._answers: dict[str, BlockerAnswer] = {}
        self._waves_rest_until = 0.0
        self._followers: set[asyncio.Queue[Event]] = set()
        self._orders = 0
        self._last_ns = 0
        self._has_looked_at_checks = False

    @property
    def limits(self) -> tuple[Limit, ...]:
        """How many nodes may be out."""
        return self.budget.limits

    @property
    def groups(self) -> Groups:
        """Which nodes share a rack, a partition and the like."""
        return self.budget.groups

    def rule(self, rules: Rules) -> None:
        """Decide by these rules from now on."""
        self.rules = rules
        self._set_budget()

    def _set_budget(self) -> None:
        before = self.budget.warnings
        self.budget = self.rules.budget(self.fleet.known)
        for warning in self.budget.warnings:
            if warning not in before:
                log.warning("limit_binds_nothing", why=warning)

    async def load(self) -> None:
        """Take up what the last run left: waves, permits, and the cycles that ended well meanwhile."""
        ledger = self._ports.ledger
        self.permits = await ledger.load_permits()
        self.breaker = breakers.taken_up(self.breaker.trip, await ledger.load_incidents())
        self.waves = {wave.id: wave for wave in await ledger.load_waves(ended=False)}
        if self.waves:
            done = await ledger.events(kinds=[EventKind.RESUMED], waves=list(self.waves), limit=_BATCH * 20)
            self.fleet = fleets.fold(self.fleet, [fleets.Told(event) for event in done], self._ports.clock.now())
        for wave in self.waves.values():
            log.info("wave_taken_up", wave=wave.id, state=wave.state)

    def wake(self) -> None:
        """There is something new."""
        self._news.set()

    def observe(self, fact: Fact) -> None:
        """Take in what the feed read."""
        self._facts.append(fact)
        self.wake()

    def hear_blocker(self, wave: str, answer: BlockerAnswer) -> None:
        """Take in what a wave's blocker said."""
        self._answers[wave] = answer
        self._waves_rest_until = 0.0
        self.wake()

    def hear_jobs(self, free_at: Mapping[str, float], at: float) -> None:
        """Take in when the last job of each node ends, as Slurm said; empty where it did not answer."""
        self.free_at, self.jobs_at = free_at or self.free_at, at
        self._waves_rest_until = 0.0
        self.wake()

    async def note(self, event: Event) -> None:
        """Put an event of the coordinator's own into the record.

        Raises:
            Transient: it cannot be saved now.
        """
        await self._record([self._stamped(event)])

    async def run(self, perform: Callable[[Errand], None]) -> None:
        """Step until cancelled: at once when something is new, else once a tick. ``perform`` must not wait."""
        while True:
            began_at = self._ports.clock.now()
            for order in await self.step():
                perform(order)
            # While a step is dear (thousands of nodes), what arrives meanwhile is taken together.
            await asyncio.sleep(min(self._ports.clock.now() - began_at, TICK_S / 2))
            try:
                async with asyncio.timeout(TICK_S):
                    await self._news.wait()
            except TimeoutError:
                pass  # a tick: deadlines pass without anything new
            self._news.clear()

    async def step(self) -> list[Errand]:
        """One turn; answers with what is to be done to Slurm, all of which is saved."""
        async with self._lock:
            if not self._ports.leads():
                self.stepped_at = self._ports.clock.now()
                self._say_trouble("the lease could not be renewed in time, so another coordinator may lead")
                return []
            arrivals = self._inbox.take(_BATCH)
            try:
                orders = await self._turn(arrivals)
            except Transient as error:
                self._inbox.put_back(arrivals)
                self._say_trouble(str(error))
                return []
            finally:
                self.stepped_at = self._ports.clock.now()
            self._say_trouble("")
            for arrival in arrivals:
                arrival.acknowledge()
            if len(self._inbox):
                self.wake()
            return orders

    def wants(self, order: Errand) -> bool:
        """Whether an order that waited for its turn still stands."""
        wave = self.waves.get(order.wave)
        return wave is not None and wave_moves.stands(order, wave, self.world(wave), self._ports.clock.now())

    async def change(
        self, wave_id: str, change: Callable[[Wave, Fleet, float], Wave], kind: EventKind, by: str = "", what: str = ""
    ) -> WaveReport:
        """Change a wave as an operator asked, and save that together with who it was.

        Raises:
            Refused: there is no such wave, or ``change`` says no.
            Transient: it cannot be saved now.
        """
        async with self._lock:
            wave = self.waves.get(wave_id)
            if wave is None:
                raise Refused(f"no wave {wave_id} is under way (`refloat wave list` names them)")
            now = self._ports.clock.now()
            changed = change(wave, self.fleet, now)
            if changed == wave:
                return self.report(wave)
            changed = changed.but(steered=wave.steered + 1, pauses_told=changed.pauses)
            told = self._stamped(chronicle.steered(changed, kind, by, what, now))
            await self._ports.ledger.save([changed], [told])
            self._announce([told])
            self.waves[wave_id] = changed
            self._waves_rest_until = 0.0
            self._answers.pop(wave_id, None)  # whoever changes a wave wants to know what stands in its way now
            self._forget_tries(wave_id)
            self.wake()
            log.info("wave_changed", wave=wave_id, state=changed.state, why=changed.why, kind=kind, by=by)
            return self._publish_report(changed)

    async def start(self, wave: Wave) -> WaveReport:
        """Begin a wave.

        Raises:
            Refused: another one is about some of its nodes.
            Transient: it cannot be saved now.
        """
        async with self._lock:
            conflict = self.conflict(wave)
            if conflict:
                raise Refused(conflict)
            await self._ports.ledger.save([wave])
            self.waves[wave.id] = wave
            self._waves_rest_until = 0.0
            self.wake()
            log.info("wave_started", wave=wave.id, nodes=wave.spec.nodes, recipe=wave.spec.recipe)
            return self._publish_report(wave)

    def conflict(self, wave: Wave) -> str:
        """Which other wave is about some of its nodes: two never fight over one. Empty where none is."""
        for other in self.waves.values():
            shared = sorted(wave.nodes & other.nodes) if not other.is_ended else []
            if shared:
                more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
                return f"wave {other.id} is about {shared[0]}{more} already: wait for its end, or abort it"
        return ""

    def world(self, wave: Wave, waves: Mapping[str, Wave] | None = None) -> World:
        """What a wave is decided by, all other waves being as they are in ``waves`` (or now)."""
        others = self.waves if waves is None else waves
        settled = self._settled.setdefault(wave.id, Settled()) if wave.id in self.waves else Settled()
        return World(
            self.fleet,
            self.permits,
            self.limits,
            wave_moves.reserved(others.values(), wave.id),
            settled,
            groups=self.groups,
            free_at=self.free_at,
            jobs_at=self.jobs_at,
            answer=self._answers.get(wave.id),
        )

    def report(self, wave: Wave) -> WaveReport:
        """The wave as it is told."""
        described = self._described.setdefault(wave.id, {}) if wave.id in self.waves else None
        return wave_rules.report(wave, self.fleet, described)

    def publish_all(self) -> None:
        """Tell every wave again: the broker is another one, or lost what it kept."""
        self._reports.clear()
        self.wake()

    def follow(self) -> asyncio.Queue[Event]:
        """A queue that gets every new event from now on; give it back to `unfollow`."""
        queue: asyncio.Queue[Event] = asyncio.Queue(_FOLLOWER_BACKLOG)
        self._followers.add(queue)
        return queue

    def unfollow(self, queue: asyncio.Queue[Event]) -> None:
        """No longer fill this queue."""
        self._followers.discard(queue)

    async def _turn(self, arrivals: Collection[Arrival]) -> list[Errand]:
        now = self._ports.clock.now()
        contents = [arrival.content for arrival in arrivals]
        await self._record([content for content in contents if isinstance(content, Event)])
        facts: list[Fact] = [self._facts.popleft() for _ in range(len(self._facts))]
        for content in contents:
            if isinstance(content, NodeStatus):
                facts.append(fleets.Heard(content))
            elif isinstance(content, Event):
                facts.append(fleets.Told(content))
        known = self.fleet.known
        if facts:
            self.fleet = fleets.fold(self.fleet, facts, now)
        if known is not self.fleet.known and known != self.fleet.known:
            self._set_budget()
        requests = [content for content in contents if isinstance(content, Request)]
        await self._watch_checks(
            [content.node for content in contents if isinstance(content, NodeStatus)], requests, now
        )
        await self._permits(requests, now)
        if now < self._waves_rest_until:
            return []
        orders = await self._waves(now)
        after = self._ports.clock.now()
        self._waves_rest_until = after + max(self._rest_s, _REST * (after - now))
        return orders

    async def _record(self, events: list[Event]) -> None:
        if events:
            self._announce(await self._ports.ledger.record(events))

    def _announce(self, events: Collection[Event]) -> None:
        if events:
            self._ports.recorded()
        for queue in self._followers:
            for event in events:
                if not queue.full():  # a reader this slow asks the ledger
                    queue.put_nowait(event)

    async def _watch_checks(self, heard: Iterable[str], requests: Iterable[Request], now: float) -> None:
        """Open and close incidents, before anybody is let go out for one."""
        if not self.fleet.reads:
            return  # who is out already is not known yet
        names = dict.fromkeys(heard) if self._has_looked_at_checks else self.fleet.nodes
        nodes = [self.fleet.node(name) for name in names]
        out = permit_rules.out(self.fleet, self.permits) if nodes or requests else {}
        asked = [(request, self.fleet.node(request.node)) for request in requests]
        after = breakers.heard(self.breaker, nodes, asked, out, now)
        after, moved = breakers.judged(after, self.fleet, self.permits, now)
        await self._save_incidents(moved, now)
        self.breaker, self._has_looked_at_checks = after, True

    async def _save_incidents(self, moved: Collection[Incident], now: float) -> None:
        if not moved:
            return
        told = [self._stamped(breakers.told(one, now)) for one in moved]
        await self._ports.ledger.save(events=told, incidents=moved)
        self._announce(told)
        for event in told:
            log.warning(str(event.kind), why=event.message)

    async def close_incident(self, name: str, by: str) -> Incident:
        """Close an incident of the breaker, as somebody asked.

        Raises:
            Refused: no such incident is open.
            Transient: it cannot be saved now.
        """
        async with self._lock:
            now = self._ports.clock.now()
            after, done = breakers.closed(self.breaker, name, by, now)
            await self._save_incidents([done], now)
            self.breaker = after
            return done

    async def _permits(self, requests: Collection[Request], now: float) -> None:
        before = self.permits
        after = dict(before)
        for node, sign in permit_rules.ended(self.fleet, after).items():
            del after[node]
            log.info("permit_ended", node=node, why=sign)
        rooms = Rooms(self.fleet, after, self.budget, now, self._limits_of)
        looped = await self._looped(requests)
        answers = []
        for request in requests:
            if request.purpose is Purpose.IDLE:
                self._answer_idle(request, now)
            else:
                answers.append((request, self._answer(request, rooms, after, looped.get(request, ""), now)))
        changed = [permit for node, permit in after.items() if before.get(node) is not permit]
        gone = [node for node in before if node not in after]
        if changed or gone:
            await self._ports.ledger.save_permits(changed, gone)
        self.permits = after
        denied = 0
        for request, answer in answers:
            if isinstance(answer, Denial):
                self._send(request, answer.why, answer.retry_after_s + denied / _ANSWERS_PER_S)
                denied += 1
            elif answer is not None:
                self._send(request, None)

    async def _looped(self, requests: Iterable[Request]) -> dict[Request, str]:
        """Why the remedies of nodes may not be tried once more, by what the record knows of them."""
        asked = [r for r in requests if r.cause and r.kind is RequestKind.PERMIT and r.purpose is Purpose.CYCLE]
        if not asked:
            return {}
        told: dict[str, list[Event]] = {}
        nodes = {request.node for request in asked}
        for event in await self._ports.ledger.events(nodes=nodes, kinds=permit_rules.COUNTED, limit=_COUNTED):
            told.setdefault(event.node, []).append(event)
        return {r: why for r in asked if (why := permit_rules.looped(told.get(r.node, ()), r, self.loops))}

    def _answer_idle(self, request: Request, now: float) -> None:
        self.leaves, why = leave_rules.answer(self.leaves, request.node, request.kind, now)
        if request.kind is RequestKind.PERMIT:
            self._send(request, why, leave_rules.RETRY_AFTER_S)

    def _answer(
        self, request: Request, rooms: Rooms, permits: dict[str, Permit], looped: str, now: float
    ) -> Grant | Denial | None:
        held = permits.get(request.node)
        if request.kind is RequestKind.RELEASE:
            if held is not None and permit_rules.is_released(held, request):
                del permits[request.node]
                rooms.give_back(held)
            return None
        if not permit_rules.is_held(held, request):
            if why := wave_moves.objection(self.waves.values(), request) or looped:
                return Denial(why)
            if why := breakers.objection(self.breaker, request, self.fleet.node(request.node)):
                return Denial(why, breakers.RETRY_AFTER_S)
        answer = permit_rules.decide(self.fleet, rooms, permits, request, now)
        if isinstance(answer, Grant) and answer.is_new:
            permits[request.node] = answer.permit
            rooms.take(answer.permit)
        return answer

    def rooms(self, now: float) -> Rooms:
        """What every limit leaves now."""
        return Rooms(self.fleet, self.permits, self.budget, now, self._limits_of)

    def _limits_of(self, wave_id: str) -> tuple[Limit, ...]:
        wave = self.waves.get(wave_id)
        return wave_moves.limits_of(wave, self.groups) if wave else ()

    def poke(self, node: str) -> None:
        """Tell a node's agent to look at Slurm now: it was just marked, and the feed is up to a period behind."""
        self._orders += 1
        order = Order(id=f"{self._epoch}-{self._orders}", node=node, kind=OrderKind.POKE, epoch=self._epoch)
        self._ports.post(Publication(self._topics.node(node, Kind.ORDER), encode(order)))

    def _send(self, request: Request, denied: str | None, retry_after_s: float = 0.0) -> None:
        """Grant what is asked for, or say why not."""
        self._orders += 1
        granted = denied is None
        order = Order(
            id=f"{self._epoch}-{self._orders}",
            node=request.node,
            kind=OrderKind.GRANT if granted else OrderKind.DENY,
            epoch=self._epoch,
            request=request.id,
            cycle=request.cycle,
            why=denied or "",
            retry_after_s=retry_after_s,
        )
        log.info("permit_answered", node=request.node, cycle=request.cycle, granted=granted, why=order.why)
        self._ports.post(Publication(self._topics.node(request.node, Kind.ORDER), encode(order)))

    async def _waves(self, now: float) -> list[Errand]:
        changed: dict[str, Wave] = {}
        told: list[Event] = []
        orders: list[Errand] = []
        questions: list[Question] = []
        before = self.waves
        current = dict(before)
        for wave in list(current.values()):
            after, decisions = wave_moves.decide(wave, self.world(wave, current), now)
            if after != wave:
                current[wave.id] = changed[wave.id] = after
            told += [self._stamped(d.event) for d in decisions if isinstance(d, Tell)]
            orders += [d for d in decisions if not isinstance(d, Tell | AskBlocker | AskJobs)]
            questions += [d for d in decisions if isinstance(d, AskBlocker | AskJobs)]
        if changed or told:
            await self._ports.ledger.save(changed.values(), told)
            self._announce(told)
        self.waves = {wave.id: wave for wave in current.values() if not wave.is_ended}
        for wave in current.values():
            self._log_move(before[wave.id], wave)
            self._publish_report(wave)
        for question in questions:
            self._ports.ask(question)
        return [order for order in orders if self._is_due(order)]

    def _is_due(self, order: Errand) -> bool:
        """Once for each read of Slurm's table: the effect of the last try shows in the next."""
        key = (order.wave, order.node)
        if isinstance(order, EndJobs):
            now = self._ports.clock.now()
            if now - self._ended.get(key, 0.0) < _JOBS_ENDED_AGAIN_S:
                return False
            self._ended[key] = now
            return True
        if self._tried.get(key) == self.fleet.reads:
            return False
        self._tried[key] = self.fleet.reads
        return True

    def _forget_tries(self, wave_id: str) -> None:
        self._tried = {key: reads for key, reads in self._tried.items() if key[0] != wave_id}
        self._ended = {key: at for key, at in self._ended.items() if key[0] != wave_id}

    def _stamped(self, event: Event) -> Event:
        # Two points of one host and one time would be one point.
        self._last_ns = max(event.at_ns, self._last_ns + 1)
        return event.model_copy(update={"at_ns": self._last_ns})

    def _publish_report(self, wave: Wave) -> WaveReport:
        report = self.report(wave)
        if self._reports.get(wave.id) != report:
            self._ports.post(Publication(self._topics.wave(wave.id), encode(report), retain=True))
            self._reports[wave.id] = report
        if wave.is_ended:
            del self._reports[wave.id]
            self._forget_tries(wave.id)
            self._settled.pop(wave.id, None)
            self._described.pop(wave.id, None)
            self._answers.pop(wave.id, None)
        return report

    def _log_move(self, before: Wave, wave: Wave) -> None:
        if before is wave:
            return
        counts = wave_rules.counts(wave)
        if before.state is not wave.state or wave_rules.counts(before) != counts:
            named = {str(turn): count for turn, count in counts.items()}
            log.info("wave_moved", wave=wave.id, state=wave.state, why=wave.why, **named)

    def _say_trouble(self, why: str) -> None:
        if why and not self.trouble:
            log.error("ledger_cannot_save", why=why)
        if self.trouble and not why:
            log.info("ledger_saves_again")
        self.trouble = why
