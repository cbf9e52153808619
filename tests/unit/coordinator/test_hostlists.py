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
