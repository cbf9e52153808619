# SPDX-License-Identifier: Apache-2.0
"""Which PySlurm may be built into the packages of a site: one of the release whose headers are there."""

import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "packaging"))

import site_slurm
from workshop import Unbuildable

Form: TypeAlias = Callable[[Path, str], Path]

SLURM_24_05_3 = "#define SLURM_VERSION_NUMBER 0x180503\n"


@pytest.fixture
def headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "include"
    (folder / "slurm").mkdir(parents=True)
    (folder / "slurm" / "slurm_version.h").write_text(SLURM_24_05_3)
    monkeypatch.setenv("SLURM_INCLUDE_DIR", str(folder))
    return folder / "slurm" / "slurm_version.h"


def tree(folder: Path, version: str) -> Path:
    source = folder / "checkout"
    (source / "pyslurm").mkdir(parents=True)
    (source / "pyslurm" / "version.py").write_text(f'# What it is for.\n__version__ = "{version}"\n')
    (source / ".git").mkdir()
    (source / ".git" / "config").touch()
    return source


def archive(folder: Path, version: str) -> Path:
    place = folder / "24.5.x.tar.gz"
    with tarfile.open(place, "w:gz") as made:
        made.add(tree(folder, version), "pyslurm-24.5.x")
    return place


def wheel(folder: Path, version: str) -> Path:
    place = folder / f"pyslurm-{version}-cp312-cp312-linux_x86_64.whl"
    with zipfile.ZipFile(place, "w") as made:
        made.write(tree(folder, version) / "pyslurm" / "version.py", "pyslurm/version.py")
    return place


@pytest.mark.usefixtures("headers")
@pytest.mark.parametrize("form", [archive, wheel])
def test_one_file_of_the_release_of_the_headers_is_taken_as_it_is(tmp_path: Path, form: Form) -> None:
    source = form(tmp_path, "24.5.1")

    assert site_slurm.as_file(source, tmp_path) == source


@pytest.mark.usefixtures("headers")
def test_a_source_tree_is_packed_without_its_history(tmp_path: Path) -> None:
    made = site_slurm.as_file(tree(tmp_path, "24.5.1"), tmp_path)

    assert made == tmp_path / "pyslurm-24.5.1.tar.gz"
    with tarfile.open(made) as packed:
        assert [name for name in packed.getnames() if packed.getmember(name).isfile()] == [
            "pyslurm-24.5.1/pyslurm/version.py"
        ]


@pytest.mark.usefixtures("headers")
@pytest.mark.parametrize("form", [tree, archive, wheel])
def test_another_release_is_refused_and_the_branch_named_that_would_fit(tmp_path: Path, form: Form) -> None:
    source = form(tmp_path, "25.11.2")

    with pytest.raises(Unbuildable, match=r"is for Slurm 25\.11, .* of Slurm 24\.05: .*\(its branch 24\.5\.x\)"):
        site_slurm.as_file(source, tmp_path)


def test_without_headers_only_a_wheel_is_taken(tmp_path: Path, headers: Path) -> None:
    headers.unlink()
    (tmp_path / "compiled").mkdir()
    compiled = wheel(tmp_path / "compiled", "24.5.1")

    assert site_slurm.as_file(compiled, tmp_path) == compiled
    with pytest.raises(
        Unbuildable, match=r"no headers of Slurm in .*, and PySlurm 24\.5\.1 .* Slurm 24\.05 \(slurm-devel"
    ):
        site_slurm.as_file(archive(tmp_path, "24.5.1"), tmp_path)


@pytest.mark.parametrize("name", ["missing.tar.gz", "empty.whl"])
def test_what_is_no_pyslurm_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.whl").touch()

    with pytest.raises(Unbuildable, match="cannot be read as PySlurm's"):
        site_slurm.as_file(tmp_path / name, tmp_path)
    with pytest.raises(Unbuildable, match="is no PySlurm"):
        site_slurm.as_file(tmp_path, tmp_path)


def test_what_the_builder_has_said_is_not_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_LIB_DIR", "/opt/slurm/lib")
    monkeypatch.setenv("PYSLURM_BUILD_JOBS", "1")

    assert site_slurm.environment() == {}
