# SPDX-License-Identifier: Apache-2.0
"""Whatever others write is read to its end, or refused with one of our errors; `make fuzz` tries for longer."""

import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import TARGETS

EXAMPLES = int(os.environ.get("REFLOAT_FUZZ_EXAMPLES", "40"))
_MOST_MEMORY = 96 << 20
_BY_NAME = {target.name: target for target in TARGETS}


def spoiled(examples: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """What is written, cut, doubled, mixed with anything else, or anything else alone."""
    piece = st.one_of(
        st.sampled_from(examples),
        st.binary(max_size=40),
        st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.sampled_from([b"\n", b"\0", b"||", b"=", b"[", b"{", b"$(", b"`", b"\\", b"\xff", b"9" * 30, b"\x1b[2J"]),
    )
    cut = st.tuples(piece, st.integers(0, 80), st.integers(0, 80)).map(lambda t: t[0][min(t[1:]) : max(t[1:]) + 1])
    return st.lists(st.one_of(piece, cut), max_size=6).map(b"".join)


@pytest.mark.parametrize("name", _BY_NAME)
def test_whatever_is_read_is_read_or_refused(name: str) -> None:
    target = _BY_NAME[name]

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(spoiled(target.examples))
    def read(data: bytes) -> None:
        target(data)

    read()


REPEATED = (
    b"a",
    b"(",
    b"[",
    b"{",
    b"\\",
    b"*",
    b"(a*)*",
    b"=",
    b" ",
    b"\n",
    b"\0",
    b"[[x]]\n",
    b"a=1\n",
    b"|| ",
    b"$((",
    b"9",
    b'"',
    b",",
)


@pytest.mark.parametrize("name", _BY_NAME)
def test_what_is_very_long_ends_and_takes_bounded_memory(name: str) -> None:
    target, size = _BY_NAME[name], int(os.environ.get("REFLOAT_FUZZ_KB", "4")) << 10
    for piece in (*REPEATED, *target.examples):
        tracemalloc.start()
        try:
            target((piece * (size // len(piece)))[:size])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert peak < _MOST_MEMORY, piece
