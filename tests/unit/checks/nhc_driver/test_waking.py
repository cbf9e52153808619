# SPDX-License-Identifier: Apache-2.0
import asyncio
from pathlib import Path
from typing import Any

import pytest

from refloat_checks import facts
from refloat_checks.nhc.live import NhcConf
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_checks.runner import Runner
from refloat_checks.wakes import FileChange, LinkChange, MountTable
from refloat_contract.words import Status

CONF = """\
* || check_fs_mount -t tmpfs -f /scratch
* || check_hw_eth ib0
* || check_file_test -f @/key @/other
* || check_hw_eth $DEVICE
* || check_ps_loadavg 100000 100000 100000
* || echo pass >>@/passes
"""


def conf(tmp_path: Path, text: str = CONF) -> NhcConf:
    (tmp_path / "nhc.conf").write_text(text.replace("@", str(tmp_path)))
    return NhcConf.load(tmp_path / "nhc.conf", host="n1")


@pytest.fixture
async def live(tmp_path: Path) -> NhcConf:
    return await asyncio.to_thread(conf, tmp_path)


async def look(live: NhcConf, *names: str) -> dict[str, Any]:
    pool = ProbePool()
    runner = Runner(live.specs(), facts.source(Roots(), pool), find_look=live.look_of)
    found = {result.finding.check: result.finding for result in await runner.run(names or None)}
    await pool.aclose()
    return found


def test_a_line_is_woken_by_what_wakes_its_form_in_toml(tmp_path: Path) -> None:
    live = conf(tmp_path)

    assert [live.wakes_of(spec) for spec in live.specs()] == [
        (MountTable(),),
        (LinkChange("ib0"),),
        (FileChange(f"{tmp_path}/key"), FileChange(f"{tmp_path}/other")),
        (),  # which link, only the pass can tell
        (),
        (),
    ]


def test_a_function_of_the_site_is_not_taken_for_nhcs_check(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/site.nhc").write_text("check_hw_eth() { return 0; }\n")
    live = conf(tmp_path, "* || check_hw_eth ib0\n")

    assert [live.wakes_of(spec) for spec in live.specs()] == [()]


async def test_a_woken_line_is_looked_at_without_the_others(live: NhcConf, tmp_path: Path) -> None:
    before = await look(live)
    assert before[live.specs()[2].name].status is Status.FAILED
    (tmp_path / "key").touch()
    (tmp_path / "other").touch()

    found = await look(live, live.specs()[2].name)

    assert [finding.status for finding in found.values()] == [Status.OK]
    assert (tmp_path / "passes").read_text() == "pass\n"


async def test_the_last_pass_has_the_news_of_the_lines_looked_at_since(live: NhcConf, tmp_path: Path) -> None:
    await look(live)
    (tmp_path / "key").touch()
    (tmp_path / "other").touch()
    assert live.last is not None
    at_s, others = live.last.at_s, [each for each in live.last.result.findings if each.number != 3]

    await look(live, live.specs()[2].name)

    assert next(each for each in live.last.result.findings if each.number == 3).status is Status.OK
    assert [each for each in live.last.result.findings if each.number != 3] == others
    assert live.last.at_s == at_s


async def test_with_a_line_that_cannot_stand_alone_all_are_looked_at(live: NhcConf, tmp_path: Path) -> None:
    await look(live, "check_hw_eth:ib0", live.specs()[-1].name)

    assert (tmp_path / "passes").read_text() == "pass\n"
    assert live.last is not None
    assert len(live.last.result.findings) == 6
