# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from brokers import TestBroker, free_port, running_broker
from pydantic import ValidationError
from structlog.testing import capture_logs

from refloat_contract.errors import BadMessage, Misconfigured, Refused, Transient
from refloat_service.mqtt import Link, MqttSettings, Publication

_NUMBERS = itertools.count()


class Inbox:
    """Collects what arrives, and fails as told."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self.failures: list[Exception] = []
        self.states: list[bool] = []

    def __call__(self, topic: str, payload: bytes, retain: bool) -> None:  # noqa: FBT001 - Link's signature
        if self.failures:
            raise self.failures.pop(0)
        self.messages.append((topic, payload, retain))


def a_link(port: int, inbox: Inbox, **options: Any) -> Link:
    name = options.pop("username", "")
    settings = MqttSettings(
        host="127.0.0.1",
        port=port,
        username=name,
        protocol=options.pop("protocol", "3.1.1"),
        reconnect_min_s=0.02,
        reconnect_max_s=0.1,
    )
    return Link(
        settings,
        client_id=options.pop("client_id", f"test-{next(_NUMBERS)}"),
        on_message=inbox,
        on_state=inbox.states.append,
        **options,
    )


@contextlib.asynccontextmanager
async def running(*links: Link) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(link.run()) for link in links]
    try:
        for link in links:
            await until(lambda link=link: link.connected)  # type: ignore[misc]
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(is_so: Callable[[], bool], deadline_s: float = 5.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def test_what_one_publishes_the_other_is_handed(broker: TestBroker) -> None:
    inbox = Inbox()
    link = a_link(broker.port, inbox, subscriptions=["a/+"])

    async with running(link):
        await link.publish(Publication("a/b", b"hello"))
        await until(lambda: bool(inbox.messages))

    assert inbox.messages == [("a/b", b"hello", False)]
    assert inbox.states == [True, False]


async def test_a_retained_message_is_handed_over_as_retained(broker: TestBroker) -> None:
    inbox = Inbox()
    writer, reader = a_link(broker.port, Inbox()), a_link(broker.port, inbox, subscriptions=["a/b"])

    async with running(writer):
        await writer.publish(Publication("a/b", b"kept", retain=True))
        async with running(reader):
            await until(lambda: bool(inbox.messages))

    assert inbox.messages == [("a/b", b"kept", True)]


async def test_after_a_restart_of_the_broker_it_connects_and_subscribes_anew(broker: TestBroker) -> None:
    inbox = Inbox()
    connects: list[float] = []

    async def on_connect() -> None:
        connects.append(time.monotonic())
        await link.publish(Publication("status", b"here"))

    link = a_link(broker.port, inbox, subscriptions=["a/b"], on_connect=on_connect)
    async with running(link):
        await broker.stop()
        await until(lambda: not link.connected)
        await broker.start()
        await until(lambda: len(connects) == 2)
        await link.publish(Publication("a/b", b"again"))
        await until(lambda: bool(inbox.messages))

    assert inbox.messages == [("a/b", b"again", False)]
    assert inbox.states == [True, False, True, False]


async def test_a_broker_that_is_away_costs_one_line_not_one_for_each_try() -> None:
    link = a_link(free_port(), Inbox())

    with capture_logs() as logs:
        task = asyncio.create_task(link.run())
        await until(lambda: sum(entry["event"] == "broker_unreachable" for entry in logs) >= 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    loud = [entry for entry in logs if entry["log_level"] != "debug"]
    assert len(loud) == 1
    assert "refused" in loud[0]["error"].lower()
    assert loud[0]["hint"] == "see that the broker runs and is reachable"


async def test_publishing_without_a_connection_is_transient() -> None:
    link = a_link(free_port(), Inbox())

    with pytest.raises(Transient, match="not connected to the broker at 127"):
        await link.publish(Publication("a", b""))


async def test_a_killed_client_is_survived_by_its_will(broker: TestBroker) -> None:
    inbox = Inbox()
    watcher = a_link(broker.port, inbox, subscriptions=["node/+"])
    doomed = a_link(broker.port, Inbox(), will=Publication("node/n1", b"offline", retain=True))

    async with running(watcher, doomed):
        assert doomed._client is not None
        doomed._client._client.socket().shutdown(2)  # type: ignore[union-attr]
        await until(lambda: bool(inbox.messages))

    assert inbox.messages[0][:2] == ("node/n1", b"offline")


async def test_who_leaves_in_order_says_farewell_and_leaves_no_will(broker: TestBroker) -> None:
    inbox = Inbox()
    watcher = a_link(broker.port, inbox, subscriptions=["node/+"])
    leaver = a_link(broker.port, Inbox(), client_id="leaver", will=Publication("node/n1", b"lost"))
    leaver.set_farewell(Publication("node/n1", b"bye"))

    async with running(watcher):
        async with running(leaver):
            pass
        await until(lambda: "leaver" not in broker.sessions())
        await watcher.publish(Publication("node/end", b""))
        await until(lambda: len(inbox.messages) >= 2)

    assert [payload for _, payload, _ in inbox.messages] == [b"bye", b""]


async def test_a_bad_message_is_counted_and_the_next_is_handed_over(broker: TestBroker) -> None:
    inbox = Inbox()
    inbox.failures = [BadMessage("not JSON")]
    link = a_link(broker.port, inbox, subscriptions=["a"])

    with capture_logs() as logs:
        async with running(link):
            await link.publish(Publication("a", b"{"))
            await link.publish(Publication("a", b"{}"))
            await until(lambda: bool(inbox.messages))

    assert inbox.messages == [("a", b"{}", False)]
    assert link.bad_messages == 1
    assert [entry["error"] for entry in logs if entry["event"] == "message_ignored"] == ["not JSON"]


async def raw_broker(
    converse: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> asyncio.Server:
    """A broker that accepts a client and then does as told."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1024)
            writer.write(b"\x20\x02\x00\x00")  # CONNACK: accepted
            await converse(reader, writer)
        finally:
            writer.close()

    return await asyncio.start_server(connected, "127.0.0.1", 0)


