# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from refloat_agent.effects.health import NodeHealth
from refloat_agent.effects.standing import StandingFile
from refloat_checks.api import Finding, Limits, Profile, failed, passed
from refloat_checks.facts import Facts
from refloat_checks.registry import CheckSpec
from refloat_checks.runner import Runner
from refloat_contract.errors import Refused
from refloat_contract.messages import Failure
from refloat_contract.words import Verdict


def spec(name: str, **more: Any) -> CheckSpec:
    return CheckSpec.model_validate({"name": name, "type": "test", "limits": Limits(), **more})


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def boottime_s(self) -> float:
        return self.now_s

    def wall_ns(self) -> int:
        return int(self.now_s * 1e9)


class Checked:
    """Checks that find what they are told to, may hang, and say when a look began."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.finds: dict[str, Callable[[str, str], Finding]] = {}
        self.hung: dict[str, asyncio.Event] = {}
        self.looks: list[str] = []
        self.began = asyncio.Event()

    def find_look(self, spec: CheckSpec) -> Any:
        async def look(facts: Facts, limits: Limits, name: str) -> Finding:
            self.looks.append(name)
            self.began.set()
            if name in self.hung:
                await self.hung[name].wait()
            return self.finds.get(name, passed)(name, "looked at")

        return look

    def health(self, *specs: CheckSpec, woken: Callable[[], None] = lambda: None) -> NodeHealth:
        runner = Runner(
            specs, lambda: cast("Facts", SimpleNamespace()), self.clock.boottime_s, find_look=self.find_look
        )
        return NodeHealth(runner, self.clock, woken)

    async def looked(self, *names: str) -> None:
        """Wait until these looks, and no others, have begun since the last wait."""
        while len(self.looks) < len(names):
            self.began.clear()
            await self.began.wait()
        assert sorted(self.looks) == sorted(names)
        self.looks.clear()


@asynccontextmanager
async def running(health: NodeHealth) -> AsyncIterator[None]:
    task = asyncio.create_task(health.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    while not happened():  # noqa: ASYNC110 - a file sets no event
        await asyncio.sleep(0.001)


async def test_a_check_that_is_woken_is_looked_at_at_once_and_alone() -> None:
    checked = Checked()
    health = checked.health(spec("a"), spec("b"))

    async with running(health):
        await checked.looked("a", "b")
        checked.finds["b"] = failed
        health.look_now(["b", "no such check"])
        await checked.looked("b")
        await settle()

    assert [failure.check for failure in health.facts().failing] == ["b"]


async def test_a_check_that_hangs_keeps_no_other_from_being_looked_at() -> None:
    checked = Checked()
    checked.hung["a"] = asyncio.Event()
    health = checked.health(spec("a"), spec("b"))

    async with running(health):
        await checked.looked("a", "b")
        await settle()
        health.look_now(["b"])
        await checked.looked("b")


async def test_what_is_woken_while_it_is_looked_at_is_looked_at_once_more_however_often_it_is_woken() -> None:
    checked = Checked()
    checked.hung["a"] = asyncio.Event()
    health = checked.health(spec("a"))

    async with running(health):
        await checked.looked("a")
        for _ in range(1000):
            health.look_now(["a"])
        await settle()
        assert checked.looks == []
        checked.hung["a"].set()
        await checked.looked("a")
        await settle()

    assert checked.looks == []


async def test_who_asks_for_a_check_gets_a_look_that_began_after_asking() -> None:
    checked = Checked()
    checked.hung["a"] = asyncio.Event()
    health = checked.health(spec("a"), spec("b"))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(health.look(["a"]))
        await checked.looked("a")
        second = tasks.create_task(health.look(["a", "b"]))
        await checked.looked("b")
        assert not second.done()
        checked.hung["a"].set()
        await checked.looked("a")


def failing(health: NodeHealth) -> list[str]:
    return [failure.check for failure in health.facts().failing]


async def test_a_failure_that_sticks_outlives_the_agent_but_not_the_boot(tmp_path: Path) -> None:
    checked = Checked()
    checked.finds["a"] = failed
    health = checked.health(spec("a", sticky=True))
    health.standing = StandingFile(tmp_path / "standing.json", "boot-1")
    async with running(health):
        await checked.looked("a")
        await until((tmp_path / "standing.json").exists)

    checked.finds["a"] = passed
    later, rebooted = checked.health(spec("a", sticky=True)), checked.health(spec("a", sticky=True))
    later.standing = StandingFile(tmp_path / "standing.json", "boot-1")
    rebooted.standing = StandingFile(tmp_path / "standing.json", "boot-2")
    for each in (later, rebooted):
        await each.load()
        await each.run_all()

    assert (failing(later), failing(rebooted)) == (["a"], [])


async def test_a_file_that_cannot_be_read_is_no_reason_to_stay_away(tmp_path: Path) -> None:
    (tmp_path / "standing.json").write_text("{")
    health = Checked().health(spec("a", sticky=True))
    health.standing = StandingFile(tmp_path / "standing.json", "boot-1")

    await health.load()

    assert failing(health) == []


async def test_who_clears_a_failure_is_told_and_the_check_is_looked_at_anew() -> None:
    checked = Checked()
    checked.finds["a"] = failed
    health = checked.health(spec("a", sticky=True))

    async with running(health):
        await checked.looked("a")
        await settle()
        checked.finds["a"] = passed
        health.clear("a", "alice")
        await checked.looked("a")
        await settle()

    assert health.facts().verdict is Verdict.HEALTHY
    assert health.facts().dismissed == (Failure(check="a", message="cleared by alice"),)
    with pytest.raises(Refused, match=r"did you mean 'a'"):
        health.clear("aa", "alice")


async def test_a_check_that_is_switched_off_is_as_if_it_were_not_there() -> None:
    checked = Checked()
    checked.finds["a"] = failed
    health = checked.health(spec("a"), spec("b"))

    async with running(health):
        await checked.looked("a", "b")
        await settle()
        health.switch("a", "alice", on=False)
        health.look_now(["a"])
        await health.run_all()
        await checked.looked("b")
        assert health.facts().verdict is Verdict.HEALTHY
        health.switch("a", "alice", on=True)
        await checked.looked("a")
        await settle()

    assert failing(health) == ["a"]


async def test_a_check_for_the_boot_is_looked_at_until_it_has_passed() -> None:
    checked = Checked()
    checked.finds["a"] = failed
    health = checked.health(spec("a", when="boot", interval_s=10), spec("b", interval_s=10))

    async with running(health):
        await checked.looked("a", "b")
        await settle()
        checked.finds["a"] = passed
        for names in (("a", "b"), ("b",)):
            checked.clock.now_s += 10
            health.look_now([])
            await checked.looked(*names)
            await settle()


async def test_other_checks_take_over_at_once_and_what_did_not_change_stays_known() -> None:
    checked = Checked()
    checked.finds["a"] = checked.finds["b"] = checked.finds["s"] = failed
    health = checked.health(spec("a"), spec("b"), spec("s", sticky=True))
    await health.run_all()

    changed = checked.health(spec("a"), spec("b", fail_after=2), spec("s", sticky=True, fail_after=2), spec("c"))
    health.swap(changed.runner)

    assert failing(health) == ["a", "s"]
    assert not health.is_known


async def test_a_look_from_before_the_change_does_not_count_after_it() -> None:
    checked = Checked()
    checked.finds["a"] = failed
    checked.hung["a"] = asyncio.Event()
    health = checked.health(spec("a"))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(health.run_all())
        await checked.looked("a")
        health.swap(checked.health(spec("a", fail_after=5)).runner)
        checked.hung["a"].set()

    assert health.tracks == {}


async def test_a_profile_is_answered_from_the_last_look_unless_that_is_old() -> None:
    checked = Checked()
    health = checked.health(spec("a"), spec("gate", when="resume"), spec("w", severity="warn"))
    await health.run_all()
    checked.looks.clear()
    checked.finds["a"] = failed

    first = await health.profile(Profile.PROLOG, None)
    assert checked.looks == []
    checked.clock.now_s += 30
    second = await health.profile(Profile.PROLOG, 20.0)

    assert [(each["check"], each["status"]) for each in first] == [("a", "OK"), ("w", "OK")]
    assert [(each["check"], each["status"], each["severity"]) for each in second] == [
        ("a", "FAILED", "drain"),
        ("w", "OK", "warn"),
    ]


async def test_the_loop_is_woken_by_what_it_decides_by_and_by_nothing_else() -> None:
    checked, woken = Checked(), [0]

    def wake() -> None:
        woken[0] += 1

    def figure(check: str, _: str) -> Finding:
        return passed(check, f"look {len(said)}")

    health = checked.health(spec("a", fail_after=2), woken=wake)
    said: list[int] = []
    for found in (figure, figure, failed, failed, failed, figure):
        checked.finds["a"] = found
        await health.run_all()
        said.append(woken[0])

    assert said == [1, 1, 2, 3, 3, 4]
