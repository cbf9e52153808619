# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_contract.errors import Misconfigured
from refloat_coordinator import hostlists


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ("n1",)),
        ("n[1-3]", ("n1", "n2", "n3")),
        ("n[01-02,5],g1", ("g1", "n01", "n02", "n5")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
        ("n[1-4]!n2", ("n1", "n3", "n4")),
    ],
)
def test_a_hostlist_is_read_as_clustershell_does(text: str, names: tuple[str, ...]) -> None:
    assert sorted(hostlists.expand(text)) == sorted(names)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "n[1-",
        "n]1[",
        "n[5-1]",
        "@all",
        "n1/../n2",
        "n[1-999999999]",
        "n[1-9999999999999999999]",
        "n[-999999999-999999999]",
        "r[1-1000]n[1-1000]",
        "n[1-99999],m[1-99999]",
        "n[-99999999999999999]" * 1000,
        "n[0-99999999/2]",
        "+",
        "n#1",
    ],
)
def test_what_cannot_be_nodes_is_refused_at_once(text: str) -> None:
    with pytest.raises(Misconfigured):
        hostlists.expand(text)


def test_nodes_are_folded_and_sorted_as_people_count() -> None:
    assert hostlists.fold(["n1", "n2", "n10"]) == "n[1-2,10]"
    assert hostlists.in_order({"n10", "n2", "n1"}) == ["n1", "n2", "n10"]


KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "rack": {"r1": ("n1", "n2", "n3", "n4"), "r2": ("n5", "n6"), "gpu": ("n6",)},
    "partition": {"batch": ("n1", "n5"), "gpu": ("n6", "n7")},
}
KNOWN = tuple(f"n{number}" for number in range(1, 13))


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("@rack:r1", "n[1-4]"),
        ("@rack:r[1-2]", "n[1-6]"),
        ("@rack:*", "n[1-6]"),
        ("@rack:r1,n9", "n[1-4,9]"),
        ("n[1-12]!@rack:r1", "n[5-12]"),
        ("@rack:r1&@partition:batch", "n1"),
        ("@r2", "n[5-6]"),
        ("@batch", "n[1,5]"),
        ("*", "n[1-12]"),
        ("@*", "n[1-12]"),
        ("n1*", "n[1,10-12]"),
        ("n?!n[1-8]", "n9"),
        ("*!@rack:*", "n[7-12]"),
        ("n[1-2]", "n[1-2]"),
    ],
)
def test_groups_and_patterns_name_nodes(text: str, folded: str) -> None:
    assert hostlists.fold(hostlists.expand(text, KINDS, KNOWN)) == folded


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@rack:r9", "there is no group @rack:r9 \\(known: @rack:r1, @rack:r2"),
        ("n1,@r9", "there is no group @r9"),
        ("@shelf:s1", "no kind of group is called 'shelf' \\(known: partition, rack\\)"),
        ("@shelf:*", "no kind of group is called 'shelf'"),
        ("@gpu", "@gpu is a rack and a partition: write @rack:gpu"),
        ("x*", "names no node that there is"),
        ("@rack:r1&@rack:r2", "names no node that there is"),
        ("@rack:r1!", "cannot be read"),
    ],
)
def test_a_group_that_is_not_known_is_named(text: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        hostlists.expand(text, KINDS, KNOWN)
