# SPDX-License-Identifier: Apache-2.0
import random

import pytest

from refloat_contract.errors import BadMessage
from refloat_contract.messages import MAX_PAYLOAD_BYTES, OperatorAnswer, OperatorRequest, decode, encode
from refloat_contract.operators import PART_CHARACTERS, Assembly, parts, user_of
from refloat_contract.topics import Address, Kind, Topics, parse

TOPICS = Topics("c1")


@pytest.mark.parametrize("user", ["alice", "a", "_svc", "Alice.B-2", "a" * 32])
def test_an_operators_name_tells_the_user(user: str) -> None:
    assert user_of(f"refloat-operator-{user}") == user


@pytest.mark.parametrize(
    "name",
    ["n1", "alice", "refloat-operator", "refloat-operator-", "refloat-coordinator", "xrefloat-operator-alice"]
    + [f"refloat-operator-{user}" for user in ("a b", "a,b", "-rf", "1x", "a\n", "ü", "a=b", "a/b", "a" * 33)],
)
def test_nobody_else_is_an_operator(name: str) -> None:
    with pytest.raises(BadMessage, match="is not the name of an operator"):
        user_of(name)


def test_the_topics_are_read_as_they_are_spelled() -> None:
    assert parse(TOPICS.asks("o")) == Address("c1", Kind.ASKS, "o")
    assert parse(TOPICS.answer("o")) == Address("c1", Kind.ANSWER, "o")
    with pytest.raises(BadMessage, match="not in contract"):
        parse("refloat/v1/c1/operator/o/event")


@pytest.mark.parametrize(
    "text", ["", "x", "ab" * PART_CHARACTERS, '"' * (PART_CHARACTERS + 1), "𝄞\\" * PART_CHARACTERS]
)
def test_an_answer_of_any_size_arrives_whole_in_messages_that_every_broker_lets_pass(text: str) -> None:
    sent = [encode(part) for part in parts(text, request="r", answer="a")]
    random.Random(1).shuffle(sent)  # noqa: S311 - the same on every run
    assembly = Assembly("r")
    told = [assembly.add(decode(OperatorAnswer, payload)) for payload in sent for _ in range(2)]

    assert max(map(len, sent)) <= MAX_PAYLOAD_BYTES
    assert text in told[-2:]
    assert told[:-2] == [None] * (len(told) - 2)


def test_parts_of_two_answers_are_not_mixed_and_others_answers_not_taken() -> None:
    assembly = Assembly("r")
    first, second = (list(parts("ab" * PART_CHARACTERS, request="r", answer=name)) for name in ("a", "b"))
    (elsewhere,) = parts("theirs", request="q", answer="c")

    assert [assembly.add(part) for part in (first[0], second[1], elsewhere)] == [None, None, None]
    assert assembly.add(second[0]) == "ab" * PART_CHARACTERS
    assert assembly.add(first[0].model_copy(update={"part": 9})) is None


def test_a_request_is_read_as_it_was_written_and_has_an_id_that_cannot_be_guessed_at() -> None:
    asked = OperatorRequest(id="0" * 32, operator="refloat-operator-alice", command="why", arguments={"node": "n1"})

    assert decode(OperatorRequest, encode(asked)) == asked
    with pytest.raises(BadMessage, match="id"):
        decode(OperatorRequest, b'{"v":1,"id":"7","operator":"o","command":"status"}')
