# SPDX-License-Identifier: Apache-2.0
"""Jobs on the simulated slurmctld: who starts when, and who is harmed."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat_contract.errors import Refused
from refloat_slurm.gateway import Change, JobEnd
from refloat_slurm.simulated import Rules, SimulatedSlurmctld

START = 1000.0


def cluster(nodes: int = 1) -> SimulatedSlurmctld:
    return SimulatedSlurmctld(
        [f"n{number}" for number in range(1, nodes + 1)],
        rules=Rules(slurmd_timeout_s=30, not_responding_s=20),
        now=START,
    )


def running(slurmctld: SimulatedSlurmctld) -> dict[str, list[int]]:
    return {name: sorted(int(job.id) for job in slurmctld.jobs_on(name)) for name in slurmctld.views()}


@pytest.mark.parametrize(("cpus", "expected"), [(0, {"ALLOCATED"}), (1, {"MIXED"}), (2, {"ALLOCATED"})])
def test_a_job_takes_its_cpus(cpus: int, expected: set[str]) -> None:
    slurmctld = cluster()
    slurmctld.submit(10, cpus=cpus)

    assert slurmctld.view("n1").flags == expected


def test_a_job_runs_then_completes_then_is_gone() -> None:
    slurmctld = cluster()
    slurmctld.submit(10, limit_s=60)
    [job] = slurmctld.jobs_on("n1")
    assert (job.state, job.user, job.ends_at) == ("RUNNING", "alice", 1060)
    slurmctld.tick(START + 10)
    assert [job.state for job in slurmctld.jobs_on("n1")] == ["COMPLETING"]
    slurmctld.tick(START + 11)

    assert slurmctld.jobs_on("n1") == ()
    assert (slurmctld.jobs_run, slurmctld.jobs_harmed) == (1, 0)


def test_jobs_start_in_order_and_wait_for_a_node() -> None:
    slurmctld = cluster()
    first, second = slurmctld.submit(10), slurmctld.submit(10)
    assert running(slurmctld) == {"n1": [first]}
    assert slurmctld.jobs_waiting == 1
    slurmctld.tick(START + 12)

    assert running(slurmctld) == {"n1": [second]}


def test_a_short_job_fills_a_gap_and_a_long_one_does_not_delay_a_large_one() -> None:
    slurmctld = cluster(2)
    slurmctld.submit(100, node="n1")
    large = slurmctld.submit(10, nodes=2)
    slurmctld.submit(500)
    short = slurmctld.submit(50)
    assert running(slurmctld)["n2"] == [short]
    slurmctld.tick(START + 102)

    assert running(slurmctld) == {"n1": [large], "n2": [large]}


@pytest.mark.parametrize("flag", ["FAIL", "POWERED_DOWN", "REBOOT_ISSUED", "NOT_RESPONDING"])
def test_no_job_starts_on_a_node_that_is_out_of_service(flag: str) -> None:
    slurmctld = cluster()
    slurmctld.mark("n1", flag)
    job = slurmctld.submit(10)
    assert running(slurmctld) == {"n1": []}
    slurmctld.unmark("n1", flag)
    slurmctld.tick(START + 1)

    assert running(slurmctld) == {"n1": [job]}


def test_a_drained_node_starts_no_job_and_a_resumed_one_does() -> None:
    slurmctld = cluster()
    slurmctld.update("n1", Change.DRAIN, "reboot")
    job = slurmctld.submit(10)
    slurmctld.tick(START + 50)
    assert running(slurmctld) == {"n1": []}
    slurmctld.update("n1", Change.RESUME)
    slurmctld.tick(START + 51)

    assert running(slurmctld) == {"n1": [job]}


def test_a_suspended_job_leaves_a_drained_node_that_is_not_empty() -> None:
    slurmctld = cluster()
    job = slurmctld.submit(10)
    slurmctld.tick(START + 4)
    slurmctld.suspend(job)
    slurmctld.update("n1", Change.DRAIN, "reboot")
    slurmctld.tick(START + 100)
    assert slurmctld.view("n1").flags == {"IDLE", "DRAIN"}
    assert [job.state for job in slurmctld.jobs_on("n1")] == ["SUSPENDED"]
    slurmctld.unsuspend(job)
    assert slurmctld.view("n1").flags == {"ALLOCATED", "DRAIN"}
    slurmctld.tick(START + 107)

    assert slurmctld.jobs_run == 1


def test_only_a_running_job_can_be_suspended() -> None:
    slurmctld = cluster()
    slurmctld.submit(10)
    waiting = slurmctld.submit(10)

    for job in (waiting, 99):
        with pytest.raises(Refused):
            slurmctld.suspend(job)
    with pytest.raises(Refused):
        slurmctld.unsuspend(waiting)


def test_a_cancelled_job_is_neither_run_nor_harmed() -> None:
    slurmctld = cluster()
    first, second = slurmctld.submit(10), slurmctld.submit(10)
    slurmctld.cancel(second)
    slurmctld.cancel(first)
    slurmctld.tick(START + 100)

    assert running(slurmctld) == {"n1": []}
    assert (slurmctld.jobs_run, slurmctld.jobs_harmed, slurmctld.jobs_waiting) == (0, 0, 0)


@pytest.mark.parametrize("suspended", [False, True])
def test_power_lost_under_a_job_harms_it_once(suspended: bool) -> None:  # noqa: FBT001
    slurmctld = cluster(2)
    job = slurmctld.submit(10, node="n1")
    if suspended:
        slurmctld.suspend(job)
    slurmctld.node_down("n1")
    assert slurmctld.jobs_harmed == 1
    slurmctld.tick(START + 40)
    assert slurmctld.view("n1").flags == {"DOWN", "NOT_RESPONDING"}
    slurmctld.register("n1", START + 41)

    [harm] = slurmctld.harms
    assert (harm.at, harm.job, harm.node, harm.cause) == (START, job, "n1", "the node went down")
    assert harm.state == ("SUSPENDED" if suspended else "RUNNING")
    assert slurmctld.jobs_run == 0


def test_a_node_set_down_harms_its_job_which_is_requeued() -> None:
    slurmctld = cluster(2)
    job = slurmctld.submit(10, nodes=2)
    slurmctld.update("n1", Change.DOWN, "x")
    assert running(slurmctld) == {"n1": [], "n2": []}
    assert [(harm.node, harm.cause) for harm in slurmctld.harms] == [("n1", "the node was set DOWN")]
    slurmctld.update("n1", Change.RESUME)
    slurmctld.tick(START + 119)
    assert slurmctld.jobs_waiting == 1
    slurmctld.tick(START + 121)

    assert running(slurmctld) == {"n1": [job], "n2": [job]}


def test_an_epilog_that_is_cut_off_is_harm_too() -> None:
    slurmctld = cluster()
    slurmctld.submit(10)
    slurmctld.tick(START + 10)
    slurmctld.update("n1", Change.DOWN, "x")

    assert [harm.state for harm in slurmctld.harms] == ["COMPLETING"]
    assert slurmctld.jobs_waiting == 0


def test_a_stopped_slurmd_harms_no_job_unless_it_stays_away() -> None:
    slurmctld = cluster()
    slurmctld.submit(100)
    slurmctld.slurmd_stopped("n1")
    slurmctld.tick(START + 25)
    assert slurmctld.view("n1").flags == {"ALLOCATED", "NOT_RESPONDING"}
    slurmctld.register("n1", START, slurmctld.now)
    assert slurmctld.jobs_harmed == 0
    slurmctld.slurmd_stopped("n1")
    slurmctld.tick(START + 60)

    assert [harm.cause for harm in slurmctld.harms] == ["the node did not respond"]


def test_jobs_end_during_an_outage_but_none_starts() -> None:
    slurmctld = cluster()
    slurmctld.submit(10)
    second = slurmctld.submit(10)
    slurmctld.stop()
    slurmctld.tick(START + 60)
    assert slurmctld.jobs_run == 1
    slurmctld.recover()
    slurmctld.tick(START + 63)

    assert running(slurmctld) == {"n1": [second]}


def test_a_suspended_job_waits_while_another_has_its_cpus() -> None:
    slurmctld = cluster()
    first, second = slurmctld.submit(10), slurmctld.submit(10)
    slurmctld.suspend(first)
    slurmctld.tick(START + 1)
    assert running(slurmctld) == {"n1": [first, second]}
    with pytest.raises(Refused, match="busy"):
        slurmctld.unsuspend(first)
    slurmctld.tick(START + 20)
    slurmctld.unsuspend(first)
    slurmctld.tick(START + 40)

    assert slurmctld.jobs_run == 2


def test_a_boot_too_short_to_be_noticed_still_ends_the_job() -> None:
    slurmctld = cluster()
    job = slurmctld.submit(10)
    slurmctld.node_down("n1")
    slurmctld.register("n1", START + 1)
    slurmctld.tick(START + 121)

    assert slurmctld.jobs_harmed == 1
    assert running(slurmctld) == {"n1": [job]}


def perform(slurmctld: SimulatedSlurmctld, step: str, number: int, seconds: int) -> None:
    name = f"n{number}"
    match step:
        case "submit":
            slurmctld.submit(seconds + 1, nodes=number, cpus=seconds % 3)
        case "suspend":
            slurmctld.suspend(number)
        case "unsuspend":
            slurmctld.unsuspend(number)
        case "cancel":
            slurmctld.cancel(number)
        case "off":
            slurmctld.node_down(name)
        case "on":
            slurmctld.register(name, slurmctld.now)
        case _:
            slurmctld.update(name, Change(step), "x")


STEPS = st.tuples(
    st.sampled_from(["submit", "submit", "suspend", "unsuspend", "cancel", "DRAIN", "DOWN", "RESUME", "off", "on"]),
    st.integers(1, 3),
    st.integers(0, 40),
)


@given(st.lists(STEPS, max_size=40))
def test_whatever_happens_no_node_is_overbooked_and_no_job_is_lost(steps: list[tuple[str, int, int]]) -> None:
    slurmctld = cluster(3)
    done = []
    for step, number, seconds in steps:
        with contextlib.suppress(Refused):
            perform(slurmctld, step, number, seconds)
            done.append(step)
        slurmctld.tick(slurmctld.now + seconds)
        nodes = slurmctld._table.nodes.values()
        assert all(node.used_cpus <= node.cpus for node in nodes)
        assert slurmctld.out == sum(not node.in_service for node in nodes) <= slurmctld.max_out
        assert all(node.seen[0] == node.flags for node in nodes)

    gone = done.count("submit") - slurmctld.jobs_run - len(slurmctld._jobs.jobs)
    epilogs = sum(harm.state == "COMPLETING" for harm in slurmctld.harms)
    assert 0 <= gone <= done.count("cancel") + epilogs


def test_a_requeued_job_leaves_its_node_and_runs_again() -> None:
    slurmctld = cluster()
    job = slurmctld.submit(100)
    slurmctld.end(job, JobEnd.REQUEUE)
    assert [one.state for one in slurmctld.all_jobs()] == ["COMPLETING"]
    slurmctld.tick(START + 5)
    assert (slurmctld.all_jobs(), slurmctld.jobs_waiting) == ((), 1)
    slurmctld.tick(START + 500)

    assert (slurmctld.jobs_run, slurmctld.jobs_harmed) == (1, 0)


def test_an_operator_ends_only_jobs_that_are_there() -> None:
    slurmctld = cluster()
    job = slurmctld.submit(100)
    slurmctld.end(job, JobEnd.CANCEL)
    slurmctld.tick(START + 5)

    assert slurmctld.jobs_run == 0
    for how in JobEnd:
        with pytest.raises(Refused):
            slurmctld.end(job, how)
