# SPDX-License-Identifier: Apache-2.0
"""The link to the MQTT broker: stays up by itself, publishes until acknowledged, acknowledges what was handled."""

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NoReturn

import aiomqtt
import structlog
from paho.mqtt.client import (
    MQTT_CLEAN_START_FIRST_ONLY,
    MQTT_ERR_NO_CONN,
    MQTT_ERR_SUCCESS,
    MQTT_LOG_ERR,
    MQTTMessage,
)
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from refloat_contract.errors import Misconfigured, RefloatError, Refused, Transient
from refloat_service import mqtt_login
from refloat_service.mqtt_settings import MqttSettings

__all__ = ["Link", "MqttSettings", "OnDelivery", "OnMessage", "Publication"]

log = structlog.get_logger(__name__)

_CONNECT_DEADLINE_S: Final = 10.0
_FAREWELL_DEADLINE_S: Final = 2.0
_LAST_WORDS_S: Final = 5.0
_STABLE_S: Final = 10.0
_DAY_S: Final = 86400.0
_WARN_DAYS: Final = 21
_SESSION_EXPIRY_S: Final = 7 * 86400
_REFUSED: Final = 0x80

OnMessage = Callable[[str, bytes, bool], None]
Acknowledge = Callable[[], None]
OnDelivery = Callable[[str, bytes, Acknowledge], None]


@dataclass(frozen=True, slots=True)
class Publication:
    """One message to publish."""

    topic: str
    payload: bytes
    retain: bool = False
    qos: Literal[0, 1] = 1


