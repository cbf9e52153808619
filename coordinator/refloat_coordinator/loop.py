# SPDX-License-Identifier: Apache-2.0
"""The loop: observe, decide (pure), save, perform. Nothing else in the coordinator changes a wave or a permit."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from refloat_contract.errors import Refused, Transient
from refloat_contract.messages import Event, NodeStatus, Request, WaveReport, encode
from refloat_contract.reasons import Dialect
from refloat_contract.topics import Topics
from refloat_contract.words import EventKind, Purpose, RequestKind
from refloat_coordinator import fleet as fleets
from refloat_coordinator.bus import Arrival, Inbox
from refloat_coordinator.clock import Clock
from refloat_coordinator.fleet import Fact, Fleet
from refloat_coordinator.orders import Orders
from refloat_coordinator.permits import breaker as breakers
from refloat_coordinator.permits import grants
from refloat_coordinator.permits import leaves as leave_rules
from refloat_coordinator.permits.breaker import Breaker, Incident, Trip
from refloat_coordinator.permits.budget import Limit
from refloat_coordinator.permits.grants import Denial, Grant, Loops
from refloat_coordinator.permits.groups import Groups
from refloat_coordinator.permits.leaves import Leaves
from refloat_coordinator.permits.permit import Permit
from refloat_coordinator.permits.rooms import Rooms
from refloat_coordinator.permits.rules import Rules
from refloat_coordinator.record.followers import Followers
from refloat_coordinator.record.ledger import Ledger
from refloat_coordinator.waves import chronicle, moves
from refloat_coordinator.waves import wave as wave_rules
from refloat_coordinator.waves.blocker import AskBlocker, BlockerAnswer
from refloat_coordinator.waves.decisions import AskJobs, Errand, Question, Tell
from refloat_coordinator.waves.memory import Memory
from refloat_coordinator.waves.wave import Wave
from refloat_coordinator.waves.world import World
from refloat_service.mqtt import Publication

log = structlog.get_logger(__name__)

TICK_S: Final = 1.0
_BATCH: Final = 5000
_REST: Final = 4.0
"""A wave over thousands of nodes is dear to decide, and can wait; an agent that asks for a permit cannot."""
_COUNTED: Final = 100_000
_NO_MORE_THAN: Final = Loops()
_TRIP: Final = Trip()
_ANSWERS_PER_S: Final = 200.0
"""Who is denied comes again spread by this, so that thousands do not come at once."""


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
        self.orders = Orders(ports.post, topics, epoch)
        self.followers = Followers()
        self._ports = ports
        self._inbox = inbox
        self._topics = topics
        self._rest_s = rest_s
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._facts: deque[Fact] = deque()
        self._memories: dict[str, Memory] = {}
        self._waves_rest_until = 0.0
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
        self._memory(wave).answer = answer
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
            for errand in await self.step():
                perform(errand)
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
                errands = await self._turn(arrivals)
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
            return errands

    def wants(self, errand: Errand) -> bool:
        """Whether an errand that waited for its turn still stands."""
        wave = self.waves.get(errand.wave)
        return wave is not None and moves.stands(errand, wave, self.world(wave), self._ports.clock.now())

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
            memory = self._memory(wave_id)
            memory.answer = None  # whoever changes a wave wants to know what stands in its way now
            memory.forget_tries()
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
        memory = self._memory(wave.id)
        return World(
            self.fleet,
            self.permits,
            self.limits,
            moves.reserved(others.values(), wave.id),
            memory.settled,
            groups=self.groups,
            free_at=self.free_at,
            jobs_at=self.jobs_at,
            answer=memory.answer,
        )

    def report(self, wave: Wave) -> WaveReport:
        """The wave as it is told."""
        return wave_rules.report(wave, self.fleet, self._memory(wave.id).described)

    def _memory(self, wave_id: str) -> Memory:
        """What is remembered of a wave; nothing is of one that is not under way."""
        return self._memories.setdefault(wave_id, Memory()) if wave_id in self.waves else Memory()

    def publish_all(self) -> None:
        """Tell every wave again: the broker is another one, or lost what it kept."""
        for memory in self._memories.values():
            memory.report = None
        self.wake()

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
        errands = await self._waves(now)
        after = self._ports.clock.now()
        self._waves_rest_until = after + max(self._rest_s, _REST * (after - now))
        return errands

    async def _record(self, events: list[Event]) -> None:
        if events:
            self._announce(await self._ports.ledger.record(events))

    def _announce(self, events: Collection[Event]) -> None:
        if events:
            self._ports.recorded()
            self.followers.tell(events)

    async def _watch_checks(self, heard: Iterable[str], requests: Iterable[Request], now: float) -> None:
        """Open and close incidents, before anybody is let go out for one."""
        if not self.fleet.reads:
            return  # who is out already is not known yet
        names = dict.fromkeys(heard) if self._has_looked_at_checks else self.fleet.nodes
        nodes = [self.fleet.node(name) for name in names]
        out = grants.out(self.fleet, self.permits) if nodes or requests else {}
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
        for node, sign in grants.ended(self.fleet, after).items():
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
                self.orders.answer(request, answer.why, answer.retry_after_s + denied / _ANSWERS_PER_S)
                denied += 1
            elif answer is not None:
                self.orders.answer(request, None)

    async def _looped(self, requests: Iterable[Request]) -> dict[Request, str]:
        """Why the remedies of nodes may not be tried once more, by what the record knows of them."""
        asked = [r for r in requests if r.cause and r.kind is RequestKind.PERMIT and r.purpose is Purpose.CYCLE]
        if not asked:
            return {}
        told: dict[str, list[Event]] = {}
        nodes = {request.node for request in asked}
        for event in await self._ports.ledger.events(nodes=nodes, kinds=grants.COUNTED, limit=_COUNTED):
            told.setdefault(event.node, []).append(event)
        return {r: why for r in asked if (why := grants.looped(told.get(r.node, ()), r, self.loops))}

    def _answer_idle(self, request: Request, now: float) -> None:
        self.leaves, why = leave_rules.answer(self.leaves, request.node, request.kind, now)
        if request.kind is RequestKind.PERMIT:
            self.orders.answer(request, why, leave_rules.RETRY_AFTER_S)

    def _answer(
        self, request: Request, rooms: Rooms, permits: dict[str, Permit], looped: str, now: float
    ) -> Grant | Denial | None:
        held = permits.get(request.node)
        if request.kind is RequestKind.RELEASE:
            if held is not None and grants.is_released(held, request):
                del permits[request.node]
                rooms.give_back(held)
            return None
        if not grants.is_held(held, request):
            if why := moves.objection(self.waves.values(), request) or looped:
                return Denial(why)
            if why := breakers.objection(self.breaker, request, self.fleet.node(request.node)):
                return Denial(why, breakers.RETRY_AFTER_S)
        answer = grants.decide(self.fleet, rooms, permits, request, now)
        if isinstance(answer, Grant) and answer.is_new:
            permits[request.node] = answer.permit
            rooms.take(answer.permit)
        return answer

    def rooms(self, now: float) -> Rooms:
        """What every limit leaves now."""
        return Rooms(self.fleet, self.permits, self.budget, now, self._limits_of)

    def _limits_of(self, wave_id: str) -> tuple[Limit, ...]:
        wave = self.waves.get(wave_id)
        return moves.limits_of(wave, self.groups) if wave else ()

    async def _waves(self, now: float) -> list[Errand]:
        changed: dict[str, Wave] = {}
        told: list[Event] = []
        errands: list[Errand] = []
        questions: list[Question] = []
        before = self.waves
        current = dict(before)
        for wave in list(current.values()):
            after, decisions = moves.decide(wave, self.world(wave, current), now)
            if after != wave:
                current[wave.id] = changed[wave.id] = after
            told += [self._stamped(d.event) for d in decisions if isinstance(d, Tell)]
            errands += [d for d in decisions if not isinstance(d, Tell | AskBlocker | AskJobs)]
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
        return [one for one in errands if self._memory(one.wave).is_due(one, self.fleet.reads, now)]

    def _stamped(self, event: Event) -> Event:
        # Two points of one host and one time would be one point.
        self._last_ns = max(event.at_ns, self._last_ns + 1)
        return event.model_copy(update={"at_ns": self._last_ns})

    def _publish_report(self, wave: Wave) -> WaveReport:
        memory = self._memories.setdefault(wave.id, Memory())
        report = self.report(wave)
        if memory.report != report:
            self._ports.post(Publication(self._topics.wave(wave.id), encode(report), retain=True))
            memory.report = report
        if wave.is_ended:
            del self._memories[wave.id]
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
