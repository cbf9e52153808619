# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from refloat_checks import facts
from refloat_checks.nhc.live import NhcConf
from refloat_checks.probes import Answers, ProbePool
from refloat_checks.proc import Roots
from refloat_checks.questions import Question
from refloat_checks.registry import build
from refloat_checks.runner import Runner
from refloat_contract.errors import Misconfigured
from refloat_contract.words import Status

CONF = """\
# a comment
* || export MARK_OFFLINE=0
* || check_hw_eth lo
* || check_file_test -r -d /tmp /var/tmp
* || check_hw_eth nosuch
* || check_hw_eth nosuch
n2 || check_hw_eth other
* || [[ $HOSTNAME == n1 ]] || die 1 "not n1"
"""


def conf(tmp_path: Path, text: str = CONF, *, strict: bool = False) -> NhcConf:
    (tmp_path / "nhc.conf").write_text(text)
    return NhcConf.load(tmp_path / "nhc.conf", host="n1", strict=strict)


def test_each_line_that_applies_is_a_check_with_its_own_name(tmp_path: Path) -> None:
    specs = conf(tmp_path).specs(interval_s=30.0)

    assert [spec.name for spec in specs] == [
        "check_hw_eth:lo",
        "check_file_test:/tmp",
        "check_hw_eth:nosuch",
        "check_hw_eth:nosuch#2",
        "line-8",
    ]
    assert {spec.interval_s for spec in specs} == {30.0}


async def test_all_lines_are_looked_at_in_one_pass_beside_other_checks(tmp_path: Path) -> None:
    live = await asyncio.to_thread(conf, tmp_path)
    others = build([{"name": "tmp", "type": "file", "path": str(tmp_path)}])
    pool = ProbePool()
    runner = Runner([*others, *live.specs()], facts.source(Roots(), pool), find_look=live.look_of)

    found = {result.finding.check: result.finding for result in await runner.run()}
    await pool.aclose()

    assert found["tmp"].status is Status.OK
    assert found["check_hw_eth:lo"].message == "check_hw_eth lo: passed"
    assert found["check_hw_eth:nosuch"].status is Status.FAILED
    assert "Ethernet device nosuch not detected." in found["check_hw_eth:nosuch"].message
    assert found["line-8"].status is Status.OK
    assert live.last is not None
    assert live.last.result.variables["MARK_OFFLINE"] == "0"


async def test_each_line_is_looked_at_whatever_the_file_says_of_all_checks(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "site.nhc").write_text("check_twice() { die 1 once; die 2 twice; return 1; }\n")
    text = "* || NHC_CHECK_ALL=0\n* || check_twice\n* || check_hw_eth lo\n"
    live = await asyncio.to_thread(conf, tmp_path, text)
    pool = ProbePool()

    results = await Runner(live.specs(), facts.source(Roots(), pool), find_look=live.look_of).run()
    await pool.aclose()

    assert [result.finding.status for result in results] == [Status.FAILED, Status.OK]
    assert live.last is not None
    assert live.last.result.findings[0].deaths == 2
    assert live.last.result.variables["NHC_CHECK_ALL"] == "0"


async def test_lines_after_an_exit_are_unknown_not_good(tmp_path: Path) -> None:
    live = await asyncio.to_thread(conf, tmp_path, "* || exit 0\n* || check_hw_eth lo\n")
    pool = ProbePool()

    results = await Runner(live.specs(), facts.source(Roots(), pool), find_look=live.look_of).run()
    await pool.aclose()

    assert {result.finding.status for result in results} == {Status.UNKNOWN}


@pytest.mark.parametrize("strict", [False, True])
async def test_each_line_counts_by_itself_whatever_the_file_says(tmp_path: Path, *, strict: bool) -> None:
    text = '* || NHC_CHECK_ALL=0\n* || false\n* || die 1 "$(bash -c "echo $HOSTNAME")"\n* || check_hw_eth lo\n'
    live = await asyncio.to_thread(conf, tmp_path, text, strict=strict)
    pool = ProbePool()

    results = await Runner(live.specs(), facts.source(Roots(), pool), find_look=live.look_of).run()
    await pool.aclose()

    assert [result.finding.status.value for result in results] == ["FAILED", "FAILED", "OK"]
    assert results[1].finding.message == "n1"


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        NhcConf.load(tmp_path / "nhc.conf")
    with pytest.raises(Misconfigured, match="line 1"):
        conf(tmp_path, "/ || true\n", strict=True)


class CountingPool(ProbePool):
    """Keeps what was asked together."""

    def __init__(self) -> None:
        super().__init__(patience_s=5)
        self.together: list[list[str]] = []

    async def ask_together(self, asked: Sequence[tuple[str, Question[Any]]]) -> Answers:
        self.together.append([question.about for _, question in asked])
        return await super().ask_together(asked)


@pytest.fixture
async def counting() -> AsyncIterator[CountingPool]:
    pool = CountingPool()
    yield pool
    await pool.aclose()


async def statuses(live: NhcConf, passes: Callable[[], facts.Facts]) -> list[Status]:
    return [result.finding.status for result in await Runner(live.specs(), passes, find_look=live.look_of).run()]


async def test_a_pass_begins_with_what_the_last_one_asked(tmp_path: Path, counting: CountingPool) -> None:
    file = tmp_path / "file"
    file.touch()
    text = f"* || check_file_test -d /tmp\n* || check_file_test -f {file}\n"
    live, passes = await asyncio.to_thread(conf, tmp_path, text), facts.source(Roots(), counting)

    assert await statuses(live, passes) == [Status.OK, Status.OK]
    assert await statuses(live, passes) == [Status.OK, Status.OK]
    file.unlink()
    assert await statuses(live, passes) == [Status.OK, Status.FAILED]

    assert counting.together == [["/tmp", str(file)]] * 2


async def test_nothing_is_asked_before_a_line_that_could_change_it(tmp_path: Path, counting: CountingPool) -> None:
    file = tmp_path / "file"
    text = f"* || check_file_test -d /tmp\n* || touch {file}\n* || check_file_test -f {file}\n"
    live, passes = await asyncio.to_thread(conf, tmp_path, text), facts.source(Roots(), counting)

    for _ in range(3):
        assert await statuses(live, passes) == [Status.OK] * 3
        file.unlink()

    assert counting.together == [["/tmp"]] * 2


async def test_a_check_that_runs_a_command_is_such_a_line(tmp_path: Path, counting: CountingPool) -> None:
    file = tmp_path / "file"
    text = f"* || check_cmd_status -r 0 touch {file}\n* || check_file_test -f {file}\n"
    live, passes = await asyncio.to_thread(conf, tmp_path, text), facts.source(Roots(), counting)

    for _ in range(3):
        assert await statuses(live, passes) == [Status.OK] * 2
        file.unlink()

    assert counting.together == []


async def test_what_is_done_about_a_finding_lets_all_behind_it_be_asked_anew(
    tmp_path: Path, counting: CountingPool
) -> None:
    file = tmp_path / "file"
    text = f"* || check_ps_service -0 -e 'touch {file}' no-such-daemon\n* || check_file_test -d {tmp_path}\n"
    (tmp_path / "nhc.conf").write_text(text)
    live = await asyncio.to_thread(NhcConf.load, tmp_path / "nhc.conf", host="n1")
    passes = facts.source(Roots(), counting)

    for _ in range(2):
        assert await statuses(live, passes) == [Status.OK] * 2

    assert counting.together == []
