# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from refloat_contract.errors import Misconfigured
from refloat_coordinator.permits import groups
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.groups import Groups

TREE = """
# two racks and the room
SwitchName=leaf1 Nodes=n[1-2] LinkSpeed=100
switchname=leaf2 nodes=n[3-4] \\
    # goes on here
SwitchName=room Switches=leaf[1-2]
SwitchName=core Switches=room,leaf3
SwitchName=leaf3 Nodes=n5
"""
BLOCKS = "BlockName=b1 Nodes=n[1-2]\nBlockName=b2 Nodes=n[3-4]\nBlockSizes=2,4\n"


def folded(found: groups.Named) -> dict[str, list[str]]:
    return {name: sorted(nodes) for name, nodes in found.items()}


@pytest.mark.parametrize(
    ("text", "level", "expected"),
    [
        (TREE, 0, {"leaf1": ["n1", "n2"], "leaf2": ["n3", "n4"], "leaf3": ["n5"]}),
        (TREE, 1, {"room": ["n1", "n2", "n3", "n4"]}),
        (TREE, 2, {"core": ["n1", "n2", "n3", "n4", "n5"]}),
        (BLOCKS, 0, {"b1": ["n1", "n2"], "b2": ["n3", "n4"]}),
    ],
)
def test_slurms_topology_tells_the_nodes_below_each_switch(
    text: str, level: int, expected: dict[str, list[str]]
) -> None:
    assert folded(groups.topology(text, "topology.conf", level)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SwitchName=s1 Nodes=n[1-", r"t:1: hostlist .* cannot be read"),
        ("\nSwitchName=s1", r"t:2: s1 has no Nodes"),
        ("SwitchName=s1 Nodes=n1\nSwitchName=s1 Nodes=n2", r"t:2: s1 stands in line 1 already"),
        ("SwitchName=s1 Switches=s2", r"t:1: there is no switch 's2'"),
        ("SwitchName=s1 Switches=s2\nSwitchName=s2 Switches=s1", r"t:[12]: s[12] is below itself"),
        ("SwitchName=s1 Nodes=ALL", r"t:1: ALL is no group"),
        ("Include other.conf", r"t:1: 'Include other.conf' is not read here"),
        ("", r"t: no switch or block of level 0"),
    ],
)
def test_a_mistake_in_a_topology_is_named_with_its_line(text: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        groups.topology(text, "t")


def test_a_table_names_the_group_of_each_node() -> None:
    text = "# racks\nn[1-2] r1\nn3\tr2  # moved\n\nn9 r1\n"

    assert folded(groups.table(text, "racks")) == {"r1": ["n1", "n2", "n9"], "r2": ["n3"]}


@pytest.mark.parametrize(
    ("text", "says"),
    [("n1 r1\nn2", r"racks:2: 'n2' is not a hostlist and a group"), ("n[1 r1", r"racks:1: hostlist .* cannot be read")],
)
def test_a_mistake_in_a_table_is_named_with_its_line(text: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        groups.table(text, "racks")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"r(?P<rack>\d+)n\d+", {"1": ["r1n1", "r1n2"], "2": ["r2n1"]}),
        (r"(r\d+)n\d+", {"r1": ["r1n1", "r1n2"], "r2": ["r2n1"]}),
        (r"(?P<row>r)(?P<rack>\d+)n\d+", {"1": ["r1n1", "r1n2"], "2": ["r2n1"]}),
        (r"r1n\d", {"r1n1": ["r1n1"], "r1n2": ["r1n2"]}),
    ],
)
def test_a_pattern_makes_a_group_of_each_text_that_it_finds(pattern: str, expected: dict[str, list[str]]) -> None:
    found = groups.by_pattern("rack", re.compile(pattern), ["r1n1", "r2n1", "r1n2", "login1", "xr1n1"])

    assert folded(found) == expected


def test_groups_of_one_name_are_one_and_r2_comes_before_r10() -> None:
    found = groups.joined({"r10": frozenset({"a"}), "r2": frozenset({"b"})}, {"r10": frozenset({"c"})})

    assert list(found.items()) == [("r2", frozenset({"b"})), ("r10", frozenset({"a", "c"}))]


def test_a_limit_for_each_group_of_a_kind() -> None:
    known = Groups({"rack": {"r1": frozenset({"n1"}), "r2": frozenset({"n2"})}, "partition": {}})

    assert known.limits("rack", Amount(1)) == (
        Limit("rack r1", Amount(1), frozenset({"n1"})),
        Limit("rack r2", Amount(1), frozenset({"n2"})),
    )
    assert known.place("rack") == {"n1": "r1", "n2": "r2"}
    with pytest.raises(Misconfigured, match=r"no kind of group is called 'rak' \(known: partition, rack\)"):
        known.of("rak")
    with pytest.raises(Misconfigured, match=r"known: none: see \[groups\]"):
        Groups().of("rack")
