# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from pydantic import ValidationError

from refloat_contract.errors import BadMessage
from refloat_contract.messages import MAX_PAYLOAD_BYTES, Event, NodeStatus, Order, WaveSpec, decode, encode
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


@pytest.mark.parametrize(
    ("given", "read"), [(3, 3), ("3", 3), ("5%", "5%"), (" 100% ", "100%"), (9_999_999, 9_999_999)]
)
def test_a_share_is_a_number_of_nodes_or_a_percentage(given: int | str, read: int | str) -> None:
    spec = WaveSpec.model_validate({"nodes": "n1", "max_unavailable": given, "per_group": {"rack": given}})

    assert (spec.max_unavailable, spec.per_group) == (read, {"rack": read})


@pytest.mark.parametrize("given", [0, -1, "0%", "101%", "5 %", "few", "", "1.5", "1e3", None])
def test_what_is_no_share_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        WaveSpec.model_validate({"nodes": "n1", "max_unavailable": given})


def test_the_spec_of_an_older_release_is_read() -> None:
    older = {"nodes": "n[1-4]", "max_unavailable": 2, "canary": 1, "soak_s": 60.0, "note": "kernel update"}

    assert WaveSpec.model_validate(older).canary == 1
