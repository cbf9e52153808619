# SPDX-License-Identifier: Apache-2.0
import asyncio
from typing import Any, cast

import pytest
import structlog
from brokers import running_broker
from paho.mqtt.client import MQTTMessage
from unit.coordinator.world import FakeClock, event, eventually, request, status

from refloat_contract.errors import BadMessage
from refloat_contract.messages import OperatorRequest, encode
from refloat_contract.topics import Kind, Topics
from refloat_coordinator.bus import Inbox, deferring_link, passing, read, subscriptions
from refloat_service.mqtt import Link, MqttSettings, Publication

TOPICS = Topics("test")
STATUS = TOPICS.node("n1", Kind.STATUS)


class Receipt:
    """Counts acknowledgements."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def test_what_agents_say_is_read_by_its_topic() -> None:
    assert read(STATUS, encode(status())) == status()
    assert read(TOPICS.node("n1", Kind.EVENT), encode(event())) == event()
    assert read(TOPICS.node("n1", Kind.REQUEST), encode(request())) == request()


BAD = [
    (STATUS, b"not json"),
    (STATUS, b"{}"),
    (STATUS, b'{"v":2,"node":"n1","online":true}'),
    (STATUS, b"\xff\xfe"),
    (STATUS, encode(status("n2"))),
    (STATUS.replace("/v1/", "/v2/"), encode(status())),
    (TOPICS.node("refloat-operator-alice", Kind.STATUS), encode(status("refloat-operator-alice"))),
    (TOPICS.node("refloat-operator", Kind.REQUEST), encode(request("refloat-operator"))),
    (TOPICS.node("n1", Kind.SLURM), encode(status())),
    (TOPICS.coordinator(), encode(status())),
    ("refloat/v1/test/node/n1", encode(status())),
]


@pytest.mark.parametrize(("topic", "payload"), BAD)
def test_what_cannot_be_read_is_a_bad_message(topic: str, payload: bytes) -> None:
    with pytest.raises(BadMessage):
        read(topic, payload)


def test_bad_messages_are_counted_acknowledged_and_logged_once_in_a_while(clock: FakeClock) -> None:
    receipt, inbox = Receipt(), Inbox(clock, lambda: None)
    with structlog.testing.capture_logs() as lines:
        for topic, payload in BAD:
            inbox.receive(topic, payload, receipt)
        clock.time += 11
        inbox.receive(*BAD[0], receipt)

    assert (inbox.malformed, len(inbox), receipt.count) == (len(BAD) + 1, 0, len(BAD) + 1)
    assert [line["event"] for line in lines] == ["message_ignored", "message_ignored"]
    assert lines[1]["not_logged"] == len(BAD) - 1


ASKED = OperatorRequest(id="0" * 32, operator="refloat-operator-alice", command="status")
ASKS = TOPICS.asks(ASKED.operator)


def test_what_operators_ask_is_handed_on_and_acknowledged(clock: FakeClock) -> None:
    asked: list[OperatorRequest] = []
    receipt, inbox = Receipt(), Inbox(clock, lambda: None, asked.append)
    inbox.receive(ASKS, encode(ASKED), receipt)

    assert asked == [ASKED]
    assert (inbox.malformed, len(inbox), receipt.count) == (0, 0, 1)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (ASKS, b"{}"),
        (ASKS, encode(ASKED).replace(b'"v":1', b'"v":2')),
        (ASKS, encode(ASKED) + b" " * (1 << 20)),
        (TOPICS.asks("refloat-operator-bob"), encode(ASKED)),
        (ASKS.replace("/v1/", "/v2/"), encode(ASKED)),
        (TOPICS.answer(ASKED.operator), encode(ASKED)),
        (TOPICS.node("n1", Kind.REQUEST), encode(ASKED)),
    ],
)
def test_a_request_of_an_operator_that_cannot_be_read_is_counted_and_forgotten(
    clock: FakeClock, topic: str, payload: bytes
) -> None:
    asked: list[OperatorRequest] = []
    receipt, inbox = Receipt(), Inbox(clock, lambda: None, asked.append)
    inbox.receive(topic, payload, receipt)

    assert (asked, inbox.malformed, receipt.count) == ([], 1, 1)


def test_where_operators_are_not_served_they_are_not_heard(clock: FakeClock) -> None:
    receipt, inbox = Receipt(), Inbox(clock, lambda: None)
    inbox.receive(ASKS, encode(ASKED), receipt)

    assert (inbox.malformed, receipt.count) == (1, 1)
    assert passing(TOPICS, with_operators=False) == ["refloat/v1/test/coordinator/status"]
    assert passing(TOPICS, with_operators=True)[1:] == ["refloat/+/test/operator/+/request"]


def test_what_could_not_be_dealt_with_is_the_oldest_again(clock: FakeClock) -> None:
    inbox = Inbox(clock, lambda: None)
    for name in ("n1", "n2", "n3"):
        inbox.receive(TOPICS.node(name, Kind.STATUS), encode(status(name)), lambda: None)
    inbox.put_back(inbox.take(2))

    assert [arrival.content.node for arrival in inbox.take(9)] == ["n1", "n2", "n3"]


def test_the_coordinator_also_hears_other_versions_so_that_it_can_name_them() -> None:
    assert subscriptions(TOPICS) == [
        "refloat/+/test/node/+/status",
        "refloat/+/test/node/+/event",
        "refloat/+/test/node/+/request",
    ]


class FakeClient:
    """A broker's client, which notes what is acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    def acknowledge(self, mid: int, qos: int) -> None:
        assert qos == 1
        self.acknowledged.append(mid)


