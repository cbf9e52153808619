# SPDX-License-Identifier: Apache-2.0
"""Between MQTT and Python: what agents say becomes typed and queued; what cannot be read is counted and named once.

An event or request is acknowledged to the broker only when the loop has dealt with it (events: when they are on the
disk), so that what was in flight when this process died comes again.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from refloat_contract import operators, topics
from refloat_contract.errors import BadMessage
from refloat_contract.messages import Event, NodeStatus, OperatorRequest, Request, decode
from refloat_contract.topics import Kind, Topics
from refloat_coordinator.clock import Clock
from refloat_service.mqtt import Link, MqttSettings, Publication

log = structlog.get_logger(__name__)

Content: TypeAlias = NodeStatus | Event | Request
Acknowledge = Callable[[], None]

_COMPLAIN_EVERY_S: Final = 10.0
_MODELS: Final[dict[Kind, type[NodeStatus] | type[Event] | type[Request]]] = {
    Kind.STATUS: NodeStatus,
    Kind.EVENT: Event,
    Kind.REQUEST: Request,
}

Ask = Callable[[OperatorRequest], None]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that was understood, and how to tell the broker that it was dealt with."""

    content: Content
    acknowledge: Acknowledge


def subscriptions(names: Topics) -> list[str]:
    """What the coordinator listens to."""
    return [names.any_version("+", kind) for kind in _MODELS]


def passing(names: Topics, *, with_operators: bool) -> list[str]:
    """What it listens to besides, of which the broker keeps nothing while nobody leads."""
    return [names.coordinator(), *([names.any_asks()] if with_operators else [])]


class Inbox:
    """What arrived and is not dealt with yet, in its order. ``malformed`` counts what could not be read.

    What operators ask is handed on to ``ask``, which may raise a BadMessage.
    """

    def __init__(self, clock: Clock, wake: Callable[[], None], ask: Ask | None = None) -> None:
        self.malformed = 0
        self._clock = clock
        self._wake = wake
        self._ask = ask
        self._arrivals: deque[Arrival] = deque()
        self._complained_at = float("-inf")
        self._unsaid = 0

    def receive(self, topic: str, payload: bytes, acknowledge: Acknowledge) -> None:
        """Take a message in; one that cannot be read is acknowledged and forgotten, since it never will be."""
        try:
            content = read(topic, payload)
            if isinstance(content, OperatorRequest):
                self._hand_on(content)
                acknowledge()
                return
        except BadMessage as error:
            self.malformed += 1
            self._complain(topic, str(error))
            acknowledge()
            return
        if isinstance(content, NodeStatus):
            # Retained, so that it comes again after a restart; and the broker waits for nobody when it tells of all.
            acknowledge()
            acknowledge = _nothing
        self.put(content, acknowledge)

    def put(self, content: Content, acknowledge: Acknowledge) -> None:
        """Take in what a message said."""
        self._arrivals.append(Arrival(content, acknowledge))
        self._wake()

    def take(self, limit: int) -> list[Arrival]:
        """The oldest arrivals, which are no longer in here."""
        return [self._arrivals.popleft() for _ in range(min(limit, len(self._arrivals)))]

    def put_back(self, arrivals: list[Arrival]) -> None:
        """They could not be dealt with now: they are the oldest again."""
        self._arrivals.extendleft(reversed(arrivals))

    def __len__(self) -> int:
        return len(self._arrivals)

    def _hand_on(self, request: OperatorRequest) -> None:
        if self._ask is None:
            raise BadMessage("operators are not served over MQTT here (operators.over_mqtt)")
        self._ask(request)

    def _complain(self, topic: str, why: str) -> None:
        now = self._clock.now()
        if now - self._complained_at < _COMPLAIN_EVERY_S:
            self._unsaid += 1
            return
        log.warning("message_ignored", topic=topic, why=why, so_far=self.malformed, not_logged=self._unsaid)
        self._complained_at, self._unsaid = now, 0


def _nothing() -> None:
    """It is acknowledged already."""


def read(topic: str, payload: bytes) -> Content | OperatorRequest:
    """What a message says.

    Raises:
        BadMessage: it cannot be read, or speaks of another node than the topic, which its sender's rights are tied to.
    """
    address = topics.parse(topic)
    if address.kind is Kind.ASKS:
        return _asked(address.name, payload)
    model = _MODELS.get(address.kind)
    if model is None:
        raise BadMessage(f"topic {topic!r} is not for the coordinator")
    content = decode(model, payload)
    if content.node != address.name:
        raise BadMessage(f"the message is about {content.node!r}, but its topic is {address.name!r}'s")
    if address.name.startswith(operators.ANY):
        # The access list lets everybody speak as a node of their own name; by their certificates these are none.
        raise BadMessage(f"{address.name!r} is an operator's name, and no node's")
    return content


def _asked(operator: str, payload: bytes) -> OperatorRequest:
    request = decode(OperatorRequest, payload)
    if request.operator != operator:
        raise BadMessage(f"the request is {request.operator!r}'s, but its topic is {operator!r}'s")
    return request


def deferring_link(
    settings: MqttSettings,
    *,
    client_id: str,
    will: Publication,
    names: Topics,
    inbox: Inbox,
    on_connect: Callable[[], Awaitable[None]],
    hear: Callable[[bytes], None] = lambda _payload: None,
    on_state: Callable[[bool], None] | None = None,
    with_operators: bool = False,
) -> Link:
    """A link that lets the inbox say when a message is dealt with, instead of taking its receipt for that.

    ``hear`` gets what coordinators, we among them, say of themselves. ``with_operators``: what they ask is heard.
    """

    def deliver(topic: str, payload: bytes, acknowledge: Acknowledge) -> None:
        if topic == names.coordinator():
            hear(payload)
            acknowledge()
        else:
            inbox.receive(topic, payload, acknowledge)

    return Link(
        settings,
        client_id=client_id,
        will=will,
        subscriptions=subscriptions(names),
        passing=passing(names, with_operators=with_operators),
        on_delivery=deliver,
        on_connect=on_connect,
        on_state=on_state,
        persistent=True,  # what agents say while this daemon is down waits at the broker
    )
