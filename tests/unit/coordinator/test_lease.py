# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from unit.coordinator.world import event, wave_over

from refloat_contract.errors import Misconfigured
from refloat_contract.messages import CoordinatorStatus, encode
from refloat_contract.topics import Topics
from refloat_coordinator.elsewhere import Elsewhere
from refloat_coordinator.leadership import Leadership
from refloat_coordinator.lease import Deposed, Holder, Lease, Watch, left_s, outranks, watched
from refloat_coordinator.ledger import Ledger
from refloat_service.mqtt import MqttSettings

ME = Holder("me", "ctl2", "boot-2")
TOPICS = Topics("c")


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
        class Quiet(Elsewhere):
            async def settled(self) -> None:
                """No broker."""

        return Quiet(MqttSettings(), TOPICS, client_id="x", instance="me", lease_s=1, monotonic=lambda: self.now)

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


def said(ledger: str, epoch: int, *, online: bool = True, instance: str = "it") -> bytes:
    status = CoordinatorStatus(online=online, epoch=epoch, instance=instance, ledger=ledger, host="ctl1", period_s=0.1)
    return encode(status)


def test_one_with_another_ledger_is_heard_for_as_long_as_it_lives(site: Site) -> None:
    elsewhere = site.elsewhere()
    elsewhere.ledger = "ours"
    elsewhere.hear(TOPICS.coordinator(), said("ours", 9, instance="me"), retained=False)
    elsewhere.hear(TOPICS.coordinator(), said("", 9, instance=""), retained=True)  # an older release
    elsewhere.hear("refloat/v1/other/coordinator/status", said("other", 9), retained=False)
    assert (elsewhere.leader(), elsewhere.highest) == ("", 0)

    elsewhere.hear(TOPICS.coordinator(), said("other", 5), retained=True)
    assert elsewhere.leader() == "a coordinator on ctl1 with another ledger leads in epoch 5"
    site.now += 0.9
    elsewhere.hear(TOPICS.coordinator(), said("other", 5), retained=False)
    elsewhere.hear(TOPICS.coordinator(), said("other", 5, online=False), retained=False)  # the broker has lost it
    site.now += 0.9
    assert elsewhere.leader()
    site.now += 0.2
    assert (elsewhere.leader(), elsewhere.highest) == ("", 5)


def test_one_with_a_copy_of_our_ledger_is_heard_too_but_of_our_own_the_lease_knows_better(site: Site) -> None:
    elsewhere = site.elsewhere()
    elsewhere.ledger = "ours"
    elsewhere.hear(TOPICS.coordinator(), said("ours", 5), retained=True)
    assert elsewhere.leader() == ""
    elsewhere.hear(TOPICS.coordinator(), said("ours", 5), retained=False)
    assert "this ledger, or a copy of it leads in epoch 5" in elsewhere.leader()
    elsewhere.hear(TOPICS.coordinator(), said("ours", 5, online=False), retained=False)
    assert (elsewhere.leader(), elsewhere.highest) == ("", 5)


def test_a_last_will_that_the_broker_kept_is_no_leader_but_its_epoch_counts(site: Site) -> None:
    elsewhere = site.elsewhere()
    elsewhere.hear(TOPICS.coordinator(), said("gone", 57, online=False), retained=True)

    assert (elsewhere.leader(), elsewhere.highest) == ("", 57)


@pytest.mark.parametrize("ledger", ["ours", "another"])
@pytest.mark.parametrize(
    ("epoch", "instance", "yields"), [(4, "z", False), (5, "a", False), (5, "z", True), (6, "a", True)]
)
async def test_a_leader_yields_to_one_of_a_later_epoch(
    site: Site, ledger: str, epoch: int, instance: str, *, yields: bool
) -> None:
    elsewhere = site.elsewhere()
    elsewhere.ledger = "ours"
    leading = elsewhere.outranked(5)
    assert leading.send(None) is not None  # it waits
    elsewhere.hear(TOPICS.coordinator(), said(ledger, epoch, instance=instance), retained=False)

    if yields:
        with pytest.raises(Deposed, match=f"leads in epoch {epoch}"):
            leading.send(None)
    else:
        leading.close()
