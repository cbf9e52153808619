# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from daemons import Refloat


def agent_toml(tmp_path: Path, *names: str) -> Path:
    """A configuration with a file check for each name; the files named in upper case are not there."""
    tables = []
    for name in names:
        path = tmp_path / name
        if name.islower():
            path.touch()
        tables.append(f'[[check]]\nname = "{name}"\ntype = "file"\npath = "{path}"\n')
    file = tmp_path / "agent.toml"
    file.write_text("\n".join(tables))
    return file


@pytest.mark.parametrize(("names", "status"), [(["a", "b"], 0), (["a", "B"], 1), ([], 0)])
def test_checks_are_run_once_and_the_worst_is_the_exit_status(
    names: list[str], status: int, refloat: Refloat, tmp_path: Path
) -> None:
    ended = refloat("check", "--config", agent_toml(tmp_path, *names), "--json")

    assert ended.status == status
    assert {result["check"]: result["status"] for result in json.loads(ended.out)} == {
        name: "OK" if name.islower() else "FAILED" for name in names
    }


def test_a_check_that_cannot_be_looked_at_is_3(refloat: Refloat, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[[check]]\nname = "x"\ntype = "command"\nargv = ["/no/such/program"]\n')

    ended = refloat("check", "--config", file)

    assert ended.status == 3, ended.err
    assert "UNKNOWN" in ended.out


def test_only_some_checks_can_be_run(refloat: Refloat, tmp_path: Path) -> None:
    ended = refloat("check", "--config", agent_toml(tmp_path, "a", "B"), "--only", "a")

    assert ended.status == 0
    assert "B" not in ended.out


def test_a_check_that_is_not_there_is_2_with_the_nearest(refloat: Refloat, tmp_path: Path) -> None:
    ended = refloat("check", "--config", agent_toml(tmp_path, "scratch"), "--only", "scrach")

    assert ended.status == 2
    assert ended.err == f"refloat: {tmp_path}/agent.toml has no enabled check 'scrach'; did you mean 'scratch'?\n"


def test_checks_are_listed_and_not_run(refloat: Refloat, tmp_path: Path) -> None:
    file = agent_toml(tmp_path, "a", "B")

    assert refloat("check", "--config", file, "--list").out == "a  file  drain\nB  file  drain\n"
    assert json.loads(refloat("check", "--config", file, "--list", "--json").out)[0] == {
        "check": "a",
        "type": "file",
        "severity": "drain",
    }


NHC = """* || A=1
* || check_hw_eth lo
* || check_file_test -r -f {tmp}/there
n2 || check_hw_eth nosuch
"""


def nhc_conf(tmp_path: Path) -> Path:
    file = tmp_path / "nhc.conf"
    file.write_text(NHC.format(tmp=tmp_path))
    (tmp_path / "there").touch()
    return file


def test_the_lines_of_an_nhc_conf_are_looked_at(refloat: Refloat, tmp_path: Path) -> None:
    ended = refloat("check", "--nhc-conf", nhc_conf(tmp_path), "--host", "n1", "--json")

    assert ended.status == 0, ended.err
    assert [result["check"].partition("/")[0] for result in json.loads(ended.out)] == [
        "check_hw_eth:lo",
        "check_file_test:",
    ]
    assert refloat("check", "--nhc-conf", nhc_conf(tmp_path), "--host", "n2").status == 1


def test_the_lines_of_an_nhc_conf_are_listed_for_a_host(refloat: Refloat, tmp_path: Path) -> None:
    listed = refloat("check", "--nhc-conf", nhc_conf(tmp_path), "--host", "n2", "--list").out

    assert "check_hw_eth:nosuch  nhc  drain\n" in listed


def test_the_agents_nhc_conf_is_part_of_its_checks(refloat: Refloat, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f'nhc_conf = "{nhc_conf(tmp_path)}"\n')

    assert refloat("check", "--config", file, "--only", "check_hw_eth:lo").status == 0


def test_junit_is_written_for_ci(refloat: Refloat, tmp_path: Path) -> None:
    file, unknown = agent_toml(tmp_path, "a", "B"), '[[check]]\nname = "x"\ntype = "command"\nargv = ["/no/<such>"]\n'
    file.write_text(file.read_text() + unknown)

    ended = refloat("check", "--config", file, "--junit", "-")
    suite = ET.fromstring(ended.out)[0]  # noqa: S314 - our own

    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert {case.get("name"): [child.tag for child in case] for case in suite} == {
        "a": [], "B": ["failure"], "x": ["error"],
    }  # fmt: skip
    assert ended.status == 1


def test_an_offline_tree_is_looked_at_instead(refloat: Refloat, tmp_path: Path) -> None:
    (tmp_path / "tree" / "etc").mkdir(parents=True)
    (tmp_path / "tree" / "etc" / "image-only").write_text("x")
    conf = tmp_path / "nhc.conf"
    conf.write_text("* || check_file_test -r -f /etc/image-only\n* || check_ps_loadavg 1000\n")

    found = json.loads(refloat("check", "--nhc-conf", conf, "--root", tmp_path / "tree", "--json").out)

    assert [result["status"] for result in found] == ["OK", "UNKNOWN"]
    assert refloat("check", "--nhc-conf", conf).status == 1


def test_a_profile_is_looked_at_from_here_where_no_agent_answers(
    refloat: Refloat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOAT_AGENT_SOCKET", str(tmp_path / "no.sock"))
    file = agent_toml(tmp_path, "a", "B")
    file.write_text(file.read_text() + 'profiles = ["boot"]\n')

    assert refloat("check", "--config", file, "--profile", "prolog").status == 0
    assert refloat("check", "--config", file, "--profile", "boot").status == 1
    assert refloat("check", "--config", file, "--profile", "bot").status == 2


def test_what_only_warns_does_not_fail_a_profile(refloat: Refloat, tmp_path: Path) -> None:
    file = agent_toml(tmp_path, "B")
    file.write_text(file.read_text() + 'severity = "warn"\n')

    assert refloat("check", "--config", file, "--profile", "prolog").status == 0


def test_an_image_is_asked_only_for_what_is_in_its_files(refloat: Refloat, tmp_path: Path) -> None:
    (tmp_path / "tree" / "etc").mkdir(parents=True)
    (tmp_path / "tree" / "etc" / "image-only").write_text("x")
    conf = tmp_path / "nhc.conf"
    conf.write_text("* || check_file_test -r -f /etc/image-only\n* || check_ps_loadavg 1000\n")

    ended = refloat("check", "--nhc-conf", conf, "--root", tmp_path / "tree", "--profile", "image", "--json")

    assert ended.status == 0
    assert [result["status"] for result in json.loads(ended.out)] == ["OK"]
