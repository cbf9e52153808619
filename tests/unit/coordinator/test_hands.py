# SPDX-License-Identifier: Apache-2.0
import pytest
from unit.coordinator.world import TRIGGER, WAVE

from refloat_contract.errors import Transient
from refloat_contract.reasons import Dialect
from refloat_coordinator.hands import DONE_ALREADY, NOT_OURS, UNREACHABLE, WRITTEN, Hands
from refloat_coordinator.lease import Deposed
from refloat_coordinator.waves import GiveBack, Mark
from refloat_slurm.gateway import Change
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld

MARK = Mark(WAVE, "n1", TRIGGER)
BACK = GiveBack(WAVE, "n1", TRIGGER)
AGAIN = Mark(WAVE, "n1", TRIGGER, ("c1",))


def slurm_with(change: Change | None = None, reason: str | None = None) -> SimulatedSlurmctld:
    slurm = SimulatedSlurmctld(["n1"], now=1000.0)
    slurm.register("n1", 900.0)
    slurm.tick(1010.0)
    if change is not None:
        slurm.update("n1", change, reason)
    return slurm


async def perform(slurm: SimulatedSlurmctld, order: Mark | GiveBack) -> tuple[str, bool, str]:
    outcome = await Hands(SimulatedGateway(slurm), Dialect()).perform(order)
    view = slurm.view("n1")
    return outcome, "DRAIN" in view.flags, view.reason


async def test_a_free_node_is_marked() -> None:
    assert await perform(slurm_with(), MARK) == (WRITTEN, True, TRIGGER)


@pytest.mark.parametrize(
    ("reason", "order", "outcome"),
    [
        (TRIGGER, MARK, DONE_ALREADY),
        (f"rebooting refloat=c1 wave={WAVE}", MARK, DONE_ALREADY),
        ("bad DIMM", MARK, NOT_OURS),
        ("reboot", MARK, NOT_OURS),
        ("reboot wave=w2", MARK, NOT_OURS),
        ("refloat: mount: gone", MARK, NOT_OURS),
        ("refloat-hold: x refloat=c1", MARK, NOT_OURS),
        ("refloat-hold: x refloat=c9", AGAIN, NOT_OURS),
        ("bad DIMM", AGAIN, NOT_OURS),
        ("bad DIMM", BACK, NOT_OURS),
        ("reboot", BACK, NOT_OURS),
        (f"rebooting refloat=c1 wave={WAVE}", BACK, NOT_OURS),
    ],
)
async def test_a_drain_that_is_not_ours_is_left_as_it_is(reason: str, order: Mark | GiveBack, outcome: str) -> None:
    assert await perform(slurm_with(Change.DRAIN, reason), order) == (outcome, True, reason)


async def test_a_retry_replaces_the_hold_of_its_own_cycle() -> None:
    slurm = slurm_with(Change.DRAIN, "refloat-hold: x refloat=c1")

    assert await perform(slurm, AGAIN) == (WRITTEN, True, TRIGGER)


async def test_a_drain_of_ours_is_given_back_even_when_slurm_added_to_it() -> None:
    outcome, drained, _ = await perform(slurm_with(Change.DRAIN, f"{TRIGGER} : Not responding"), BACK)

    assert (outcome, drained) == (WRITTEN, False)


async def test_a_node_that_is_down_is_neither_marked_nor_resumed() -> None:
    slurm = slurm_with(Change.DOWN, "bad DIMM")
    marked = await perform(slurm, MARK)
    slurm.update("n1", Change.DRAIN, TRIGGER)
    outcome, drained, _ = await perform(slurm, BACK)

    assert marked == (NOT_OURS, False, "bad DIMM")
    assert (outcome, drained) == (NOT_OURS, True)


async def test_what_cannot_be_reached_is_left_for_the_next_read() -> None:
    slurm = slurm_with()
    slurm.stop()

    assert await Hands(SimulatedGateway(slurm), Dialect()).perform(MARK) == UNREACHABLE


async def deposed() -> None:
    raise Deposed("the coordinator on ctl2 leads since epoch 2")


async def unsure() -> None:
    raise Transient("the lease has not been renewed in time")


@pytest.mark.parametrize("order", [MARK, BACK])
async def test_one_that_was_deposed_since_it_looked_writes_nothing_more(order: Mark | GiveBack) -> None:
    slurm = slurm_with() if order is MARK else slurm_with(Change.DRAIN, TRIGGER)
    before = slurm.view("n1")

    with pytest.raises(Deposed):
        await Hands(SimulatedGateway(slurm), Dialect(), still_leads=deposed).perform(order)
    assert slurm.view("n1") == before


async def test_one_that_is_not_sure_that_it_leads_writes_later() -> None:
    slurm = slurm_with()
    before = slurm.view("n1")

    assert await Hands(SimulatedGateway(slurm), Dialect(), still_leads=unsure).perform(MARK) == UNREACHABLE
    assert slurm.view("n1") == before
