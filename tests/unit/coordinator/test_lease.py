# SPDX-License-Identifier: Apache-2.0
import asyncio
from pathlib import Path

import pytest
from unit.coordinator.world import event, wave_over

from refloat_contract.errors import Misconfigured
from refloat_contract.messages import CoordinatorStatus, encode
from refloat_coordinator.elsewhere import Elsewhere
from refloat_coordinator.leadership import Leadership
from refloat_coordinator.lease import Deposed, Holder, Lease, Watch, left_s, outranks, watched
from refloat_coordinator.record.ledger import Ledger

ME = Holder("me", "ctl2", "boot-2")


@pytest.mark.parametrize(
    ("holder", "taker", "since", "left"),
    [
        (None, ME, 100, 0),  # given back
        (Holder("x", "ctl1", "boot-1"), ME, 100, 15),
        (Holder("x", "ctl1", "boot-1"), ME, 86, 1),
        (Holder("x", "ctl1", "boot-1"), ME, 85, 0),  # lapsed
        (Holder("x", "ctl2", "boot-2", locked=True), Holder("me", "ctl2", "boot-2", locked=True), 100, 0),  # ended
        (Holder("x", "ctl2", "boot-2", locked=True), ME, 100, 15),  # its lock is still held
        (Holder("x", "ctl2", "boot-2"), Holder("me", "ctl2", "boot-2", locked=True), 100, 15),  # it never had the lock
        (Holder("x", "ctl1", "boot-1", locked=True), Holder("me", "ctl2", "boot-2", locked=True), 100, 15),  # elsewhere
    ],
)
def test_how_long_a_lease_must_be_waited_for(holder: Holder | None, taker: Holder, since: float, left: float) -> None:
    assert left_s(Watch(Lease(3, holder, 7), since), taker, 100, 15) == left


def test_a_lease_that_moves_is_watched_anew() -> None:
    first = watched(None, Lease(3, ME, 7), 100)

    assert watched(first, Lease(3, ME, 7), 110) == first
    assert watched(first, Lease(3, ME, 8), 110) == Watch(Lease(3, ME, 8), 110, moved=True)


def test_of_two_that_lead_exactly_one_goes_on() -> None:
    for one, other in (((5, "a"), (4, "b")), ((5, "a"), (5, "b"))):
        assert outranks(*one, *other) is not outranks(*other, *one)


