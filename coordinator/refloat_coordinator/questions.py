# SPDX-License-Identifier: Apache-2.0
"""What waves ask before they go on: a site's blocker, and Slurm for its jobs. Each is asked once at a time."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from refloat_contract.errors import Misconfigured, RefloatError
from refloat_coordinator import hostlists
from refloat_coordinator.clock import Clock
from refloat_coordinator.waves import blocker
from refloat_coordinator.waves.blocker import AskBlocker, BlockerAnswer
from refloat_coordinator.waves.decisions import AskJobs, Question
from refloat_service.commands import run
from refloat_slurm.gateway import ClusterGateway, Job

log = structlog.get_logger(__name__)

BLOCKER_DEADLINE_S: Final = 30.0
_AT_ONCE: Final = 4

OnBlocker = Callable[[str, BlockerAnswer], None]
OnJobs = Callable[[Mapping[str, float], float], None]


class Questions:
    """Asks, and tells the answers to whom they matter; a question that is being asked is not asked again."""

    def __init__(self, gateway: ClusterGateway, clock: Clock, on_blocker: OnBlocker, on_jobs: OnJobs) -> None:
        self._gateway = gateway
        self._clock = clock
        self._on_blocker = on_blocker
        self._on_jobs = on_jobs
        self._queue: asyncio.Queue[Question] = asyncio.Queue()
        self._open: set[str] = set()

    def put(self, question: Question) -> None:
        """Ask this soon."""
        key = _key(question)
        if key not in self._open:
            self._open.add(key)
            self._queue.put_nowait(question)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            due = [await self._queue.get()]
            while len(due) < _AT_ONCE and not self._queue.empty():
                due.append(self._queue.get_nowait())
            await asyncio.gather(*(self.ask(question) for question in due))

    async def ask(self, question: Question) -> None:
        """Ask one, and tell the answer."""
        try:
            if isinstance(question, AskBlocker):
                self._on_blocker(question.wave, await ask_blocker(question, self._clock))
            else:
                self._on_jobs(await self._free_at(), self._clock.now())
        finally:
            self._open.discard(_key(question))

    async def _free_at(self) -> Mapping[str, float]:
        try:
            return free_at(await self._gateway.all_jobs())
        except RefloatError as error:
            log.warning("jobs_not_listed", why=str(error))
            return {}


async def ask_blocker(question: AskBlocker, clock: Clock) -> BlockerAnswer:
    """Run a blocker: an argv list, never a shell. Whatever goes wrong blocks, and says so."""
    try:
        done = await run(
            blocker.argv_of(question), deadline_s=BLOCKER_DEADLINE_S, stdin=blocker.stdin_of(question), pinned=False
        )
    except RefloatError as error:
        answer = blocker.unanswered(question, str(error), clock.now())
    else:
        answer = blocker.judge(question, done.returncode, f"{done.stdout}\n{done.stderr}", clock.now())
    log.info("blocker_asked", wave=question.wave, nodes=len(question.nodes), why=answer.why)
    return answer


def free_at(jobs: Iterable[Job]) -> dict[str, float]:
    """When the last job of each node ends by its time limit; infinite where Slurm knows no end."""
    found: dict[str, float] = {}
    for job in jobs:
        end = float(job.ends_at) if job.ends_at else float("inf")
        for node in _expanded(job.nodes):
            found[node] = max(end, found.get(node, 0.0))
    return found


def _expanded(nodes: str) -> tuple[str, ...]:
    if not nodes:
        return ()  # a job that has just begun to complete
    try:
        return hostlists.expand(nodes)
    except Misconfigured as error:
        log.debug("job_without_readable_nodes", why=str(error))
        return ()


def _key(question: Question) -> str:
    return "jobs" if isinstance(question, AskJobs) else f"blocker {question.wave}"
