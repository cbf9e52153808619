# SPDX-License-Identifier: Apache-2.0
from collections.abc import Mapping
from pathlib import Path

import pytest

from refloat_contract.errors import Misconfigured, Transient
from refloat_coordinator import group_sources
from refloat_coordinator.group_sources import GroupSources
from refloat_coordinator.limit_settings import GroupKindSettings
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.rules import Rules


def kind(**given: object) -> GroupKindSettings:
    return GroupKindSettings.model_validate(given)


def test_groups_stand_in_the_configuration_in_files_and_in_the_topology(tmp_path: Path) -> None:
    (tmp_path / "racks").write_text("n[1-2] r1\nn3 r2\n")
    (tmp_path / "topology.conf").write_text("SwitchName=s1 Nodes=n[1-3]\n")
    found = group_sources.listed(
        {
            "rack": kind(file=tmp_path / "racks", sets={"r2": "n4"}),
            "switch": kind(topology=tmp_path / "topology.conf"),
            "name": kind(pattern="n."),
        }
    )

    assert {k: {name: sorted(nodes) for name, nodes in named.items()} for k, named in found.items()} == {
        "rack": {"r1": ["n1", "n2"], "r2": ["n3", "n4"]},
        "switch": {"s1": ["n1", "n2", "n3"]},
        "name": {},
    }


def test_clustershells_groups_are_those_of_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "groups.conf").write_text(
        "[Main]\ndefault: local\n[local]\nmap: echo x\n"
        "[rack]\nmap: [ $GROUP = r1 ] && echo n[1-2] || echo n3\nlist: echo r1 r2\n"
    )
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", str(tmp_path))
    found = group_sources.listed({"rack": kind(clustershell="rack")})

    assert found == {"rack": {"r1": frozenset({"n1", "n2"}), "r2": frozenset({"n3"})}}
    with pytest.raises(Misconfigured, match=r"groups.pdu.clustershell: ClusterShell's groups of 'pdu' cannot be read"):
        group_sources.listed({"pdu": kind(clustershell="pdu")})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"groups.rack.file: cannot read .*/racks"):
        group_sources.listed({"rack": kind(file=tmp_path / "racks")})


class Slurm:
    def __init__(self) -> None:
        self.told: Mapping[str, str] | None = None

    async def partitions(self) -> Mapping[str, str]:
        if self.told is None:
            raise Transient("connect failure")
        return self.told


async def test_what_cannot_be_read_stays_as_it_was(tmp_path: Path) -> None:
    file, slurm, ruled = tmp_path / "racks", Slurm(), list[Rules]()
    file.write_text("n1 r1\n")
    rules = Rules(partitions={"gpu": Amount(1)}, per_group={"rack": Amount(1)})
    sources = GroupSources({"rack": kind(file=file)}, rules, slurm.partitions, ruled.append)
    await sources.begin()
    first = await sources.read()
    slurm.told = {"gpu": "n[1-2]", "empty": ""}
    second = await sources.read()
    file.write_text("n1\n")
    slurm.told = None
    third, troubles = await sources.read(), dict(sources.troubles)
    file.write_text("n1 r2\n")
    slurm.told = {"gpu": "n1"}
    fourth = await sources.read()

    assert (first, second, third, fourth) == (False, True, False, True)
    assert troubles["partitions"] == "connect failure"
    assert troubles["groups"].startswith(f"{file}:1: 'n1' is not a hostlist and a group")
    assert sources.troubles == {}
    assert [[limit.name for limit in one.budget(()).limits] for one in ruled] == [
        ["rack r1", "partition, whose nodes have not been read from Slurm yet"],
        ["rack r1", "partition gpu"],
        ["rack r2", "partition gpu"],
    ]
    assert ruled[-1].budget(()).limits[-1] == Limit("partition gpu", Amount(1), frozenset({"n1"}))


async def test_a_file_that_is_wrong_at_the_start_ends_it(tmp_path: Path) -> None:
    (tmp_path / "racks").write_text("n1\n")
    sources = GroupSources({"rack": kind(file=tmp_path / "racks")}, Rules(), Slurm().partitions, lambda _rules: None)

    with pytest.raises(Misconfigured, match=r"racks:1:"):
        await sources.begin()
