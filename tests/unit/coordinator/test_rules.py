# SPDX-License-Identifier: Apache-2.0
import re

from refloat_coordinator.permits.boots import BootRule
from refloat_coordinator.permits.budget import Amount, Limit, Room
from refloat_coordinator.permits.rules import Rules

KNOWN = frozenset({"r1n1", "r1n2", "r2n1"})
RACK = ("rack", re.compile(r"(r\d+)n\d+"))


def test_a_pattern_makes_limits_of_the_nodes_that_slurm_knows() -> None:
    rules = Rules((Limit("cluster", Amount(2)),), per_group={"rack": Amount(1)}, patterns=(RACK,))

    assert rules.budget(KNOWN).limits == (
        Limit("cluster", Amount(2)),
        Limit("rack r1", Amount(1), frozenset({"r1n1", "r1n2"})),
        Limit("rack r2", Amount(1), frozenset({"r2n1"})),
    )


def test_groups_of_a_table_and_of_a_pattern_are_joined() -> None:
    listed = {"rack": {"r2": frozenset({"x1"})}}
    budget = Rules(listed=listed, patterns=(RACK,)).budget(KNOWN)

    assert budget.groups.of("rack")["r2"] == {"x1", "r2n1"}


def test_until_partitions_are_read_a_limit_of_one_lets_nobody_go() -> None:
    unread = Rules(per_group={"partition": Amount(1)})
    read = Rules(per_group={"partition": Amount(1)}, told={"gpu": frozenset({"r1n1"}), "main": KNOWN})
    room = Room(unread.budget(KNOWN).limits, {}, KNOWN)

    assert "whose nodes have not been read from Slurm yet: 0 of 0 out" in room.refusal("r1n1")
    assert [limit.name for limit in read.budget(KNOWN).limits] == ["partition gpu", "partition main"]


def test_a_partition_that_is_not_there_and_a_kind_without_nodes_are_warned_of() -> None:
    rules = Rules(
        partitions={"gpu": Amount(1)}, patterns=(("rack", re.compile("x")),), boot=BootRule(per="rack"), told={}
    )

    assert rules.budget(KNOWN).warnings == (
        "no node is in any rack: its limits bind nothing",
        "Slurm has no partition 'gpu': its limit binds nothing",
    )


def test_before_slurm_has_told_its_nodes_nothing_is_warned_of() -> None:
    assert Rules(per_group={"rack": Amount(1)}, patterns=(RACK,), told={}).budget(()).warnings == ()


def test_drains_by_checks_are_a_limit_of_their_own() -> None:
    assert Rules(health=Amount(5, percent=True)).budget(KNOWN).health == (
        Limit("health_drain", Amount(5, percent=True)),
    )
