# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from refloat_contract.errors import BadMessage
from refloat_contract.messages import MAX_PAYLOAD_BYTES, Event, NodeStatus, Order, decode, encode
from refloat_contract.words import EventKind, OrderKind

ORDER = Order(id="o1", node="n1", kind=OrderKind.GRANT, epoch=3, request="r1", cycle="c1")


def test_a_message_is_read_as_it_was_written() -> None:
    event = Event(id="e", node="n1", at_ns=7, kind=EventKind.HOLD, title="t", message='"ü"\n\0')

    assert decode(Order, encode(ORDER)) == ORDER
    assert decode(Event, encode(event)) == event


def test_fields_of_a_newer_release_are_ignored() -> None:
    data = {**json.loads(encode(ORDER)), "colour": "green"}

    assert decode(Order, json.dumps(data).encode()) == ORDER


@pytest.mark.parametrize(
    ("payload", "where"),
    [
        (b'{"v": 2, "node": "n1", "online": true}', "NodeStatus: v:"),
        (b'{"node": "n1"}', "NodeStatus: online:"),
        (b'{"node": 1, "online": true}', "NodeStatus: node:"),
        (b"not json", "NodeStatus: payload:"),
        (b"\xff\xfe", "NodeStatus: payload:"),
        (b"[]", "NodeStatus: payload:"),
        (b"", "NodeStatus: payload:"),
        (b"[" * 100_000, "NodeStatus: payload:"),
    ],
)
def test_a_bad_message_is_refused_in_one_line_that_says_where(payload: bytes, where: str) -> None:
    with pytest.raises(BadMessage) as caught:
        decode(NodeStatus, payload)

    assert str(caught.value).startswith(where)
    assert "\n" not in str(caught.value)


def test_a_message_larger_than_the_cap_is_not_even_parsed() -> None:
    with pytest.raises(BadMessage, match="larger than"):
        decode(NodeStatus, b" " * (MAX_PAYLOAD_BYTES + 1))
