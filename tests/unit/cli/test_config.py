# SPDX-License-Identifier: Apache-2.0
import json
import tomllib
from pathlib import Path

import pytest
from daemons import Refloat


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("agent.toml", "", "agent"),
        ("my-coordinator.toml", "", "coordinator"),
        ("a.toml", 'mode = "act"\n', "agent"),
        ("b.toml", "max_events = 5000\n", "coordinator"),
        ("operator.toml", 'cluster = "c"\n[mqtt]\nport = 1884\n', "operator"),
    ],
)
def test_a_good_file_is_recognised_by_name_or_keys(
    name: str, text: str, kind: str, refloat: Refloat, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)

    ended = refloat("config", "check", tmp_path / name)

    assert (ended.status, ended.out) == (0, f"{tmp_path / name}: good ({kind})\n")


def test_a_wrong_file_is_2_and_each_problem_a_line(refloat: Refloat, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('cluster = "c"\nmod = "act"\n[slurm]\npoll_s = 0\n')
    (tmp_path / "coordinator.toml").write_text("")

    ended = refloat("config", "check", tmp_path / "agent.toml", tmp_path / "coordinator.toml")

    assert ended.status == 2
    assert ended.out == f"{tmp_path}/coordinator.toml: good (coordinator)\n"
    slurm, unknown = sorted(ended.err.splitlines(), key=lambda line: "unknown" in line)
    assert slurm == f"{tmp_path}/agent.toml:4: slurm.poll_s: must be greater than or equal to 1, not 0"
    assert unknown.startswith(f"{tmp_path}/agent.toml:2: mod: unknown key; did you mean 'mode'?")


def test_a_wrong_check_is_found_in_the_file(refloat: Refloat, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('[[check]]\nname = "x"\ntype = "fil"\n')

    ended = refloat("config", "check", tmp_path / "agent.toml")

    assert ended.status == 2
    assert "unknown type 'fil' (did you mean 'file'?)" in ended.err


def test_json_tells_the_same(refloat: Refloat, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("x = 1\n")

    (judged,) = json.loads(refloat("config", "check", tmp_path / "agent.toml", "--json").out)

    assert (judged["kind"], judged["good"], len(judged["problems"])) == ("agent", False, 1)


def test_a_file_that_could_be_either_wants_a_kind(refloat: Refloat, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('cluster = "c"\n')

    assert "say --kind agent, coordinator or operator" in refloat("config", "check", tmp_path / "x.toml").err
    assert refloat("config", "check", "--kind", "agent", tmp_path / "x.toml").status == 0


def test_the_environment_does_not_matter(refloat: Refloat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLOAT_AGENT__NONSENSE", "1")
    (tmp_path / "agent.toml").write_text("")

    assert refloat("config", "check", tmp_path / "agent.toml").status == 0


def test_the_reference_has_all_parts_or_one(refloat: Refloat) -> None:
    everything = refloat("config", "reference").out
    checks = refloat("config", "reference", "checks").out

    for heading in ("# agent.toml\n", "# coordinator.toml\n", "# Checks\n", '\n## type = "mount"\n'):
        assert heading in everything
    assert checks.startswith("# Checks\n")
    assert "| `type` | text | must be set |" in checks
    assert "`limits`" not in checks


def test_the_traps_of_an_nhc_conf_are_named_and_end_with_1(refloat: Refloat, tmp_path: Path) -> None:
    (tmp_path / "nhc.conf").write_text("{login} || check_hw_eth lo\n* || check_mine\n")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "mine.nhc").write_text("check_mine() { true; }\n")

    ended = refloat("config", "check", tmp_path / "nhc.conf")

    assert ended.status == 1
    assert ended.err.startswith(f"{tmp_path}/nhc.conf:1:2: the target means nothing")
    assert ended.err.count("\n") == 1


def test_an_nhc_conf_that_cannot_be_read_is_2(refloat: Refloat, tmp_path: Path) -> None:
    assert refloat("config", "check", tmp_path / "nhc.conf").status == 2


NHC_CONF = """\
# a comment
 * || export NHC_RM=slurm
 * || check_fs_mount_rw -t nfs4 -f /home -f /apps
 n[1-4]* || check_ps_service -S -u root sshd
 * || check_fs_free /home 5%
 * || [[ -e /x ]] || die 1 "no /x"
 * || check_ps_loadavg 0
 * || check_fs_free /home 10G"""


def test_an_nhc_conf_is_converted_as_far_as_it_can_be(refloat: Refloat, tmp_path: Path) -> None:
    (tmp_path / "nhc.conf").write_text(NHC_CONF)

    ended = refloat("config", "convert", tmp_path / "nhc.conf")

    checks = tomllib.loads(ended.out)["check"]
    assert ended.status == 1
    assert [check["name"] for check in checks] == [
        "fs_mount_rw-home",
        "fs_mount_rw-apps",
        "ps_service-sshd",
        "fs_free-home",
        "fs_free-home-2",
    ]
    assert checks[-1] == {"name": "fs_free-home-2", "type": "filesystem", "path": "/home", "min_free": "10G"}
    assert "# only on n[1-4]*: put it into" in ended.out
    assert "# left out: -S\n" in ended.out
    assert [line.split(": ")[0].rpartition(":")[2] for line in ended.err.splitlines()] == ["2", "6", "7"]


def test_what_was_converted_is_a_configuration(refloat: Refloat, tmp_path: Path) -> None:
    (tmp_path / "nhc.conf").write_text("* || check_hw_cpuinfo 2 64 128\n* || check_ps_daemon munged munge\n")

    ended = refloat("config", "convert", tmp_path / "nhc.conf")
    (tmp_path / "agent.toml").write_text(ended.out)

    assert (ended.status, ended.err) == (0, "")
    assert refloat("config", "check", tmp_path / "agent.toml").status == 0


def test_a_file_that_is_not_there_is_2(refloat: Refloat, tmp_path: Path) -> None:
    ended = refloat("config", "convert", tmp_path / "gone.conf")

    assert (ended.status, ended.err) == (2, f"{tmp_path}/gone.conf: No such file or directory\n")


def test_a_check_of_slurmd_that_is_for_the_boot_is_warned_of(refloat: Refloat, tmp_path: Path) -> None:
    daemon = '[[check]]\nname = "{0}"\ntype = "process"\nprocess = "{0}"\nwhen = "boot"\n'
    (tmp_path / "agent.toml").write_text(daemon.format("slurmd") + daemon.format("munged"))

    ended = refloat("config", "check", tmp_path / "agent.toml")

    assert (ended.status, len(ended.err.splitlines())) == (0, 1)
    assert "warning: " in ended.err
    assert "check 'slurmd' is for the boot, and names slurmd" in ended.err
