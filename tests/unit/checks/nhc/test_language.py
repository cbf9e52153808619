# SPDX-License-Identifier: Apache-2.0
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat_checks.nhc.language import (
    ANY,
    CLASSES,
    EMPTY,
    NOTHING,
    BackReference,
    Chars,
    Choice,
    Group,
    Node,
    Not,
    NotEmpty,
    Place,
    Repeat,
    Sequence,
    _Text,
    literal,
    matcher,
    to_re,
)

LEAVES = st.one_of(
    st.sampled_from([ANY, EMPTY, NOTHING, Chars(CLASSES["digit"]), Chars((("a", "a"),), negated=True), *Place]),
    st.text("ab1 ", max_size=2).map(literal),
)


def grow(parts: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(
        st.lists(parts, max_size=3).map(lambda many: Sequence(tuple(many))),
        st.lists(parts, min_size=1, max_size=3).map(lambda many: Choice(tuple(many))),
        st.builds(
            lambda part, least, more: Repeat(part, least, least + more), parts, st.integers(0, 2), st.integers(0, 2)
        ),
        st.builds(lambda part, least: Repeat(part, least, None), parts, st.integers(0, 2)),
    )


@settings(deadline=None)
@given(node=st.recursive(LEAVES, grow, max_leaves=6), text=st.text("ab1 _", max_size=6))
def test_both_ways_of_matching_agree(node: Node, text: str) -> None:
    import re  # noqa: PLC0415 - what is compared with

    found = re.compile(to_re(node), re.DOTALL | re.ASCII)

    assert _Text(text).fits(node, anywhere=False) is (found.fullmatch(text) is not None)
    assert _Text(text).fits(node, anywhere=True) is (found.search(text) is not None)


@settings(deadline=None)
@given(node=st.recursive(LEAVES, grow, max_leaves=4), text=st.text("ab1 ", max_size=5))
def test_not_is_the_opposite_for_whole_texts(node: Node, text: str) -> None:
    assert matcher(Not(node), anywhere=False)(text) is not matcher(node, anywhere=False)(text)


@settings(deadline=None)
@given(node=st.recursive(LEAVES, grow, max_leaves=4), text=st.text("ab1 ", max_size=5))
def test_not_empty_forbids_the_empty_text_and_no_other(node: Node, text: str) -> None:
    wanted = bool(text) and matcher(node, anywhere=False)(text)

    assert matcher(NotEmpty(node), anywhere=False)(text) is wanted


def test_a_back_reference_asks_for_the_same_text() -> None:
    again = matcher(Sequence((Group(1, ANY), BackReference(1))), anywhere=False)

    assert again("aa")
    assert not again("ab")
