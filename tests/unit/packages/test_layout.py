# SPDX-License-Identifier: Apache-2.0
"""What the packages hold, before anything is built: every file has its place, its package and its source."""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from refloat_agent.config import AgentSettings
from refloat_coordinator.config import CoordinatorSettings
from refloat_service import settings

TOP = Path(__file__).parents[3]
sys.path[:0] = [str(TOP / "packaging"), str(TOP / "packaging" / "rpm")]

import file_lists  # noqa: E402 - found by the line above
import make_deb  # noqa: E402 - the same
import make_rpm  # noqa: E402 - the same
import stage  # noqa: E402 - the same
from workshop import PREFIX, Unbuildable, Workshop  # noqa: E402 - the same

LAYOUT = tomllib.loads((TOP / "packaging" / "layout.toml").read_text())
PLACES = (
    *(f"{PREFIX}/", "/etc/refloat/", "/usr/lib/systemd/system/refloat-", "/usr/lib/systemd/system-preset/90-refloat-"),
    *("/usr/lib/sysusers.d/refloat", "/usr/lib/tmpfiles.d/refloat", "/usr/share/doc/refloat-", "/usr/share/man/man"),
    *(
        "/usr/share/licenses/refloat-",
        "/usr/share/bash-completion/completions/refloat",
        "/usr/share/zsh/",
        "/usr/share/fish/",
    ),
)
COMMANDS = {"/usr/bin/refloat", "/usr/sbin/refloat-agent", "/usr/sbin/refloat-coordinator", "/usr/sbin/nhc"}


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    for package, table in LAYOUT.items():
        yield from ((package, rule) for rule in table.get("files", ()))


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"(?m)^([\w.-]+)==([^\s\\]+)", (TOP / name).read_text())
    return dict(found)


class Shop(Workshop):
    """A workshop that builds nothing: an environment of one library, and one module of ours."""

    @property
    def version(self) -> str:
        return "3.12"

    @property
    def environment(self) -> Path:
        folder = self.work / "environment"
        for library in ("rich", "cffi"):
            (self.libraries(folder) / library).mkdir(parents=True, exist_ok=True)
            (self.libraries(folder) / library / "__init__.py").touch()
        (self.libraries(folder) / "_cffi_backend.cpython-312.so").touch()
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / "python").unlink(missing_ok=True)
        (folder / "bin" / "python").symlink_to(self.python)
        return folder

    def wheel(self, source: Path, folder: Path, env: Mapping[str, str] = MappingProxyType({})) -> Path:
        del env
        return folder / source.name

    def install(self, environment: Path, *words: str) -> None:
        place = self.libraries(environment) / ("pyslurm" if "pyslurm" in words[-1] else "refloat_agent")
        place.mkdir()
        (place / "__init__.py").write_text(self.given.read_text() if self.given else "")
        if place.name == "pyslurm":
            (place / "node.c").touch()

    def compile(self, environment: Path, folders: Any) -> None:
        del environment
        assert all(folder.name in {"refloat_agent", "pyslurm"} for folder in folders)


def staged(tmp_path: Path, form: str = "rpm", pyslurm: Path | None = None) -> list[stage.Package]:
    return stage.stage(Shop(Path("/usr/bin/python3.12"), tmp_path / "work"), tmp_path / "root", form, pyslurm)


@pytest.mark.parametrize(("package", "rule"), list(rules()))
def test_a_file_is_of_the_checkout_and_goes_to_a_place_of_ours(package: str, rule: dict[str, Any]) -> None:
    place = f"{rule['to']}{Path(rule['from']).name}" if rule["to"].endswith("/") else rule["to"]

    assert place.startswith(PLACES)
    assert rule.get("optional") or "*" in rule["from"] or (TOP / rule["from"]).is_file()
    assert rule["to"].startswith("/etc/") == bool(rule.get("config"))


def test_the_only_commands_outside_are_links_to_ours() -> None:
    links = {path: target for table in LAYOUT.values() for path, target in table.get("links", {}).items()}

    assert set(links) == COMMANDS
    assert all(target == f"../lib/refloat/bin/{Path(path).name}" for path, target in links.items())


def test_the_commands_are_those_of_the_project() -> None:
    scripts = {name: point for table in LAYOUT.values() for name, point in table.get("scripts", {}).items()}

    assert scripts == tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["scripts"]


def test_everything_in_systemd_is_in_a_package() -> None:
    packed = {rule["from"] for _, rule in rules()}

    assert {
        f"systemd/{path.relative_to(TOP / 'systemd')}" for path in (TOP / "systemd").rglob("*.*") if path.is_file()
    } <= packed