def message(mid: int, payload: bytes) -> MQTTMessage:
    message = MQTTMessage(mid, TOPICS.node("n1", Kind.EVENT).encode())
    message.payload, message.qos = payload, 1
    return message


def link(port: int, inbox: Inbox) -> Link:
    async def on_connect() -> None:
        """Nothing to do."""

    settings = MqttSettings(host="127.0.0.1", port=port, username="c", reconnect_min_s=0.01, reconnect_max_s=0.05)
    will = Publication(TOPICS.coordinator(), b"gone")
    return deferring_link(
        settings, client_id="coordinator", will=will, names=TOPICS, inbox=inbox, on_connect=on_connect
    )


def test_a_message_is_acknowledged_when_it_was_dealt_with_and_not_before(clock: FakeClock) -> None:
    inbox, client = Inbox(clock, lambda: None), FakeClient()
    ear = link(1, inbox)
    for mid in (1, 2, 3):
        ear._receive(cast("Any", client), message(mid, encode(event(f"e{mid}")) if mid != 2 else b"garbage"))
    before = list(client.acknowledged)
    for arrival in inbox.take(9):
        arrival.acknowledge()

    assert before == [2]  # what can never be read is done with at once
    assert client.acknowledged == [2, 1, 3]


def test_a_status_is_acknowledged_at_once_since_the_broker_keeps_it(clock: FakeClock) -> None:
    inbox, receipt = Inbox(clock, lambda: None), Receipt()
    inbox.receive(STATUS, encode(status()), receipt)
    for arrival in inbox.take(9):
        arrival.acknowledge()

    assert receipt.count == 1


async def test_what_agents_say_while_the_coordinator_is_away_waits_at_the_broker(clock: FakeClock) -> None:
    async with running_broker(anonymous=False) as broker, asyncio.TaskGroup() as tasks:
        sender = Link(
            MqttSettings(host="127.0.0.1", port=broker.port, username="a"),
            client_id="n1",
            on_message=lambda *_: None,
        )
        inbox = Inbox(clock, lambda: None)
        sending = tasks.create_task(sender.run())
        coordinator = link(broker.port, inbox)
        first = tasks.create_task(coordinator.run())
        await eventually(lambda: coordinator.connected and sender.connected)  # that is, also subscribed
        first.cancel()
        await eventually(lambda: broker.sessions() == ["n1"])
        await sender.publish(Publication(TOPICS.node("n1", Kind.EVENT), encode(event())))
        second = tasks.create_task(link(broker.port, inbox).run())
        await eventually(lambda: len(inbox) == 1)
        sending.cancel()
        second.cancel()

    assert [arrival.content for arrival in inbox.take(9)] == [event()]
