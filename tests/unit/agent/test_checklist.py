# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from refloat_agent.checklist import Checklist
from refloat_agent.config import AgentSettings
from refloat_checks.facts import Facts
from refloat_checks.runner import Runner
from refloat_contract.errors import Misconfigured

TMP = {"name": "tmp", "type": "file", "path": "/tmp"}
VAR = {"name": "var", "type": "file", "path": "/var"}


class Clock:
    """Just before the next pass over the nhc.conf, always."""

    def boottime_s(self) -> float:
        return 0.0

    def wall_ns(self) -> int:
        return 59_999_000_000


def settings(tmp_path: Path, **more: object) -> AgentSettings:
    return AgentSettings.model_validate({"node": "n1", "state_dir": tmp_path, **more})


def checklist(first: AgentSettings, read: Callable[[], AgentSettings] | None = None) -> Checklist:
    return Checklist(first, Clock(), lambda: cast("Facts", object()), read)


@asynccontextmanager
async def running(made: Checklist) -> AsyncIterator["asyncio.Queue[Runner]"]:
    changes: asyncio.Queue[Runner] = asyncio.Queue()
    task = asyncio.create_task(made.run(changes.put_nowait))
    try:
        yield changes
    finally:
        task.cancel()
        await asyncio.wait([task])


def names(runner: Runner) -> list[str]:
    return [spec.name for spec in runner.specs]


async def said(made: Checklist) -> str:
    while not made.error:  # noqa: ASYNC110 - a sentence sets no event
        await asyncio.sleep(0.001)
    return made.error


async def test_told_to_it_takes_over_the_checks_that_are_configured_now(tmp_path: Path) -> None:
    made = checklist(settings(tmp_path, check=(TMP,)), lambda: settings(tmp_path, check=(TMP, VAR), max_attempts=9))

    async with running(made) as changes:
        made.tell()
        assert names(await changes.get()) == ["tmp", "var"]

    assert made.settings.max_attempts == 5  # only a restart takes that over


async def test_a_configuration_that_is_wrong_changes_nothing_and_is_named_until_it_is_right(tmp_path: Path) -> None:
    answers: list[AgentSettings | Exception] = [
        settings(tmp_path, check=(VAR,)),
        Misconfigured("agent.toml: line 3: no"),
    ]

    def read() -> AgentSettings:
        answer = answers.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = checklist(settings(tmp_path, check=(TMP,)), read)
    async with running(made) as changes:
        made.tell()
        assert await said(made) == "agent.toml: line 3: no"
        assert names(made.runner) == ["tmp"]
        assert changes.empty()
        made.tell()
        assert names(await changes.get()) == ["var"]

    assert made.error == ""


async def test_a_changed_nhc_conf_is_noticed_and_a_broken_one_is_not_taken(tmp_path: Path) -> None:
    conf = tmp_path / "nhc.conf"
    conf.write_text("* || check_hw_eth lo\n")
    made = await asyncio.to_thread(checklist, settings(tmp_path, nhc_conf=conf, check=({**TMP, "name": "line-2"},)))
    assert names(made.runner) == ["line-2", "check_hw_eth:lo"]

    async with running(made) as changes:
        conf.write_text("* || check_hw_eth eth7\n")
        assert names(await changes.get()) == ["line-2", "check_hw_eth:eth7"]
        conf.write_text("* || check_hw_eth eth8\n* || true\n")
        assert "line-2" in await said(made)
        assert names(made.runner) == ["line-2", "check_hw_eth:eth7"]


async def test_a_changed_script_beside_the_nhc_conf_is_noticed(tmp_path: Path) -> None:
    conf = tmp_path / "nhc.conf"
    conf.write_text("* || check_hw_eth lo\n")
    made = await asyncio.to_thread(checklist, settings(tmp_path, nhc_conf=conf))

    async with running(made) as changes:
        (tmp_path / "scripts").mkdir()
        (tmp_path / "scripts/site.nhc").write_text("check_site() { true; }\n")
        assert names(await changes.get()) == ["check_hw_eth:lo"]


def test_a_check_named_like_a_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nhc.conf").write_text("* || true\n")

    with pytest.raises(Misconfigured, match="line-1"):
        checklist(settings(tmp_path, nhc_conf=tmp_path / "nhc.conf", check=({**TMP, "name": "line-1"},)))
