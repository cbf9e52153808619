# SPDX-License-Identifier: Apache-2.0
"""The agent's side of MQTT: tells status and events, asks for permits, hears the feed and the coordinator's orders.

Nothing that arrives here acts on the node. A view or a poke makes the loop look, a grant lets a cycle that Slurm asked
for go on; whatever is malformed, stale or not addressed to us is logged once per kind, counted and ignored.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from refloat_agent.effects.slurm import FEED_PERIODS, AgentSlurm
from refloat_agent.observation import PermitFacts
from refloat_agent.ports import Clock
from refloat_agent.spool import Spool
from refloat_contract import topics
from refloat_contract.errors import BadMessage, RefloatError
from refloat_contract.messages import (
    CoordinatorStatus,
    Event,
    NodeReport,
    NodeStatus,
    Order,
    Request,
    SlurmView,
    decode,
    encode,
)
from refloat_contract.topics import Kind, Topics
from refloat_contract.words import OrderKind, Purpose, RequestKind
from refloat_service.mqtt import Link, Publication
from refloat_service.mqtt_settings import MqttSettings

log = structlog.get_logger(__name__)

ASK_AGAIN_S: Final = 15.0
"""A request without an answer is asked again after this: the coordinator may have been restarted meanwhile."""
ABSENT_AFTER_S: Final = 15.0
"""A coordinator that has not been heard for so long is absent; until then it may only be slow, or being restarted."""
CONNECTS_PER_S: Final = 500
"""So many agents come back in a second to a broker that all of them have lost."""
_FLUSH_S: Final = 5.0
_RETRY_S: Final = 1.0


@dataclass(slots=True)
class _Asked:
    """The one permit that is being asked for."""

    permit: str
    request: str
    asked_s: float
    granted: bool = False
    denied_why: str = ""
    again_s: float = 0.0


class Bus:
    """The Reporter over MQTT, and the ear of the agent."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        cluster: str,
        node: str,
        clock: Clock,
        slurm: AgentSlurm,
        spool: Spool,
        wake: Callable[[], None],
    ) -> None:
        self._topics = Topics(cluster)
        self._node = node
        self._clock = clock
        self._slurm = slurm
        self._spool = spool
        self._wake = wake
        self._asked: _Asked | None = None
        self._leave: tuple[str, asyncio.Future[str | None]] | None = None
        self._coordinator: CoordinatorStatus | None = None
        self._alive_s: float | None = None
        self._last_alive_s = 0.0
        self._since_s = clock.boottime_s()
        self._report: NodeReport | None = None
        self._news = asyncio.Event()
        self._ids = itertools.count(1)
        self._run = secrets.token_hex(4)
        self.ignored: Counter[str] = Counter()
        will = Publication(
            self._topics.node(node, Kind.STATUS), encode(NodeStatus(node=node, online=False)), retain=True
        )
        self._link = Link(
            settings,
            client_id=f"refloat-agent-{cluster}-{node}",
            will=will,
            subscriptions=(
                self._topics.any_version(node, Kind.ORDER),
                self._topics.any_version(node, Kind.SLURM),
                self._topics.coordinator(),
            ),
            on_message=self._hear,
            on_state=self._linked,
        )

    @property
    def connected(self) -> bool:
        """Whether the broker answers."""
        return self._link.connected

    async def run(self) -> None:
        """Keep the link up, and tell what is to be told, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run(), name="mqtt link")
            tasks.create_task(self._tell_events(), name="tell events")
            tasks.create_task(self._tell_status(), name="tell status")

    # What we hear

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - the signature of Link
        try:
            self._dispatch(topics.parse(topic).kind, payload, retained=retained)
        except BadMessage as error:
            self._ignore("malformed", topic=topic, error=str(error))

    def _dispatch(self, kind: Kind, payload: bytes, *, retained: bool) -> None:
        match kind:
            case Kind.ORDER:
                self._order(decode(Order, payload))
            case Kind.SLURM:
                self._view(decode(SlurmView, payload), kept=retained)
            case Kind.COORDINATOR:
                self._heartbeat(decode(CoordinatorStatus, payload), retained=retained)
            case _:
                raise BadMessage(f"{kind} is not for agents")

    def _ignore(self, kind: str, **facts: object) -> None:
        self.ignored[kind] += 1
        if self.ignored[kind] & (self.ignored[kind] - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a flood is not a log
            log.warning("message_ignored", kind=kind, count=self.ignored[kind], **facts)

    def _heartbeat(self, status: CoordinatorStatus, *, retained: bool) -> None:
        if self._is_outdated(status):
            self._ignore("stale_epoch", epoch=status.epoch)
            return
        self._coordinator = status
        self._link.spread_s = max(self._link.spread_s, status.nodes / CONNECTS_PER_S)
        if status.online and not retained:  # a retained one may be years old
            self._alive_s = self._last_alive_s = self._clock.boottime_s()
            self._slurm.heartbeat(status)
        if not status.online:
            self._alive_s = None
            self._slurm.heartbeat(status)
            self._wake()

    def _is_outdated(self, status: CoordinatorStatus) -> bool:
        """Whether one speaks that another has taken the lead from, which is still heard."""
        if self._coordinator is None or self._alive_s is None:
            return False
        is_heard = self._clock.boottime_s() - self._alive_s < ABSENT_AFTER_S
        return is_heard and status.epoch < self._coordinator.epoch

    def _view(self, view: SlurmView, *, kept: bool) -> None:
        if view.node != self._node:
            self._ignore("not_for_us", node=view.node)
            return
        self._slurm.offer(view, kept=kept)
        self._wake()

    def _order(self, order: Order) -> None:
        if order.node != self._node:
            self._ignore("not_for_us", node=order.node)
        elif self._coordinator is None or order.epoch != self._coordinator.epoch:
            self._ignore("stale_epoch", epoch=order.epoch)
        elif order.kind is OrderKind.POKE:
            if self._asked is not None and self._asked.denied_why:
                self._asked.again_s = self._clock.boottime_s()  # there may be room now: ask at the next look
            self._slurm.doubt()
            self._wake()
        else:
            self._permit_order(order)

    def _permit_order(self, order: Order) -> None:
        asked = self._asked
        if self._leave is not None and order.request == self._leave[0]:
            if not self._leave[1].done():
                self._leave[1].set_result(None if order.kind is OrderKind.GRANT else order.why)
            return
        if order.kind is OrderKind.CANCEL:
            if asked is not None and order.cycle == asked.permit:
                self._asked = None
        elif asked is None or order.request != asked.request or order.cycle != asked.permit:
            self._ignore("answer_to_nothing", order=order.id)
            return
        elif self._clock.boottime_s() - asked.asked_s > order.ttl_s:
            self._ignore("expired", order=order.id)
            return
        elif order.kind is OrderKind.GRANT:
            asked.granted, asked.denied_why = True, ""
        else:
            asked.granted, asked.denied_why = False, order.why
            asked.again_s = self._clock.boottime_s() + max(_RETRY_S, order.retry_after_s)
        self._wake()

    # Permits

    def permit(self) -> PermitFacts:
        """What the coordinator said, and whether there is one: unknown while it may only be slow to be heard."""
        now_s = self._clock.boottime_s()
        period_s = self._coordinator.period_s if self._coordinator is not None else 5.0
        present: bool | None = self._alive_s is not None and now_s - self._alive_s <= FEED_PERIODS * period_s
        # One that died a moment ago is probably being started again: its leave is worth waiting for.
        if not present and now_s - max(self._since_s, self._last_alive_s) <= max(
            FEED_PERIODS * period_s, ABSENT_AFTER_S
        ):
            present = None
        asked = self._asked
        if asked is None:
            return PermitFacts(present)
        return PermitFacts(
            present,
            granted=asked.permit if asked.granted else "",
            denied=asked.permit if asked.denied_why else "",
            denied_why=asked.denied_why,
            rests=bool(present and asked.denied_why) and now_s < asked.again_s,
            again_s=asked.again_s,
        )

    async def ask(self, permit: str, purpose: Purpose, recipe: str, wave: str, cause: str = "") -> None:
        """Ask, unless the same was asked a moment ago and is not answered yet."""
        now_s = self._clock.boottime_s()
        asked = self._asked
        same = asked if asked is not None and asked.permit == permit else None
        if same is not None and (same.granted or now_s < (same.again_s or same.asked_s + ASK_AGAIN_S)):
            return
        why = same.denied_why if same is not None else ""
        self._asked = _Asked(permit, f"{self._run}-{next(self._ids)}", now_s, denied_why=why)
        await self._request(self._asked.request, RequestKind.PERMIT, permit, purpose, recipe, wave, cause)

    async def ask_idle(self, check: str) -> str | None:
        """Ask for leave to look at an idle node's check, or to go on; why not, or None."""
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._leave = (f"{self._run}-{next(self._ids)}", answer)
        try:
            async with asyncio.timeout(ASK_AGAIN_S):
                await self._request(self._leave[0], RequestKind.PERMIT, check, Purpose.IDLE, "", "")
                return await answer
        except (TimeoutError, RefloatError) as error:
            return f"the coordinator did not answer: {error or 'no word from it'}"
        finally:
            self._leave = None

    async def end_idle(self, check: str) -> None:
        """Give that leave back; it ends by itself, should this be lost."""
        with contextlib.suppress(RefloatError):
            await self._request(f"{self._run}-{next(self._ids)}", RequestKind.RELEASE, check, Purpose.IDLE, "", "")

    async def release(self, permit: str) -> None:
        """Give the permit back; the node's status says the same, should this be lost."""
        if self._asked is not None and self._asked.permit == permit:
            self._asked = None
        await self._request(f"{self._run}-{next(self._ids)}", RequestKind.RELEASE, permit, Purpose.CYCLE, "", "")

    async def _request(
        self, name: str, kind: RequestKind, permit: str, purpose: Purpose, recipe: str, wave: str, cause: str = ""
    ) -> None:
        request = Request(
            id=name,
            node=self._node,
            kind=kind,
            purpose=purpose,
            cycle=permit,
            recipe=recipe,
            wave=wave,
            cause=cause,
            at=round(self._clock.wall_ns() / 1e9, 3),
        )
        await self._link.publish(Publication(self._topics.node(self._node, Kind.REQUEST), encode(request)))

    # What we tell

    async def deliver(self, events: Sequence[Event]) -> None:
        """Put the events on disk; they are told in the background."""
        await self._spool.add(events)

    def report(self, report: NodeReport) -> None:
        """Publish the status if anything but its time has changed."""
        before = self._report
        self._report = report
        if before is None or before.model_copy(update={"at": report.at}) != report:
            self._news.set()

    async def flush(self) -> None:
        """Wait, for a bounded time, until every event and the status is told; without a broker, not at all."""
        if not self._link.connected:
            log.warning("not_flushed", waiting=self._spool.waiting)
            return
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self._spool.drained()
                await self._publish_status()
        except (TimeoutError, RefloatError) as error:
            log.warning("not_flushed", waiting=self._spool.waiting, error=str(error) or "the broker is too slow")

    def _linked(self, connected: bool) -> None:  # noqa: FBT001 - the signature of Link
        self._since_s = self._clock.boottime_s()
        if connected:
            self._news.set()
        else:
            self._alive_s = None
        self._wake()

    async def _tell_events(self) -> None:
        while True:
            event = await self._spool.next()
            try:
                await self._link.publish(Publication(self._topics.node(self._node, Kind.EVENT), encode(event)))
            except RefloatError as error:
                log.debug("event_not_told", id=event.id, error=str(error))
                await asyncio.sleep(_RETRY_S)
                continue
            await self._spool.told(event)

    async def _tell_status(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._publish_status()
            except RefloatError as error:
                log.debug("status_not_told", error=str(error))
                if self._link.connected:
                    await asyncio.sleep(_RETRY_S)
                    self._news.set()

    async def _publish_status(self) -> None:
        if self._report is None:
            return
        status = NodeStatus(node=self._node, online=True, report=self._report)
        farewell = NodeStatus(node=self._node, online=False, report=self._report)
        topic = self._topics.node(self._node, Kind.STATUS)
        self._link.set_farewell(Publication(topic, encode(farewell), retain=True))
        await self._link.publish(Publication(topic, encode(status), retain=True))
