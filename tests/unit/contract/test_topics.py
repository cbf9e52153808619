# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_contract.errors import BadMessage, Misconfigured
from refloat_contract.topics import Address, Kind, Topics, is_level, parse

TOPICS = Topics("c1")


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.EVENT, Kind.REQUEST, Kind.ORDER, Kind.SLURM])
def test_a_node_s_topic_is_read_as_it_was_spelled(kind: Kind) -> None:
    assert parse(TOPICS.node("n1", kind)) == Address("c1", kind, "n1")


def test_the_other_topics_are_read_as_they_were_spelled() -> None:
    assert parse(TOPICS.wave("w1")) == Address("c1", Kind.WAVE, "w1")
    assert parse(TOPICS.coordinator()) == Address("c1", Kind.COORDINATOR, "")


@pytest.mark.parametrize(
    ("topic", "complaint"),
    [
        ("refloat/v2/c1/node/n1/order", "version 'v2'"),
        ("other/v1/c1/node/n1/order", "not one of refloat's"),
        ("refloat/v1/c1/node/n1/wave", "not in contract"),
        ("refloat/v1/c1/node/n1/status/more", "not in contract"),
        ("refloat/v1/c1/coordinator", "not one of refloat's"),
        ("", "not one of refloat's"),
    ],
)
def test_another_topic_is_refused_with_a_sentence(topic: str, complaint: str) -> None:
    with pytest.raises(BadMessage, match=complaint):
        parse(topic)


@pytest.mark.parametrize("name", ["", "+", "#", "a/b", "-a", "a b", "a\n", "ü", "a" * 129])
def test_a_name_that_would_break_a_topic_is_no_level(name: str) -> None:
    assert not is_level(name)
    with pytest.raises(Misconfigured):
        Topics(name)