class Site:
    """Two coordinators' view of one state directory, with a clock that is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.said: list[str] = []

    def ledger(self) -> Ledger:
        return Ledger(self.folder / "l.sqlite", max_events=1000, outbox=True, deadline_s=5)

    def elsewhere(self) -> Elsewhere:
        found = Elsewhere("me", lease_s=1, monotonic=lambda: self.now)
        found.ledger = "ours"
        return found

    def leadership(self, ledger: Ledger, elsewhere: Elsewhere | None = None, *, standby: bool = True) -> Leadership:
        return Leadership(
            ledger,
            elsewhere or self.elsewhere(),
            self.folder / "lock",
            instance="me",
            lease_s=1.0,
            standby=standby,
            say=self.said.append,
            monotonic=lambda: self.now,
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_what_a_deposed_coordinator_still_wants_to_save_is_not_saved(site: Site) -> None:
    async with site.ledger() as old, site.ledger() as new:
        await old.begin(Holder("old", "ctl1"))
        await old.record([event("e1")])
        await new.begin(Holder("new", "ctl2"))

        for attempt in (
            old.save([wave_over("n1")]),
            old.record([event("e2")]),
            old.save_permits([], ["n1"]),
            old.delivered([1]),
            old.renew(),
            old.confirm(),
            old.events(),
        ):
            with pytest.raises(Deposed, match="coordinator on ctl2 leads since epoch 2, ours was 1"):
                await attempt
        assert [e.id for e in await new.events()] == ["e1"]
        await new.confirm()


async def test_of_two_that_take_a_lapsed_lease_one_is_too_late(site: Site) -> None:
    async with site.ledger() as one, site.ledger() as other:
        seen = await one.lease()
        assert await one.begin(ME, seen) == 1
        with pytest.raises(Deposed, match="faster"):
            await other.begin(ME, seen)


async def test_a_lease_that_was_given_back_is_taken_at_once_and_above_what_was_heard(site: Site) -> None:
    async with site.ledger() as one, site.ledger() as other:
        first = site.leadership(one)
        assert await first.acquire() == 1
        await first.resign()
        elsewhere = site.elsewhere()
        elsewhere.highest = 56
        assert await site.leadership(other, elsewhere=elsewhere).acquire() == 57
    assert site.said == []


async def test_a_leader_that_stood_still_knows_that_it_may_not_act(site: Site) -> None:
    async with site.ledger() as ledger:
        leader = site.leadership(ledger)
        await leader.acquire()
        before = leader.is_fresh()
        site.now += 0.7

        assert (before, leader.is_fresh()) == (True, False)


async def test_without_standby_a_second_one_ends_with_an_error(site: Site) -> None:
    async with site.ledger() as one, site.ledger() as other:
        leader = site.leadership(one)
        await leader.acquire()
        with pytest.raises(Misconfigured, match=r"already running: the coordinator on .* leads in epoch 1"):
            await site.leadership(other, standby=False).acquire()
        await leader.resign()


def said(ledger: str, epoch: int, *, online: bool = True, instance: str = "it", seq: int = 0) -> bytes:
    status = CoordinatorStatus(
        online=online, epoch=epoch, instance=instance, ledger=ledger, host="ctl1", period_s=0.1, seq=seq
    )
    return encode(status)


def test_the_first_word_of_a_connection_may_be_old_and_the_second_is_not(site: Site) -> None:
    elsewhere = site.elsewhere()
    elsewhere.hear(said("other", 5))
    assert (elsewhere.leader(), elsewhere.highest) == ("", 5)
    elsewhere.linked(False)  # noqa: FBT003 - the link's call
    elsewhere.hear(said("other", 5))
    assert elsewhere.leader() == ""
    elsewhere.hear(said("other", 5))

    assert elsewhere.leader() == "a coordinator on ctl1 with another ledger leads in epoch 5"
    site.now += 3.9
    assert elsewhere.leader()
    site.now += 0.2
    assert elsewhere.leader() == ""


def test_the_first_word_of_a_connection_is_news_if_it_has_changed(site: Site) -> None:
    elsewhere = site.elsewhere()
    elsewhere.hear(said("other", 5, seq=1))
    elsewhere.linked(False)  # noqa: FBT003 - the link's call
    elsewhere.hear(said("other", 5, seq=2))

    assert elsewhere.leader()


def test_our_own_words_those_of_an_older_release_and_what_is_no_message_are_nobodys(site: Site) -> None:
    elsewhere = site.elsewhere()
    for payload in (said("ours", 9, instance="me"), said("", 9, instance=""), b"{"):
        for _ in range(2):
            elsewhere.hear(payload)

    assert (elsewhere.leader(), elsewhere.highest) == ("", 0)


def test_of_whoever_shares_our_ledger_the_lease_knows_better(site: Site) -> None:
    elsewhere = site.elsewhere()
    for _ in range(2):
        elsewhere.hear(said("ours", 5))

    assert (elsewhere.leader(), elsewhere.highest) == ("", 5)


async def test_nobody_acts_before_it_is_clear_that_nobody_else_does(site: Site) -> None:
    elsewhere = site.elsewhere()
    elsewhere.linked(True)  # noqa: FBT003 - the link's call
    elsewhere.hear(said("other", 5))
    waiting = asyncio.create_task(elsewhere.clear(99))
    await asyncio.sleep(0.25)
    assert not waiting.done()
    elsewhere.hear(said("other", 5))

    with pytest.raises(Deposed, match="another ledger leads in epoch 5"):
        await waiting


async def test_who_says_nothing_more_is_gone(site: Site) -> None:
    elsewhere = site.elsewhere()
    elsewhere.linked(True)  # noqa: FBT003 - the link's call
    elsewhere.hear(said("gone", 57, online=False))
    waiting = asyncio.create_task(elsewhere.clear(99))
    await asyncio.sleep(0)
    site.now += 1.1

    await waiting
    with pytest.raises(Deposed, match="another ledger had epoch 57, ours was 1"):
        await elsewhere.clear(1)


async def test_a_last_will_deposes_nobody(site: Site) -> None:
    elsewhere = site.elsewhere()
    leading = elsewhere.outranked(5)
    leading.send(None)
    elsewhere.hear(said("other", 6, online=False))

    assert elsewhere._outranked.empty()
    leading.close()


@pytest.mark.parametrize("ledger", ["ours", "another"])
@pytest.mark.parametrize(
    ("epoch", "instance", "yields"), [(4, "z", False), (5, "a", False), (5, "z", True), (6, "a", True)]
)
async def test_a_leader_yields_to_one_of_a_later_epoch(
    site: Site, ledger: str, epoch: int, instance: str, *, yields: bool
) -> None:
    elsewhere = site.elsewhere()
    leading = elsewhere.outranked(5)
    assert leading.send(None) is not None  # it waits
    elsewhere.hear(said(ledger, epoch, instance=instance))

    if yields:
        with pytest.raises(Deposed, match=f"leads in epoch {epoch}"):
            leading.send(None)
    else:
        leading.close()
