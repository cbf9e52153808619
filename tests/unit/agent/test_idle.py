# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from refloat_agent.effects.idle import IdleLooks, Idleness, Leave
from refloat_agent.idleness import not_idle
from refloat_agent.observation import PermitFacts, SlurmFacts, StepProcess
from refloat_agent.ports import Processes, SlurmNode
from refloat_contract.errors import Transient
from refloat_contract.words import Phase
from refloat_slurm import states
from refloat_slurm.gateway import Job, NodeView

STEP = StepProcess(991, "slurmstepd: [7.batch]")


def view(flags: str) -> NodeView:
    return NodeView("n1", states.parse_flags(flags))


@pytest.mark.parametrize(
    ("flags", "jobs", "steps", "why"),
    [
        ("IDLE", (), (), None),
        ("IDLE+DRAIN", (), (), None),
        ("DOWN+DRAIN", (), (), None),
        ("IDLE+PLANNED", (), (), None),
        ("MIXED", (), (), "the node is not idle (MIXED)"),
        ("IDLE+COMPLETING", (), (), "the node is not idle (IDLE+COMPLETING)"),
        ("ALLOCATED+DRAIN", (), (), "the node is not idle (ALLOCATED+DRAIN)"),
        ("DOWN", (), (), "the node is not idle (DOWN)"),
        ("UNKNOWN", (), (), "the node is not idle (UNKNOWN)"),
        ("IDLE+REBOOT_ISSUED", (), (), "Slurm shows IDLE+REBOOT_ISSUED"),
        ("IDLE+FROBNICATING", (), (), "Slurm shows IDLE+FROBNICATING"),
        ("IDLE", (Job("7", user="alice", state="SUSPENDED"),), (), "job 7 of alice is SUSPENDED on the node"),
        ("IDLE", (), (STEP,), "a job step runs: slurmstepd: [7.batch] (pid 991)"),
    ],
)
def test_a_node_is_idle_when_nothing_says_otherwise(
    flags: str, jobs: tuple[Job, ...], steps: tuple[StepProcess, ...], why: str | None
) -> None:
    assert not_idle(view(flags), jobs, steps) == why


@dataclass
class Node:
    """A node as slurmctld and /proc show it, and what its checks do."""

    flags: str = "IDLE"
    hint: str = "IDLE"
    running: tuple[StepProcess, ...] = ()
    answers: bool = True
    phase: Phase = Phase.IN_SERVICE
    reads: int = 0
    denied: str | None = None
    began: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    def latest(self) -> SlurmFacts:
        return SlurmFacts(view(self.hint), fresh=False)

    async def read(self) -> NodeView:
        self.reads += 1
        if not self.answers:
            raise Transient("slurmctld does not answer")
        return view(self.flags)

    async def jobs(self) -> tuple[Job, ...]:
        return ()

    async def steps(self) -> tuple[StepProcess, ...]:
        return self.running

    async def take(self, check: str) -> str | None:
        self.leaves.append(f"take {check}")
        return self.denied

    async def give_back(self, check: str) -> None:
        self.leaves.append(f"give back {check}")

    async def look(self, check: str) -> None:
        self.began.append(check)
        await self.goes_on.wait()
        self.ended.append(check)

    def looks(self) -> IdleLooks:
        idleness = Idleness(cast("SlurmNode", self), cast("Processes", self), lambda: self.phase)
        return IdleLooks(idleness, self, self.look, retry_s=0.01, watch_s=0.001)


@asynccontextmanager
async def running(looks: IdleLooks) -> AsyncIterator[None]:
    task = asyncio.create_task(looks.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def turns(number: int = 50) -> None:
    for _ in range(number):
        await asyncio.sleep(0.001)


async def test_idle_checks_run_one_after_the_other_each_with_leave() -> None:
    node = Node()
    node.goes_on.set()
    looks = node.looks()
    looks.ask_for(["burn", "copy"])

    async with running(looks):
        await turns(5)

    assert node.ended == ["burn", "copy"]
    assert node.leaves == ["take burn", "give back burn", "take copy", "give back copy"]
    assert looks.waiting == {}


@pytest.mark.parametrize(
    ("node", "why", "asks_slurm"),
    [
        (Node(hint="MIXED"), "the node is not idle (MIXED)", False),
        (Node(running=(STEP,)), "a job step runs: slurmstepd: [7.batch]", False),
        (Node(phase=Phase.UNMOUNTING), "the node's cycle is in UNMOUNTING", False),
        (Node(flags="ALLOCATED"), "the node is not idle (ALLOCATED)", True),
        (Node(answers=False), "slurmctld does not answer", True),
    ],
    ids=str,
)
async def test_no_idle_check_begins_on_a_node_that_is_not_proven_idle(
    node: Node, why: str, *, asks_slurm: bool
) -> None:
    looks = node.looks()
    looks.ask_for(["burn"])

    async with running(looks):
        await turns(5)

    assert (node.began, node.leaves, looks.waiting) == ([], [], {"burn": why})
    assert (node.reads > 0) is asks_slurm


@pytest.mark.parametrize("sign", ["a job step", "a view of Slurm", "a prolog", "a cycle"])
async def test_an_idle_check_is_stopped_when_a_job_comes_and_is_done_later(sign: str) -> None:
    node = Node()
    looks = node.looks()
    looks.ask_for(["burn"])

    async with running(looks):
        await turns(5)
        assert node.began == ["burn"]
        match sign:
            case "a job step":
                node.running = (STEP,)
            case "a view of Slurm":
                node.hint = "ALLOCATED"
            case "a cycle":
                node.phase = Phase.STOPPING
            case _:
                node.flags = "ALLOCATED"
                looks.job_comes()
        await turns(30)
        assert (node.began, node.ended, looks.stopped) == (["burn"], [], 1)
        assert node.leaves == ["take burn", "give back burn"]
        node.hint = node.flags = "IDLE"
        node.running, node.phase = (), Phase.IN_SERVICE
        node.goes_on.set()
        await turns(30)

    assert node.ended == ["burn"]


async def test_an_idle_check_whose_leave_is_not_renewed_is_stopped() -> None:
    node = Node()
    looks = node.looks()
    looks.renew_s = 0.001
    looks.ask_for(["burn"])

    async with running(looks):
        await turns(5)
        node.denied = "enough"
        await turns(5)

    assert (node.began, node.ended, looks.waiting) == (["burn"], [], {"burn": "enough"})


@dataclass
class Coordinator:
    """One that denies, is away, or is not heard yet."""

    there: bool | None

    def permit(self) -> PermitFacts:
        return PermitFacts(self.there)

    async def ask_idle(self, check: str) -> str | None:
        return f"no {check} now"

    async def end_idle(self, check: str) -> None:
        raise AssertionError("nothing was given")


@pytest.mark.parametrize(
    ("there", "proceed", "why"),
    [
        (True, True, "no burn now"),
        (None, True, "waiting to hear whether there is a coordinator"),
        (False, True, None),
        (False, False, "no coordinator to ask for leave (without_coordinator = 'wait')"),
    ],
)
async def test_the_coordinator_gives_leave_and_without_one_the_policy(
    *, there: bool | None, proceed: bool, why: str | None
) -> None:
    assert await Leave(Coordinator(there), proceed).take("burn") == why