async def test_publish_waits_for_the_acknowledgement_and_gives_up_in_time() -> None:
    async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1024)  # the PUBLISH
        await reader.read(1024)  # until the client hangs up

    server = await raw_broker(never)
    link = a_link(server.sockets[0].getsockname()[1], Inbox())

    async with server, running(link):
        with pytest.raises(Transient, match=r"did not acknowledge a within 0\.05 s"):
            await link.publish(Publication("a", b""), deadline_s=0.05)


async def test_publish_ends_at_once_when_the_connection_is_lost() -> None:
    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1024)  # the PUBLISH

    server = await raw_broker(hang_up)
    link = a_link(server.sockets[0].getsockname()[1], Inbox())

    async with server, running(link):
        started = time.monotonic()
        with pytest.raises(Transient, match="lost the broker"):
            await link.publish(Publication("a", b""), deadline_s=60)

    assert time.monotonic() - started < 2


async def test_a_message_is_acknowledged_only_after_it_was_handled() -> None:
    seen: list[str] = []

    async def deliver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x32\x06\x00\x01a\x00\x07x")  # PUBLISH, QoS 1, topic "a", packet 7, payload "x"
        if await reader.read(1024) == b"\x40\x02\x00\x07":
            seen.append("acknowledged")
        await reader.read(1024)

    server = await raw_broker(deliver)
    port = server.sockets[0].getsockname()[1]
    inbox = Inbox()
    inbox.failures = [Transient("the disk is full")]
    link = a_link(port, inbox)

    async with server, running(link):
        await until(lambda: bool(seen))

    assert inbox.states[:3] == [True, False, True]  # hung up the first time, so that the message came again
    assert inbox.messages == [("a", b"x", False)]


async def test_an_error_that_nobody_foresaw_is_not_swallowed_and_nothing_is_acknowledged_after_it() -> None:
    heard = asyncio.Queue[bytes]()

    async def deliver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x32\x06\x00\x01a\x00\x07x" + b"\x32\x06\x00\x01a\x00\x08y")
        heard.put_nowait(await reader.read(1024))

    server = await raw_broker(deliver)
    inbox = Inbox()
    inbox.failures = [ZeroDivisionError("a fault of ours")]

    async with server:
        with pytest.raises(ZeroDivisionError):
            await a_link(server.sockets[0].getsockname()[1], inbox).run()

    assert inbox.messages == []
    assert (await heard.get())[:1] != b"\x40"  # no PUBACK; a DISCONNECT or nothing


async def test_a_topic_that_is_no_text_is_done_with() -> None:
    heard = asyncio.Queue[bytes]()

    async def deliver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x32\x06\x00\x01\xff\x00\x07x")
        heard.put_nowait(await reader.read(1024))
        await reader.read(1024)

    server = await raw_broker(deliver)
    inbox = Inbox()
    async with server, running(a_link(server.sockets[0].getsockname()[1], inbox)):
        assert await heard.get() == b"\x40\x02\x00\x07"

    assert inbox.messages == [("", b"x", False)]