class Link:
    """One connection to the broker, which ``run`` keeps up.

    A message is acknowledged to the broker after ``on_message`` returned: with ``persistent``, what arrived but was not
    handled when the process died comes again. ``on_message`` may raise a RefloatError: Transient drops the connection,
    so that the message comes again; any other means that it never can be handled: it is logged, counted in
    ``bad_messages`` and done with.

    ``on_delivery`` takes the place of ``on_message`` where a message is dealt with later: it is told how to acknowledge
    it then.

    ``passing`` are subscriptions too, of which the broker keeps nothing for us while we are away.

    ``on_connect`` runs at each connect, after the subscriptions; messages may be handed over meanwhile.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        client_id: str,
        will: Publication | None = None,
        subscriptions: Sequence[str] = (),
        passing: Sequence[str] = (),
        on_message: OnMessage | None = None,
        on_delivery: OnDelivery | None = None,
        on_connect: Callable[[], Awaitable[None]] | None = None,
        on_state: Callable[[bool], None] | None = None,
        persistent: bool = False,
    ) -> None:
        self.bad_messages = 0
        self.spread_s = 0.0
        """Over how long all those who have lost the broker with us come back."""
        self._settings = settings
        self._client_id = client_id
        self._will = will
        self._passing = list(passing)
        self._subscriptions = (*((topic, 1) for topic in subscriptions), *((topic, 0) for topic in passing))
        self._on_message = on_message
        self._on_delivery = on_delivery
        self._on_connect = on_connect
        self._on_state = on_state
        self._persistent = persistent
        self._farewell: Publication | None = None
        self._client: _Client | None = None
        self._complaint = ""
        self._warned_s = float("-inf")

    @property
    def connected(self) -> bool:
        """Whether the broker answers."""
        return self._client is not None

    def set_farewell(self, publication: Publication | None) -> None:
        """What to publish last, when ``run`` is cancelled; the broker then does not publish the will."""
        self._farewell = publication

    async def publish(self, publication: Publication, deadline_s: float = 10.0) -> None:
        """Publish, and return when the broker has acknowledged it.

        Raises:
            Transient: not connected, the connection was lost, or no acknowledgement came in time. The message may have
                arrived all the same.
            Refused: the broker does not let us publish there (only MQTT 5 brokers say so).
        """
        if self._client is None:
            raise Transient(f"not connected to the broker at {self._where}")
        try:
            async with asyncio.timeout(deadline_s):
                await self._client.acknowledged(publication)
        except TimeoutError as error:
            raise Transient(
                f"the broker at {self._where} did not acknowledge {publication.topic} within {deadline_s:g} s"
            ) from error
        except aiomqtt.MqttError as error:
            raise Transient(f"lost the broker at {self._where}: {_said(error)}") from error

    async def run(self) -> None:
        """Stay connected until cancelled; then publish the farewell and leave in order.

        Raises:
            Misconfigured: a password, certificate or key file cannot be used, at the first try.
        """
        await asyncio.to_thread(self._credentials)
        if self._settings.is_exposed:
            log.warning("plain_text", broker=self._where, hint="whoever is on this network can read and forge messages")
        attempt = 0
        while True:
            started = time.monotonic()
            said = await self._session_end()
            attempt = 0 if time.monotonic() - started > _STABLE_S else attempt + 1
            delay_s = self._delay_s(attempt)
            self._complain(said, delay_s)
            await asyncio.sleep(delay_s)

    async def run_once(self) -> None:
        """Have one session, and no other: for a command, whose user is to hear at once why it has none.

        Raises:
            Transient: it ended, or never began; the sentence says why, and what to look at.
            Misconfigured: a password, certificate or key file cannot be used.
        """
        password, tls = await asyncio.to_thread(self._credentials)
        try:
            await self._session(password, tls)
        except (aiomqtt.MqttError, Transient, Refused) as error:
            said = _said(error)
            raise Transient(f"no connection to the broker at {self._where}: {said}: {mqtt_login.hint(said)}") from error

    async def _session_end(self) -> str:
        """Have one session, and say why it ended."""
        try:
            # Read for each session: certificates are renewed and passwords changed while we run.
            password, tls = await asyncio.to_thread(self._credentials)
            await self._session(password, tls)
        except (aiomqtt.MqttError, Transient, Refused, Misconfigured) as error:
            return _said(error)
        return "the session ended"

    async def _session(self, password: str | None, tls: ssl.SSLContext | None) -> None:
        client = self._new_client(password, tls)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(client.abandon)
            try:
                await stack.enter_async_context(client)
            except ValueError as error:  # a host name that cannot be encoded
                raise Transient(f"cannot connect to {self._where}: {error}") from error
            except _HungUpError as error:
                raise Transient(await self._refusal(str(error), tls)) from error
            stack.callback(self._leave)
            try:
                await self._serve(client)
            except asyncio.CancelledError:
                await self._say_farewell()
                raise

    async def _refusal(self, said: str, tls: ssl.SSLContext | None) -> str:
        if tls is not None and not mqtt_login.is_alert(said):
            said = await asyncio.to_thread(mqtt_login.last_words, self._settings, tls, _LAST_WORDS_S) or said
        return mqtt_login.refusal(said, self._settings)

    async def _serve(self, client: "_Client") -> None:
        # Not a TaskGroup: before Python 3.13 it forgets a cancellation that meets an error.
        work = (asyncio.ensure_future(client.ended()), asyncio.ensure_future(self._greet(client)))
        watching = asyncio.ensure_future(self._watch_certificate())
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in (*work, watching):
                task.cancel()
            await asyncio.gather(*work, watching, return_exceptions=True)

    async def _watch_certificate(self) -> None:
        """Say in time that ours ends: all of a cluster's may have been made on the same day."""
        while True:
            left = await asyncio.to_thread(mqtt_login.days_left, self._settings, time.time())
            if left is not None and left < _WARN_DAYS and time.monotonic() - self._warned_s > _DAY_S:
                self._warned_s = time.monotonic()
                log.warning(
                    "certificate_ends", cert_file=str(self._settings.cert_file), days=round(left), hint=mqtt_login.RENEW
                )
            await asyncio.sleep(_DAY_S)

    async def _greet(self, client: "_Client") -> None:
        await self._subscribe(client)
        self._enter(client)
        if self._on_connect is not None:
            await self._on_connect()

    def _receive(self, client: "_Client", message: MQTTMessage) -> None:
        # From the start: a broker may want those of an old session acknowledged before it hears anything else.
        topic, payload = _topic(message), bytes(message.payload)
        done = partial(client.acknowledge, message.mid, message.qos)
        if self._on_delivery is not None:
            self._on_delivery(topic, payload, done)
            return
        self._hand_over(topic, payload, retain=message.retain)
        done()

    def _hand_over(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if self._on_message is None:
            return
        try:
            self._on_message(topic, payload, retain)
        except Transient:
            raise
        except RefloatError as error:
            self.bad_messages += 1
            log.warning("message_ignored", topic=topic, error=str(error), so_far=self.bad_messages)

    async def _subscribe(self, client: "_Client") -> None:
        if not self._subscriptions:
            return
        codes: Sequence[int | ReasonCode] = await client.subscribe(
            list(self._subscriptions), timeout=_CONNECT_DEADLINE_S
        )
        for (topic, _), code in zip(self._subscriptions, codes, strict=True):
            if (code.value if isinstance(code, ReasonCode) else code) >= _REFUSED:
                log.error("subscription_refused", topic=topic, broker=self._where, hint="allow it in the broker's ACL")

    def _enter(self, client: "_Client") -> None:
        self._client = client
        self._complaint = ""
        log.info("broker_connected", broker=self._where, client_id=self._client_id)
        if self._on_state is not None:
            self._on_state(True)  # noqa: FBT003 - the one thing that it tells

    def _leave(self) -> None:
        if self._client is None:
            return
        self._client.give_up()
        self._client = None
        if self._on_state is not None:
            self._on_state(False)  # noqa: FBT003 - the one thing that it tells

    async def _say_farewell(self) -> None:
        if self._farewell is None or self._client is None:
            return
        try:
            if self._passing:  # nobody is here to hear it any more
                await self._client.unsubscribe(self._passing, timeout=_FAREWELL_DEADLINE_S)
            await self.publish(self._farewell, _FAREWELL_DEADLINE_S)
        except aiomqtt.MqttError as error:
            log.warning("farewell_not_published", topic=self._farewell.topic, error=_said(error))
        except RefloatError as error:
            log.warning("farewell_not_published", topic=self._farewell.topic, error=str(error))

    def _complain(self, said: str, delay_s: float) -> None:
        if said == self._complaint:
            log.debug("broker_unreachable", broker=self._where, error=said, again_in_s=round(delay_s, 1))
            return
        self._complaint = said
        log.warning(
            "broker_unreachable",
            broker=self._where,
            error=said,
            hint=mqtt_login.hint(said),
            again_in_s=round(delay_s, 1),
        )

    def _delay_s(self, attempt: int) -> float:
        doubled = self._settings.reconnect_min_s * 2.0 ** min(max(attempt - 1, 0), 32)
        longest = min(self._settings.reconnect_max_s, doubled)
        # A broker that comes back must not meet all nodes of the cluster in the same instant.
        if self.spread_s > longest:
            return random.uniform(self._settings.reconnect_min_s / 2, self.spread_s)  # noqa: S311 - the same
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreading load, not hiding anything

    @property
    def _where(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    def _credentials(self) -> tuple[str | None, ssl.SSLContext | None]:
        return mqtt_login.password(self._settings), mqtt_login.tls(self._settings)

    def _new_client(self, password: str | None, tls: ssl.SSLContext | None) -> "_Client":
        settings, is_5 = self._settings, self._settings.protocol == "5"
        properties = None
        if is_5 and self._persistent:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _SESSION_EXPIRY_S
        will = self._will
        return _Client(
            self._receive,
            settings.host,
            settings.port,
            identifier=self._client_id,
            username=settings.username or None,
            password=password,
            protocol=aiomqtt.ProtocolVersion.V5 if is_5 else aiomqtt.ProtocolVersion.V311,
            will=None if will is None else aiomqtt.Will(will.topic, will.payload, will.qos, will.retain),
            clean_session=None if is_5 else not self._persistent,
            clean_start=not self._persistent if is_5 else MQTT_CLEAN_START_FIRST_ONLY,
            properties=properties,
            keepalive=settings.keepalive_s,
            timeout=_CONNECT_DEADLINE_S,
            tls_context=tls,
        )


class _HungUpError(aiomqtt.MqttError):
    """The broker ended the connection before it had answered; the text is what the socket said of it, if anything."""


class _Client(aiomqtt.Client):
    """aiomqtt's client, and what it has no words for.

    It acknowledges messages when they arrive, not when they were handled, and makes a task for each, which costs more
    than to handle it; it lets a publication wait out its whole deadline when the connection is lost; it drops the
    reason with which an MQTT 5 broker refuses one; and it waits in vain for the answer of a broker that has hung up.
    TLS 1.3 lets a broker look at our certificate when we think that all is done: what it thinks of it is only in the
    error of the next read, which paho puts into its log.
    """

    def __init__(self, receive: "Callable[[_Client, MQTTMessage], None]", *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._receive = receive
        self._fault: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._socket_said = ""
        self._abandoned = False
        self._client.on_log = self._listen
        self._client.disable_logger()
        self._waiting: dict[int, asyncio.Future[ReasonCode]] = {}
        self._client.manual_ack_set(on=True)

    async def acknowledged(self, publication: Publication) -> None:
        """Publish; return at the broker's acknowledgement (QoS 0: when it is on its way)."""
        info = self._client.publish(publication.topic, publication.payload, publication.qos, publication.retain)
        if info.rc != MQTT_ERR_SUCCESS or self._disconnected.done():
            raise aiomqtt.MqttCodeError(info.rc or MQTT_ERR_NO_CONN)
        if publication.qos == 0:
            return
        waiter = self._waiting[info.mid] = asyncio.get_running_loop().create_future()
        try:
            code = await waiter
        finally:
            self._waiting.pop(info.mid, None)
        if code.is_failure:
            raise Refused(f"the broker refused {publication.topic}: {code}: allow it in the broker's ACL")

    def acknowledge(self, mid: int, qos: int) -> None:
        """Tell the broker that a message was handled."""
        self._client.ack(mid, qos)

    async def ended(self) -> NoReturn:
        """Wait until no message can come any more.

        Raises:
            MqttError: the connection was lost.
            Exception: what ``receive`` raised; no later message was handed to it.
        """
        await asyncio.wait((self._disconnected, self._fault), return_when=asyncio.FIRST_COMPLETED)
        if self._fault.done():
            raise self._fault.result()
        raise aiomqtt.MqttError("disconnected") from self._disconnected.exception()

    def give_up(self) -> None:
        """End the waiting for acknowledgements that cannot come any more."""
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(aiomqtt.MqttCodeError(MQTT_ERR_NO_CONN))

    def abandon(self) -> None:
        """Close what is open still: a connect may have failed, or was cancelled half-way."""
        self._abandoned = True
        self._client.disconnect()

    def _client_connect(self) -> None:
        # In a thread, which no cancellation reaches: what it opens after abandon() is closed by itself.
        super()._client_connect()
        if self._abandoned:
            self._loop.call_soon_threadsafe(self._client.disconnect)

    def _on_message(self, client: Any, userdata: Any, message: MQTTMessage) -> None:  # noqa: ARG002 - paho's call
        if self._fault.done():
            return  # what is not acknowledged comes again
        try:
            self._receive(self, message)
        except Exception as error:  # noqa: BLE001 - raised by ended(), not in the middle of paho
            self._fault.set_result(error)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Any) -> None:
        waiter = self._waiting.get(mid)
        if waiter is not None and not waiter.done():
            waiter.set_result(reason_code)
        super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002 - paho's call
        # aiomqtt watches the descriptor's number in the loop's next round. The socket may be closed by then, and the
        # number another socket's: ask again when it is time.
        def watch() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), self._write)

        self._loop.call_soon_threadsafe(watch)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except OSError as error:
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    def _listen(self, client: Any, userdata: Any, level: int, said: str) -> None:  # noqa: ARG002 - paho's call
        if level == MQTT_LOG_ERR:
            self._socket_said = said.partition(": ")[2] or said

    def _on_disconnect(self, *args: Any, **kwargs: Any) -> None:
        if not self._connected.cancelled():  # a connect that ran out of time, which aiomqtt would ask how it ended
            super()._on_disconnect(*args, **kwargs)
        self.give_up()
        if not self._connected.done() and not self._abandoned:
            self._connected.set_exception(_HungUpError(self._socket_said))


def _topic(message: MQTTMessage) -> str:
    try:
        return message.topic
    except UnicodeDecodeError:
        return ""  # nobody's: whoever parses it refuses it


def _said(error: BaseException) -> str:
    cause = error.__cause__
    return f"{error}: {cause}" if cause is not None and str(cause) not in str(error) else str(error)
