# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence

import pytest
from unit.coordinator.world import TRIGGER, WAVE

from refloat_contract.errors import Transient
from refloat_contract.reasons import Dialect
from refloat_coordinator.hands import DONE_ALREADY, NOT_OURS, UNREACHABLE, WRITTEN, EndedJob, Hands
from refloat_coordinator.lease import Deposed
from refloat_coordinator.waves.decisions import EndJobs, Errand, GiveBack, Mark
from refloat_slurm.gateway import Change, JobEnd
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


async def perform(slurm: SimulatedSlurmctld, order: Errand) -> tuple[str, bool, str]:
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
async def test_a_drain_that_is_not_ours_is_left_as_it_is(reason: str, order: Errand, outcome: str) -> None:
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
async def test_one_that_was_deposed_since_it_looked_writes_nothing_more(order: Errand) -> None:
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


def busy_slurm(reason: str = TRIGGER) -> SimulatedSlurmctld:
    slurm = slurm_with()
    slurm.submit(5000, cpus=1)
    slurm.submit(5000, cpus=1, user="bob")
    slurm.update("n1", Change.DRAIN, reason)
    return slurm


@pytest.mark.parametrize("how", list(JobEnd))
async def test_jobs_are_ended_and_told_with_whose_they_were(how: JobEnd) -> None:
    slurm, told = busy_slurm(), list[EndedJob]()

    async def note(_order: EndJobs, jobs: Sequence[EndedJob]) -> None:
        told.extend(jobs)

    hands = Hands(SimulatedGateway(slurm), Dialect(), on_ended=note)
    order = EndJobs(WAVE, "n1", TRIGGER, how, "alice", 1)
    assert await hands.perform(order) == WRITTEN
    again = await hands.perform(order)  # they are completing by now
    slurm.tick(1100.0)

    assert told == [EndedJob("1", "alice"), EndedJob("2", "bob")]
    assert again == WRITTEN
    assert slurm.jobs_on("n1") == ()
    assert slurm.jobs_harmed == 0


@pytest.mark.parametrize("reason", ["bad DIMM", "reboot wave=w2", "reboot", "refloat-hold: x refloat=c1"])
async def test_no_job_is_ended_on_a_node_that_does_not_carry_the_mark(reason: str) -> None:
    slurm = busy_slurm(reason)
    outcome, _, _ = await perform(slurm, EndJobs(WAVE, "n1", TRIGGER, JobEnd.CANCEL, "alice", 1))

    assert outcome == NOT_OURS
    assert [job.state for job in slurm.jobs_on("n1")] == ["RUNNING", "RUNNING"]


async def test_no_job_is_ended_on_a_node_that_is_in_service_again() -> None:
    slurm = busy_slurm()
    slurm.update("n1", Change.RESUME)
    outcome, _, _ = await perform(slurm, EndJobs(WAVE, "n1", TRIGGER, JobEnd.REQUEUE, "alice", 1))

    assert outcome == NOT_OURS
    assert len(slurm.jobs_on("n1")) == 2