async def test_what_an_mqtt_5_broker_refuses_is_refused() -> None:
    connects: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connects.append(await reader.read(1024))
        writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK: accepted
        await reader.read(1024)  # the PUBLISH, packet 1
        writer.write(b"\x40\x03\x00\x01\x87")  # PUBACK: not authorised
        await reader.read(1024)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    link = a_link(server.sockets[0].getsockname()[1], Inbox(), protocol="5", persistent=True)
    async with server, running(link):
        with pytest.raises(Refused, match=r"the broker refused a: Not authorized"):
            await link.publish(Publication("a", b"x"))

    assert connects[0][2:10] == b"\x00\x04MQTT\x05\x00"  # version 5, and no clean start
    assert b"\x11" + (7 * 86400).to_bytes(4, "big") in connects[0]  # Session Expiry Interval


async def test_many_publications_at_once_are_all_acknowledged(broker: TestBroker) -> None:
    inbox = Inbox()
    link = a_link(broker.port, inbox, subscriptions=["n/#"])

    async with running(link):
        await asyncio.gather(*(link.publish(Publication(f"n/{n}", b"x")) for n in range(100)))
        await until(lambda: len(inbox.messages) == 100)

    assert {topic for topic, _, _ in inbox.messages} == {f"n/{n}" for n in range(100)}


async def test_a_persistent_session_gets_what_came_while_it_was_away() -> None:
    inbox = Inbox()
    options: dict[str, Any] = {"username": "u", "client_id": "keeper", "subscriptions": ["a"], "persistent": True}

    async with running_broker(anonymous=False) as broker:
        writer = a_link(broker.port, Inbox(), username="u")
        async with running(writer):
            async with running(a_link(broker.port, inbox, **options)):
                pass
            await until(lambda: "keeper" not in broker.sessions())
            await writer.publish(Publication("a", b"missed"))
            async with running(a_link(broker.port, inbox, **options)):
                await until(lambda: bool(inbox.messages))

    assert [payload for _, payload, _ in inbox.messages] == [b"missed"]


async def test_a_login_that_is_refused_says_where_to_look() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"\x20\x02\x00\x05")  # CONNACK: not authorised
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    link = a_link(server.sockets[0].getsockname()[1], Inbox())
    async with server:
        with capture_logs() as logs:
            task = asyncio.create_task(link.run())
            await until(lambda: bool(logs))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    assert logs[0]["hint"] == "look at mqtt.username and mqtt.password_file"


async def test_a_link_that_is_cancelled_while_it_connects_leaves_no_connection_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connecting, cancelled = threading.Event(), threading.Event()
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    connect = aiomqtt.Client._client_connect

    def slowly(client: aiomqtt.Client) -> None:
        connecting.set()
        cancelled.wait(10)
        connect(client)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.set_result(await reader.read())
        writer.close()

    monkeypatch.setattr(aiomqtt.Client, "_client_connect", slowly)
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    link = a_link(server.sockets[0].getsockname()[1], Inbox())
    async with server:
        task = asyncio.create_task(link.run())
        await asyncio.to_thread(connecting.wait, 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        cancelled.set()
        said = await asyncio.wait_for(ended, 10)

    assert said.endswith(b"\xe0\x00")  # DISCONNECT: it does not just fall silent


async def test_a_password_file_that_cannot_be_read_ends_the_daemon_with_its_name(tmp_path: Path) -> None:
    settings = MqttSettings(username="u", password_file=tmp_path / "none")
    link = Link(settings, client_id="c", on_message=Inbox())

    with pytest.raises(Misconfigured, match=r"mqtt\.password_file: cannot read .*none"):
        await link.run()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"tls": True, "cert_file": "x"}, "go together"),
        ({"ca_file": "x"}, "need tls"),
        ({"password_file": "x"}, "needs a username"),
        ({"reconnect_min_s": 9, "reconnect_max_s": 1}, "larger than"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MqttSettings.model_validate(keys)


def test_the_wait_between_tries_doubles_up_to_its_limit() -> None:
    link = Link(MqttSettings(reconnect_min_s=1, reconnect_max_s=60), client_id="c", on_message=Inbox())

    waits = [link._delay_s(attempt) for attempt in (1, 2, 3, 50)]

    for wait, longest in zip(waits, (1, 2, 4, 60), strict=True):
        assert longest / 2 <= wait <= longest


def test_thousands_who_lose_the_broker_come_back_over_a_while() -> None:
    link = Link(MqttSettings(reconnect_min_s=1, reconnect_max_s=60), client_id="c", on_message=Inbox())
    link.spread_s = 20.0
    by_second = Counter(int(link._delay_s(1)) for _ in range(10_000))
    late = [link._delay_s(50) for _ in range(100)]

    assert set(by_second) == set(range(20))
    assert max(by_second.values()) < 1000
    assert min(late) >= 30  # a broker that has been away for long is asked as seldom as ever
