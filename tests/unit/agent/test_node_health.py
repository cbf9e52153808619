# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from refloat_agent.effects.health import NodeHealth
from refloat_checks.api import Finding, Limits, failed, passed
from refloat_checks.facts import Facts
from refloat_checks.registry import CheckSpec
from refloat_checks.runner import Runner


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
        runner = Runner(specs, lambda: cast("Facts", object()), self.clock.boottime_s, find_look=self.find_look)
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