def test_every_path_is_in_one_package(tmp_path: Path) -> None:
    archive = tmp_path / "pyslurm-25.5.0.tar.gz"
    archive.touch()
    found = staged(tmp_path, pyslurm=archive)
    paths = [entry.path for package in found for entry in package.entries]
    there = {f"/{path.relative_to(tmp_path / 'root')}" for path in (tmp_path / "root").rglob("*") if path.is_file()}

    assert len(paths) == len(set(paths))
    assert there <= set(paths)
    held = {package.name: {entry.path for entry in package.entries} for package in found}
    libraries = f"{PREFIX}/lib/python3.12/site-packages"
    assert {path for path in held["refloat-slurm-pyslurm"] if Path(path).suffix} == {f"{libraries}/pyslurm/__init__.py"}
    assert f"{libraries}/_cffi_backend.cpython-312.so" in held["refloat-coordinator"]
    assert f"{libraries}/rich/__init__.py" in held["refloat-common"]


def test_the_python_of_the_environment_is_the_one_asked_for_and_hears_no_variables(tmp_path: Path) -> None:
    staged(tmp_path)
    folder = tmp_path / "root" / str(PREFIX).lstrip("/") / "bin"

    assert (folder / "python").readlink() == Path("../../../bin/python3.12")
    assert (folder / "nhc").read_text().splitlines()[0] == f"#!{PREFIX}/bin/python -I"
    compile((folder / "nhc").read_text(), "nhc", "exec")


def test_a_file_that_names_the_folder_of_the_build_is_refused(tmp_path: Path) -> None:
    told = tmp_path / "told.py"
    told.write_text(f"PLACE = '{tmp_path}/root/usr'\n")
    shop = Shop(Path("/usr/bin/python3.12"), tmp_path / "work", told)

    with pytest.raises(Unbuildable, match="names the folder of the build"):
        stage.stage(shop, tmp_path / "root", "rpm")


@pytest.mark.parametrize(("form", "licence"), [("rpm", True), ("deb", False)])
def test_what_is_for_one_form_is_not_in_the_other(tmp_path: Path, form: str, licence: bool) -> None:  # noqa: FBT001
    staged(tmp_path, form)

    assert (tmp_path / "root/usr/share/licenses").exists() is licence


def test_rpm_and_deb_know_all_packages() -> None:
    spec = (TOP / "packaging" / "rpm" / "refloat.spec").read_text()

    assert {f"refloat-{name}" for name in re.findall(r"(?m)^%files (\S+) -f", spec)} == set(LAYOUT)
    assert set(make_deb.RELATIONS) == set(LAYOUT)


def test_a_setting_is_kept_at_updates_and_a_folder_is_owned() -> None:
    setting = {"path": "/etc/refloat/agent.toml", "mode": "0644", "is_folder": False, "is_config": True}
    folder = {"path": "/var/lib/refloat", "mode": "0700", "is_folder": True, "is_config": False}

    assert file_lists.line(setting) == '%attr(0644,root,root) %config(noreplace) "/etc/refloat/agent.toml"'
    assert file_lists.line(folder) == '%attr(0700,root,root) %dir "/var/lib/refloat"'


def test_the_packages_have_the_libraries_that_are_tested() -> None:
    tested, packed = pins("requirements.lock"), pins("packaging/runtime.lock")

    assert {name: version for name, version in packed.items() if name in tested} == {
        name: version for name, version in tested.items() if name in packed
    }
    assert set(packed) - set(tested) == {"nvidia-ml-py", "systemd-python"}
    direct = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[<>=~\[]", line)[0].lower() for line in direct} <= set(packed)


@pytest.mark.parametrize("name", ["runtime.lock", "backends.lock"])
def test_every_download_is_hashed(name: str) -> None:
    text = (TOP / "packaging" / name).read_text()

    assert all("--hash=sha256:" in entry for entry in re.split(r"(?m)^(?=[\w.-]+==)", text)[1:])


@pytest.mark.parametrize(
    ("version", "deb", "rpm"),
    [("0.1.0", "0.1.0", "0.1.0"), ("1.2rc1", "1.2~rc1", "1.2~rc1"), ("1.0.dev3", "1.0~dev3", "1.0~dev3")],
)
def test_a_release_is_newer_than_what_came_before_it(version: str, deb: str, rpm: str) -> None:
    assert (make_deb.debian_version(version), make_rpm.rpm_version(version)) == (deb, rpm)


def test_what_is_installed_first_only_observes() -> None:
    defaults = TOP / "packaging" / "defaults"

    assert settings.load(AgentSettings, defaults / "agent.toml", env_prefix="NONE").mode == "observe"
    settings.load(CoordinatorSettings, defaults / "coordinator.toml", env_prefix="NONE")
