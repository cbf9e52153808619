# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from refloat_agent.effects import versions
from refloat_checks.proc import Roots
from refloat_contract.messages import Runs


def a_node(tmp_path: Path, cmdline: str = "root=live ro BOOTIF=01-aa quiet") -> Roots:
    texts = {
        "proc/sys/kernel/osrelease": "6.18.44\n",
        "proc/cmdline": cmdline,
        "root/etc/os-release": 'NAME="Rocky Linux"\nID="rocky"\nVERSION_ID=9.4\n',
        "sys/module/nvidia/version": "560.28\n",
        "sys/module/mlx5_core/srcversion": "ABCD\n",
        "sys/module/sg/refcnt": "0",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Roots(tmp_path / "proc", tmp_path / "sys", tmp_path / "root")


async def test_a_node_tells_what_it_runs(tmp_path: Path) -> None:
    modules = ("nvidia", "mlx5-core", "sg", "lustre")
    runs = await versions.read(a_node(tmp_path), "compute-1", (), modules)

    assert (runs.image, runs.os, runs.kernel, runs.cmdline) == (
        "compute-1",
        "rocky-9.4",
        "6.18.44",
        "root=live ro quiet",
    )
    assert runs.versions == {"nvidia": "560.28", "mlx5-core": "ABCD", "sg": "?", "lustre": "absent"}


async def test_nodes_that_differ_in_their_own_names_only_have_the_same_digest(tmp_path: Path) -> None:
    ours, other = [
        await versions.read(a_node(tmp_path / name, f"root=live BOOTIF={name} ip={name}::dhcp"), "i", (), ("nvidia",))
        for name in ("a", "b")
    ]
    changed = await versions.read(a_node(tmp_path / "c", "root=live BOOTIF=c nosmt"), "i", (), ("nvidia",))

    assert ours == other
    assert changed.digest != ours.digest
    assert len(ours.digest) == 12


async def test_a_node_that_tells_nothing_has_empty_words(tmp_path: Path) -> None:
    assert await versions.read(Roots(tmp_path, tmp_path, tmp_path), "", (), ()) == versions.digested(Runs())


async def test_texts_are_bounded(tmp_path: Path) -> None:
    runs = await versions.read(a_node(tmp_path, "x" * 9000), "i" * 9000, (), ())

    assert len(runs.model_dump_json()) < 2000


@pytest.mark.parametrize(("found", "told"), [(("1.2-1",), "1.2-1"), (("2", "1"), "1,2"), ((), "absent"), (None, "?")])
async def test_packages_are_told_with_their_versions(
    found: tuple[str, ...] | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def installed(name: str, root: Path) -> tuple[str, ...] | None:
        return found if name == "slurm" else ()

    monkeypatch.setattr("refloat_checks.packages.installed", installed)

    assert (await versions.read(a_node(tmp_path), "", ("slurm",), ())).versions == {"slurm": told}
