# SPDX-License-Identifier: Apache-2.0
"""The composition root: settings become adapters, adapters become named tasks, and all of them end together."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from refloat_contract.errors import Misconfigured, RefloatError, Transient
from refloat_contract.messages import CoordinatorStatus, encode
from refloat_contract.topics import Topics
from refloat_coordinator import hands as hand_rules
from refloat_coordinator.bus import Inbox, deferring_link
from refloat_coordinator.clock import Clock, SteadyClock
from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.elsewhere import Elsewhere
from refloat_coordinator.feed import Feed
from refloat_coordinator.fleet import Read
from refloat_coordinator.group_sources import GroupSources
from refloat_coordinator.hands import EndedJob, Hands
from refloat_coordinator.leadership import Leadership
from refloat_coordinator.lease import Deposed
from refloat_coordinator.loop import Loop, Ports
from refloat_coordinator.metrics.http import HttpServer
from refloat_coordinator.operators import operations
from refloat_coordinator.operators.budget_desk import BudgetDesk
from refloat_coordinator.operators.desk import Desk
from refloat_coordinator.operators.over_mqtt import Operators
from refloat_coordinator.outgoing import Outgoing
from refloat_coordinator.questions import Questions
from refloat_coordinator.record.influx import Writer
from refloat_coordinator.record.ledger import Ledger
from refloat_coordinator.record.notifications import Notices, Target
from refloat_coordinator.record.outbox import Outbox
from refloat_coordinator.record.receivers import make_targets, make_writer
from refloat_coordinator.record.samples import Samples
from refloat_coordinator.vitals import Leading, Vitals
from refloat_coordinator.waves.decisions import EndJobs, Errand
from refloat_service import notify
from refloat_service.control import ControlServer
from refloat_service.mqtt import Publication
from refloat_service.notify import Notifier
from refloat_slurm.choose import choose
from refloat_slurm.gateway import ClusterGateway

log = structlog.get_logger(__name__)

T = TypeVar("T")
__version__: Final = version("refloat")

LEDGER_FILE: Final = "coordinator.sqlite"
_WRITES_AT_ONCE: Final = 8
_STALL_MARGIN_S: Final = 10.0


class Coordinator:
    """One coordinator; ``run`` it once. A gateway, clock or notifier that is given is used instead of the real one."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        *,
        gateway: ClusterGateway | None = None,
        clock: Clock | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        """Set when Slurm's table was asked for the first time."""
        self._settings = settings
        self._gateway = gateway
        self._clock = clock or SteadyClock()
        self._notifier = notifier or notify.from_environment()
        self._vitals = Vitals(self._clock, 2 * settings.ledger_deadline_s + _STALL_MARGIN_S)
        self._instance = secrets.token_hex(8)
        self._elsewhere = Elsewhere(self._instance, lease_s=settings.leadership.lease_s)
        self._stopping = asyncio.Event()
        self._waits_for = ""
        self._is_told = False
        self._when_deposed: Callable[[], None] = lambda: None

    def stop(self) -> None:
        """End `run` in order."""
        self._stopping.set()

    async def run(self) -> None:
        """Stand by, lead and stand by again, until `stop` or cancelled.

        Raises:
            RefloatError: what keeps it from going on: Misconfigured or Corrupt; Transient only at the start.
        """
        await asyncio.to_thread(_make_folder, self._settings.state_dir)
        beside = {}
        if address := self._settings.http.address():
            beside["http"] = HttpServer(*address, self._vitals.pages()).serve()
        try:
            await together(beside, self._terms())
        except BaseExceptionGroup as group:
            raise _first(group) from group
        finally:
            self._notifier.stopping("stopping")

    async def _terms(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._term()
            except BaseExceptionGroup as group:
                error = _first(group)
                if not isinstance(error, Deposed):
                    raise error from group
                log.error("leadership_lost", why=str(error))  # noqa: TRY400 - the sentence says it all

    async def _term(self) -> None:
        """Wait for the lease, lead while we have it, give it back."""
        settings = self._settings
        ledger = Ledger(
            settings.state_dir / LEDGER_FILE,
            max_events=settings.max_events,
            outbox=settings.influx.kind != "none",
            deadline_s=settings.ledger_deadline_s,
        )
        leadership = Leadership(
            ledger,
            self._elsewhere,
            settings.state_dir / "coordinator.lock",
            instance=self._instance,
            lease_s=settings.leadership.lease_s,
            standby=settings.leadership.standby,
            say=self._stand_by,
        )
        async with ledger:
            await ledger.lease()  # a file that cannot be read is told before anything is begun
            try:
                await self._candidacy(ledger, leadership)
            finally:
                await leadership.resign()

    async def _candidacy(self, ledger: Ledger, leadership: Leadership) -> None:
        beside = {"desk": self._standby_desk()}
        if self._notifier.watchdog_interval_s is not None:
            beside["watchdog"] = self._watchdog(self._notifier.watchdog_interval_s)
        epoch = await together(beside, self._unless_stopped(leadership.acquire()))
        if epoch is not None:
            self._waits_for = ""
            self._when_deposed = lambda: None
            rivals = self._leading(self._elsewhere.outranked(epoch))
            keeping = {"lease": self._leading(leadership.keep()), "rivals": rivals}
            await together(keeping, self._lead(ledger, leadership, epoch))

    async def _leading(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Deposed:
            self._when_deposed()
            raise

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    async def _until_stopped(self) -> None:
        await self._stopping.wait()

    async def _lead(self, ledger: Ledger, leadership: Leadership, epoch: int) -> None:
        writer = await asyncio.to_thread(make_writer, self._settings.influx)
        targets = await asyncio.to_thread(make_targets, self._settings.notify)
        gateway = self._gateway or await self._choose()
        try:
            await self._serve(
                _Parts(
                    self._settings, self._clock, ledger, leadership, self._elsewhere, epoch, gateway, writer, targets
                )
            )
        finally:
            if self._gateway is None:
                await gateway.aclose()
            if writer is not None:
                await writer.aclose()

    async def _standby_desk(self) -> None:
        """Tell whoever asks here who leads; on the leader's own machine the leader answers."""

        async def refuse(_arguments: Any) -> None:
            # Not a no: whoever watches a wave waits until a coordinator leads again.
            where = f"{self._waits_for}: ask there" if self._waits_for else "starting: ask again in a moment"
            raise Transient(f"this coordinator is {where}")

        commands = dict.fromkeys((name for name in {**vars(Desk), **vars(BudgetDesk)} if name[0] != "_"), refuse)
        mode, group = int(self._settings.socket_mode, 8), self._settings.socket_group or None
        with contextlib.suppress(Misconfigured):
            await ControlServer(self._settings.socket, commands, mode, group).serve()
        await asyncio.Event().wait()

    def _stand_by(self, waits_for: str) -> None:
        if waits_for != self._waits_for:
            log.info("standing_by", why=waits_for)
        self._waits_for = waits_for
        self._tell(waits_for)

    def _tell(self, text: str) -> None:
        if self._is_told:
            self._notifier.status(text)
        else:
            self._notifier.ready(text)
            self._is_told = True

    async def _choose(self) -> ClusterGateway:
        choice = await choose(self._settings.slurm.backend, deadline_s=self._settings.slurm.deadline_s)
        log.info("gateway_chosen", backend=choice.gateway.backend, why=choice.why)
        return choice.gateway

    async def _serve(self, parts: "_Parts") -> None:
        await together({"link": self._leading(parts.link.run())}, self._unless_stopped(self._act(parts)))
        log.info("coordinator_stopped")

    async def _act(self, parts: "_Parts") -> None:
        """Do a coordinator's work, once nobody else is heard to."""
        await self._elsewhere.clear(parts.epoch)
        parts.link.set_farewell(parts.gone)
        await parts.sources.begin()
        await parts.loop.load()
        log.info("coordinator_started", cluster=self._settings.cluster, epoch=parts.epoch, backend=parts.backend)
        works: dict[str, Coroutine[Any, Any, None]] = {
            "feed": self._feed(parts),
            "groups": parts.sources.run(
                self._clock.sleep, self._settings.limits.groups_reread_s, self._settings.feed.period_s
            ),
            "loop": parts.loop.run(parts.errands.put_nowait),
            "hands": self._hands(parts),
            "questions": parts.questions.run(),
            "outgoing": parts.outgoing.run(),
            "control": parts.control.serve(),
            "tally": self._vitals.tally(parts.loop),
            **parts.operators.works(),
        }
        if parts.outbox is not None:
            works["outbox"] = parts.outbox.run()
        if parts.writer is not None and self._settings.influx.sample_s:
            works["samples"] = Samples(
                self._vitals.fleet,
                parts.writer,
                self._clock,
                measurement=self._settings.influx.measurement,
                cluster=self._settings.cluster,
                period_s=self._settings.influx.sample_s,
            ).run()
        works |= {f"notify {notices.name}": notices.run() for notices in parts.notices}
        if self._notifier.watchdog_interval_s is not None:
            works["watchdog"] = self._watchdog(self._notifier.watchdog_interval_s)
        # A farewell says that nobody leads: not from one that another has taken the lease from.
        self._when_deposed = lambda: parts.link.set_farewell(None)
        self._vitals.leading = parts.leading()
        try:
            await together({name: self._leading(work) for name, work in works.items()}, self._until_stopped())
        finally:
            self._vitals.leading = None

    async def _feed(self, parts: "_Parts") -> None:
        while True:
            began_at = self._clock.now()
            fact = await parts.feed.read()
            parts.loop.observe(fact)
            await parts.feed.tell(slurm_ok=isinstance(fact, Read))
            self._say(parts.loop)
            await self._clock.sleep(self._rest_s(self._clock.now() - began_at))

    def _rest_s(self, took_s: float) -> float:
        # Slow reads leave slurmctld, and this daemon, half of their time; an outage must not be slept through.
        period_s = self._settings.feed.period_s
        return max(period_s - took_s, min(took_s, period_s))

    def _say(self, loop: Loop) -> None:
        trouble = loop.trouble or loop.fleet.slurm_why
        text = f"{len(loop.fleet.known)} nodes, {len(loop.permits)} permits, {len(loop.waves)} waves under way"
        text = f"{text}; {trouble}" if trouble else text
        self._tell(text)
        self.ready.set()

    async def _hands(self, parts: "_Parts") -> None:
        while True:
            errands = [await parts.errands.get()]
            while len(errands) < _WRITES_AT_ONCE and not parts.errands.empty():
                errands.append(parts.errands.get_nowait())
            # They waited: a wave may have been paused since.
            due = [errand for errand in errands if parts.loop.wants(errand)]
            await asyncio.gather(*(parts.hands.perform(errand) for errand in due))

    async def _watchdog(self, interval_s: float) -> None:
        while True:
            if self._vitals.is_alive():
                self._notifier.watchdog()
            await asyncio.sleep(interval_s)


class _Parts:
    """All parts of one run, put together."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        clock: Clock,
        ledger: Ledger,
        leadership: Leadership,
        elsewhere: Elsewhere,
        epoch: int,
        gateway: ClusterGateway,
        writer: Writer | None,
        targets: Mapping[str, Target],
    ) -> None:
        self._clock = clock
        self.epoch = epoch
        self.backend = gateway.backend
        self._ledger = ledger
        topics = Topics(settings.cluster)
        dialect = settings.reasons.dialect()
        me = CoordinatorStatus(
            online=False,
            epoch=epoch,
            instance=leadership.instance,
            ledger=leadership.ledger_id,
            host=socket.gethostname(),
            version=__version__,
        )
        self.gone = Publication(topics.coordinator(), encode(me), retain=True)
        hears_operators = settings.operators.over_mqtt != "no"
        self.inbox = Inbox(
            clock,
            lambda: self.loop.wake(),  # noqa: PLW0108 - the loop is made below
            (lambda request: self.operators.put(request)) if hears_operators else None,  # noqa: PLW0108 - the same
        )
        self.link = deferring_link(
            settings.mqtt,
            client_id=settings.client_id or f"refloat-coordinator-{settings.cluster}-{leadership.ledger_id}",
            will=self.gone,
            names=topics,
            inbox=self.inbox,
            on_connect=self._connected,
            hear=elsewhere.hear,
            on_state=elsewhere.linked,
            with_operators=hears_operators,
        )
        self.outgoing = Outgoing(self.link.publish, clock)
        self.writer = writer
        self.outbox = None
        if writer is not None:
            self.outbox = Outbox(ledger, writer, clock, measurement=settings.influx.measurement)
        self.notices = [
            Notices(
                one.name,
                targets[one.name],
                ledger,
                clock,
                cluster=settings.cluster,
                kinds=one.on,
                pause_s=one.pause_s,
            )
            for one in settings.notify
        ]
        self.questions = Questions(
            gateway,
            clock,
            lambda wave, answer: self.loop.hear_blocker(wave, answer),  # noqa: PLW0108 - the loop is made below
            lambda free_at, at: self.loop.hear_jobs(free_at, at),  # noqa: PLW0108 - the same
        )
        ports = Ports(
            ledger, clock, self.outgoing.put, self._recorded, leads=leadership.is_fresh, ask=self.questions.put
        )
        self.loop = Loop(
            ports,
            self.inbox,
            topics,
            epoch=epoch,
            limits=settings.limits.limits(),
            dialect=dialect,
            idle_checks_at_once=settings.limits.idle_checks_at_once,
            loops=settings.limits.loops(),
            trip=settings.breaker.trip(),
        )
        self.sources = GroupSources(settings.groups, settings.rules(), gateway.partitions, self.loop.rule)
        self.feed = Feed(
            gateway,
            self.link.publish,
            topics,
            clock,
            epoch=epoch,
            heartbeat_s=settings.feed.heartbeat_s,
            me=me,
        )
        self.hands = Hands(gateway, dialect, self.loop.orders.poke, leadership.confirm, self._jobs_ended)
        self.errands: asyncio.Queue[Errand] = asyncio.Queue()
        handlers = {
            **Desk(self.loop, ledger, clock, gateway, settings.waves.blockers).handlers(),
            **BudgetDesk(self.loop, clock, self.sources.troubles).handlers(),
        }
        self.operators = Operators(
            handlers, gateway.admin_level, self.link.publish, topics, clock, settings.operators.over_mqtt
        )
        self.control = ControlServer(
            settings.socket,
            handlers,
            int(settings.socket_mode, 8),
            settings.socket_group or None,
            operations.changing(handlers),
            take_over=leadership.took_over,
        )

    async def _connected(self) -> None:
        self.feed.forget_told()
        self.loop.publish_all()

    def leading(self) -> Leading:
        """What tells numbers."""
        return Leading(
            self.epoch, self.loop, self._ledger, self.inbox, self.operators, self.link, self.outbox, tuple(self.notices)
        )

    async def _jobs_ended(self, errand: EndJobs, jobs: Sequence[EndedJob]) -> None:
        await self.loop.note(hand_rules.told(errand, jobs, int(self._clock.now() * 1e9)))

    def _recorded(self) -> None:
        if self.outbox is not None:
            self.outbox.wake()
        for notices in self.notices:
            notices.wake()


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"state_dir: cannot make {path}: {error.strerror}") from error


async def together(beside: Mapping[str, Coroutine[Any, Any, None]], work: Coroutine[Any, Any, T]) -> T:
    """Do the work with the others beside it, which end with it; the first that fails ends all."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(other, name=name) for name, other in beside.items()]
        done = await work
        for task in tasks:
            task.cancel()
    return done


def _first(group: BaseExceptionGroup) -> BaseException:
    """The error that says most: that another leads, one of ours, else the group itself, with all its tracebacks."""
    ours = group.subgroup(Deposed) or group.subgroup(RefloatError)
    while ours is not None:
        leaf = ours.exceptions[0]
        if not isinstance(leaf, BaseExceptionGroup):
            return leaf
        ours = leaf
    return group
