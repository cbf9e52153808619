# SPDX-License-Identifier: Apache-2.0
"""Asking the coordinator over MQTT, with an operator's own certificate.

A request that has no answer yet is said again, with the same id: to answer it twice does no harm, and what changes
something is done once (see the coordinator's ``tickets``).
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from refloat_cli.operator_file import OperatorSettings
from refloat_cli.views import view_of
from refloat_contract import operators
from refloat_contract.errors import BadMessage, Misconfigured, Transient
from refloat_contract.messages import CoordinatorStatus, OperatorAnswer, OperatorRequest, decode, encode
from refloat_contract.operators import Assembly
from refloat_contract.topics import Topics
from refloat_service import envelopes, logs, mqtt_login
from refloat_service.mqtt import Link, MqttSettings, Publication

LOOK_S: Final = 2.0
"""Between two looks at what is watched or followed."""
_CONNECT_S: Final = 10.0
_AGAIN_S: Final = 3.0
_CHANGE_S: Final = 30.0
"""Longer than the coordinator waits for Slurm's accounting."""
_DOUBT: Final = "; the record has whether it was done (refloat wave list, refloat events)"
_WINDOW: Final = 50
_MOST: Final = 50_000


@dataclass(frozen=True, slots=True)
class BrokerWay:
    """The coordinator of a cluster, whichever leads, from any host that reaches the broker."""

    settings: OperatorSettings

    async def call(self, command: str, deadline_s: float = 10.0, **arguments: Any) -> Any:
        """Ask one thing."""
        until = time.monotonic() + deadline_s
        async with self._session(deadline_s) as session:
            return await session.call(command, until - time.monotonic(), **arguments)

    async def watch(self, wave: str) -> AsyncGenerator[dict[str, Any], None]:
        """A wave until it has ended, looked at every other second."""
        last: Any = None
        async with self._session() as session:
            while True:
                shown = await session.call("wave_show", id=wave)
                if shown != last:
                    yield shown
                    last = shown
                if view_of(shown).is_ended:
                    return
                await asyncio.sleep(LOOK_S)

    async def follow(self, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Past and new events, looked for every other second; none is missing, and none comes twice."""
        only = {name: value for name, value in asked.items() if name not in {"since", "limit"}}
        async with self._session() as session:
            # The newest are looked at before the past is asked for; what is in both is told once.
            newest = await session.call("events", **only, limit=_WINDOW)
            past = await session.call("events", **asked)
            for event in past:
                yield event
            told = {event["id"] for event in past}
            while True:
                newest, fresh = await _fresh(session, only, newest)
                for event in fresh:
                    if event["id"] not in told:
                        yield event
                await asyncio.sleep(LOOK_S)

    @contextlib.asynccontextmanager
    async def _session(self, deadline_s: float = _CONNECT_S) -> AsyncIterator["_Session"]:
        logs.configure("console", "critical")  # what goes wrong is told as an error, once
        session = _Session(self.settings)
        ending = asyncio.ensure_future(session.link.run_once())
        up = asyncio.ensure_future(session.up.wait())
        try:
            await asyncio.wait({ending, up}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                ending.result()
            if not up.done():
                where = _where(self.settings.mqtt)
                raise Transient(f"{where} did not let us in within {deadline_s:g} s: see that it is reachable")
            session.ending = ending
            yield session
        finally:
            for task in (ending, up):
                task.cancel()
            await asyncio.gather(ending, up, return_exceptions=True)


async def _fresh(
    session: "_Session", only: Mapping[str, Any], before: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The newest events now, and those of them that came since ``before`` was the newest.

    They are told in the order in which the coordinator recorded them. So behind the last one that was there before are
    the new ones; where none of those is among them any more, more must be looked at.
    """
    known, limit = {event["id"] for event in before}, _WINDOW
    while True:
        newest: list[dict[str, Any]] = await session.call("events", **only, limit=limit)
        last = max((place for place, event in enumerate(newest) if event["id"] in known), default=None)
        if last is not None or len(newest) < limit or limit == _MOST:
            return newest[-_WINDOW:], newest[last + 1 :] if last is not None else newest
        limit = min(10 * limit, _MOST)


class _Session:
    """One connection to the broker. One thing is asked at a time."""

    def __init__(self, settings: OperatorSettings) -> None:
        self.up = asyncio.Event()
        self.ending: asyncio.Future[None] | None = None
        self._mqtt = settings.mqtt
        self._name = name_at(settings.mqtt)
        self._topics = Topics(settings.cluster)
        self._parts: asyncio.Queue[OperatorAnswer] = asyncio.Queue()
        self._leader: CoordinatorStatus | None = None
        self.link = Link(
            settings.mqtt,
            client_id=f"{self._name}-{secrets.token_hex(4)}",
            subscriptions=[self._topics.answer(self._name)],
            passing=[self._topics.coordinator()],
            on_message=self._hear,
            on_state=lambda up: self.up.set() if up else None,
        )

    def _hear(self, topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001 - the link's signature
        if topic == self._topics.coordinator():
            self._leader = decode(CoordinatorStatus, payload)
        else:
            self._parts.put_nowait(decode(OperatorAnswer, payload))

    async def call(self, command: str, deadline_s: float = 10.0, **arguments: Any) -> Any:
        """Ask one thing, with a ticket if the coordinator gives one for it.

        Raises:
            Transient: no answer came, or the connection ended.
            RefloatError: what the coordinator answered.
        """
        request = OperatorRequest(id=secrets.token_hex(16), operator=self._name, command=command, arguments=arguments)
        until = time.monotonic() + deadline_s
        answer = await self._answer(request, deadline_s)
        if isinstance(ticket := answer.get("ticket"), str):
            with_it = request.model_copy(update={"ticket": ticket})
            answer = await self._answer(with_it, max(_CHANGE_S, until - time.monotonic()))
        if "result" not in answer:
            raise BadMessage(f"{command}: an answer that cannot be read")
        return answer["result"]

    async def _answer(self, request: OperatorRequest, left_s: float) -> dict[str, Any]:
        try:
            answer = await self._within(left_s, self._asked(request))
        except Transient as error:
            # Nobody knows then whether what has its ticket was done.
            raise Transient(f"{error}{_DOUBT}" if request.ticket else str(error)) from error
        return envelopes.without_error(answer)

    async def _within(self, left_s: float, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        """What comes of the work while there is time, and a connection."""
        asking = asyncio.ensure_future(work)
        ending = self.ending
        waited_for: list[asyncio.Future[Any]] = [asking] if ending is None else [asking, ending]
        try:
            await asyncio.wait(waited_for, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            if ending is not None and ending.done():
                ending.result()
            raise Transient(self._unanswered())
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _asked(self, request: OperatorRequest) -> dict[str, Any]:
        """Ask until there is an answer; what is longer in coming than a part of it takes is asked for again."""
        assembly = Assembly(request.id)
        while True:
            await self.link.publish(Publication(self._topics.asks(self._name), encode(request)))
            with contextlib.suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(_AGAIN_S):
                        part = await self._parts.get()
                    text = assembly.add(part)
                    # What was answered to the request without its ticket may come twice.
                    if (
                        text is not None
                        and (answer := envelopes.decoded(text))
                        and not (request.ticket and "ticket" in answer)
                    ):
                        return answer

    def _unanswered(self) -> str:
        who = "no coordinator leads"
        if self._leader is not None and self._leader.online:
            who = f"the coordinator on {self._leader.host or 'another host'} does not answer"
        return (
            f"{_where(self._mqtt)} is there, but {who} {self._name}: see that it runs, that its [operators]"
            f' over_mqtt is not "no", and that cluster {self._topics.cluster!r} and the broker\'s access list are right'
        )


def name_at(settings: MqttSettings) -> str:
    """What the broker calls us: the name in the certificate, or the one that we log in with.

    Raises:
        Misconfigured: there is none, or it is not an operator's.
    """
    name = settings.username or mqtt_login.common_name(settings)
    if not name:
        mqtt_login.tls(settings)  # which says what is wrong with the files
    try:
        operators.user_of(name)
    except BadMessage as error:
        raise Misconfigured(
            f"mqtt.cert_file: {error} (refloat pki issue --role operator USER makes a certificate that is)"
        ) from error
    return name


def _where(settings: MqttSettings) -> str:
    return f"the broker at {settings.host}:{settings.port}"
