# SPDX-License-Identifier: Apache-2.0
"""The site's settings for NHC count for the lines of its nhc.conf, in the agent as in the command."""

import asyncio
import os
from pathlib import Path

import pytest

from refloat_checks import facts
from refloat_checks.nhc import sysconfig
from refloat_checks.nhc.live import NhcConf
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_checks.runner import Runner
from refloat_contract.errors import Misconfigured
from refloat_contract.words import Status

CONF = """\
* || check_file_test -d "$PLACE"
* || [[ "$PLACE" == /tmp ]] || die 1 "not there"
"""


def _loaded(path: Path) -> tuple[dict[str, str], list[str]]:
    settings, warnings = {"NAME": "nhc"}, list[str]()
    sysconfig.load(str(path), settings, {"PATH": os.environ["PATH"]}, warnings.append)
    return settings, warnings


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# ours\nTIMEOUT=60\nDF_FLAGS='-Tk -l'\n", {"TIMEOUT": "60", "DF_FLAGS": "-Tk -l"}),
        ("TIMEOUT=60; export LOGFILE=/var/log/$NAME.log\n", {"TIMEOUT": "60", "LOGFILE": "/var/log/nhc.log"}),
        ("if true; then TIMEOUT=60; fi\n", {"TIMEOUT": "60"}),
    ],
)
def test_plain_settings_need_no_shell_and_others_get_one(text: str, found: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "nhc").write_text(text)

    settings, warnings = _loaded(tmp_path / "nhc")

    assert {name: settings.get(name) for name in found} == found
    assert warnings == []


def test_a_file_that_is_not_there_sets_nothing_and_one_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert _loaded(tmp_path / "nhc") == ({"NAME": "nhc"}, [])
    assert _loaded(tmp_path) == ({"NAME": "nhc"}, [f"{tmp_path}:  Is a directory"])


def test_a_file_that_never_ends_is_an_error_not_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "SOURCE_S", 0.3)
    (tmp_path / "nhc").write_text("while :; do sleep 1; done\n")

    with pytest.raises(Misconfigured, match="bash has not read it"):
        _loaded(tmp_path / "nhc")


async def test_the_agents_lines_know_what_the_settings_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "defaults").write_text("PLACE=/tmp\n")
    (tmp_path / "nhc.conf").write_text(CONF)
    monkeypatch.setattr(sysconfig, "path", lambda: str(tmp_path / "defaults"))
    live = await asyncio.to_thread(NhcConf.load, tmp_path / "nhc.conf", host="n1")
    pool = ProbePool()

    found = await Runner(live.specs(), facts.source(Roots(), pool), find_look=live.look_of).run()
    await pool.aclose()

    assert [result.finding.status for result in found] == [Status.OK, Status.OK]
