# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from structlog.testing import capture_logs

from refloat_agent.events import watch as watching
from refloat_agent.events.source import Counts, Source, Subscription
from refloat_agent.events.sources import SOURCES, Offer
from refloat_agent.events.watch import Watch
from refloat_checks.proc import Roots
from refloat_checks.wakes import LinkChange, MountTable, Wake


class Script:
    """A source that tells what a test says, and is lost when it says so."""

    def __init__(self) -> None:
        self.refuses: list[OSError] = []
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.subscription: Subscription[Any] | None = None
        self.served = 0

    def offer(self, name: str) -> Offer:
        def make(subscription: Subscription[Any], roots: Roots) -> Source:
            self.subscription = subscription
            return self

        return Offer(name, make)

    async def serve(self, opened: Callable[[], None]) -> None:
        self.served += 1
        if self.refuses:
            raise self.refuses.pop(0)
        opened()
        await self.lost

    def tell(self, *wakes: Wake) -> None:
        assert self.subscription is not None
        for wake in wakes:
            self.subscription.counts.events += 1
            self.subscription.tell(wake)


class World:
    def __init__(self) -> None:
        self.looks: list[list[str]] = []
        self.looked = asyncio.Event()
        self.mounts, self.links = Script(), Script()
        self.watch = Watch(
            self.look_now, offers={MountTable: self.mounts.offer("mounts"), LinkChange: self.links.offer("links")}
        )

    def look_now(self, names: Iterable[str]) -> None:
        self.looks.append(list(names))
        self.looked.set()

    async def next_look(self) -> list[str]:
        async with asyncio.timeout(5):
            while not self.looks:
                self.looked.clear()
                await self.looked.wait()
        return self.looks.pop(0)

    @asynccontextmanager
    async def watching(self, **wanted: tuple[Wake, ...]) -> AsyncIterator[None]:
        self.watch.aim(wanted)
        task = asyncio.create_task(self.watch.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    def state(self, name: str) -> dict[str, Any]:
        return next(each for each in self.watch.state() if each["name"] == name)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(watching, "FIRST_RETRY_S", 0.01)
    return World()


async def test_only_the_sources_that_are_wanted_are_opened(world: World) -> None:
    async with world.watching(scratch=(MountTable(),), load=()):
        await world.next_look()

        assert [each["name"] for each in world.watch.state()] == ["mounts"]
        assert world.links.served == 0


async def test_an_event_has_the_checks_looked_at_that_it_wakes_and_no_others(world: World) -> None:
    async with world.watching(scratch=(MountTable(),), ib0=(LinkChange("ib0"),), eth0=(LinkChange("eth0"),)):
        assert sorted(await world.next_look()) == ["eth0", "ib0", "scratch"]  # whatever was missed before
        world.links.tell(LinkChange("ib0"))

        assert await world.next_look() == ["ib0"]


async def test_what_comes_while_a_look_is_on_its_way_is_coalesced_and_counted(world: World) -> None:
    async with world.watching(scratch=(MountTable(),)):
        await world.next_look()
        world.mounts.tell(*[MountTable()] * 1000)
        assert await world.next_look() == ["scratch"]

        state = world.state("mounts")
        assert (state["events"], state["looks"], state["coalesced"], state["dropped"]) == (1000, 2, 999, 0)


async def test_lost_events_wake_all_checks_of_their_source(world: World) -> None:
    async with world.watching(ib0=(LinkChange("ib0"),), eth0=(LinkChange("eth0"),)):
        await world.next_look()
        assert world.links.subscription is not None
        world.links.subscription.missed(7)

        assert sorted(await world.next_look()) == ["eth0", "ib0"]
        assert world.state("links")["dropped"] == 7


async def test_a_source_that_is_not_there_is_named_once_and_the_others_go_on(world: World) -> None:
    world.links.refuses = [PermissionError(1, "Operation not permitted") for _ in range(3)]
    with capture_logs() as lines:
        async with world.watching(scratch=(MountTable(),), ib0=(LinkChange("ib0"),)):
            assert await world.next_look() == ["scratch"]
            assert world.state("links")["why"].endswith("Operation not permitted")
            assert not world.state("links")["open"]

            # It comes back by itself, and whatever was missed is looked at.
            assert await world.next_look() == ["ib0"]
            assert world.state("links")["open"]

    named = [line for line in lines if line["event"] == "event_source_missing"]
    assert [line["source"] for line in named] == ["links"]
    assert sum(line["event"] == "event_source_back" for line in lines) == 1


async def test_a_source_that_is_lost_is_opened_again_and_its_checks_are_looked_at(world: World) -> None:
    async with world.watching(ib0=(LinkChange("ib0"),)):
        assert await world.next_look() == ["ib0"]
        lost, world.links.lost = world.links.lost, asyncio.get_running_loop().create_future()
        lost.set_exception(ConnectionResetError(104, "Connection reset by peer"))

        assert await world.next_look() == ["ib0"]
        assert world.links.served == 2


async def test_aimed_anew_it_watches_for_the_new_checks_and_keeps_its_counts(world: World) -> None:
    async with world.watching(scratch=(MountTable(),)):
        await world.next_look()
        world.mounts.tell(MountTable())
        await world.next_look()
        world.watch.aim({"home": (MountTable(),), "ib0": (LinkChange("ib0"),)})

        seen = {*await world.next_look()}
        while seen != {"home", "ib0"}:
            seen |= {*await world.next_look()}
        assert world.state("mounts")["events"] == 1


async def test_for_a_simulated_machine_no_kernel_is_asked(tmp_path: Path) -> None:
    watch = Watch(lambda _: None, roots=Roots(tmp_path, tmp_path, tmp_path))

    watch.aim({"scratch": (MountTable(),)})

    assert watch.state() == []


def test_each_wake_up_has_its_source() -> None:
    told: Subscription[Any] = Subscription((), Counts(), lambda _: None, lambda _, __: None)

    for kind in get_args(Wake):
        assert SOURCES[kind].make(told, Roots()) is not None
    assert len({offer.name for offer in SOURCES.values()}) == len(get_args(Wake))
