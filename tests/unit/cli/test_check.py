# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

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
