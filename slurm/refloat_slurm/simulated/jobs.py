# SPDX-License-Identifier: Apache-2.0
"""The job queue of the simulated slurmctld: a FIFO scheduler with simple backfill, and the count of harmed jobs."""

import itertools
import math
from dataclasses import dataclass, field
from typing import Final

from refloat_contract.errors import Refused
from refloat_slurm.simulated.agenda import Agenda
from refloat_slurm.simulated.nodes import NodeTable, SimulatedNode

_BACKFILL_DEPTH: Final = 100
"""How many pending jobs are looked at, as bf_max_job_test says."""


@dataclass(slots=True, eq=False)
class SimulatedJob:
    """One job: PENDING, RUNNING, SUSPENDED or COMPLETING; a finished one is forgotten."""

    id: int
    user: str
    seconds: float
    limit_s: float
    node_count: int = 1
    cpus: int = 0  # on each node; 0: the whole node
    node: str = ""  # must run there
    state: str = "PENDING"
    not_before: float = -math.inf
    ends_at: float = 0.0
    left_s: float = 0.0  # of a suspended job
    runs: int = 0  # counts, so that the end of an earlier run is known as stale
    harmed: bool = False  # in this run
    cancelled: bool = False
    requeued: bool = False  # once its epilog has run
    nodes: list[SimulatedNode] = field(default_factory=list)

    def cpus_on(self, node: SimulatedNode) -> int:
        """How many CPUs it takes there."""
        return self.cpus or node.cpus


@dataclass(frozen=True, slots=True)
class Harm:
    """A job lost its run, or its epilog, because its node went away under it."""

    at: float
    job: int
    node: str
    state: str
    cause: str


class JobQueue:
    """Pending jobs and those on nodes."""

    def __init__(self, table: NodeTable, agenda: Agenda) -> None:
        self.jobs: dict[int, SimulatedJob] = {}
        self.completed = 0
        self.harms: list[Harm] = []
        self._pending: dict[int, SimulatedJob] = {}
        self._table = table
        self._agenda = agenda
        self._ids = itertools.count(1)

    def submit(self, job: SimulatedJob) -> int:
        """Queue a job, give it its id and return that."""
        if job.node:
            self._table.find(job.node)
        job.id = next(self._ids)
        self.jobs[job.id] = self._pending[job.id] = job
        self._table.changed = True
        return job.id

    def place(self, job: SimulatedJob, nodes: list[SimulatedNode]) -> int:
        """Start a job on these nodes, whoever else is there, give it its id and return that."""
        job.id = next(self._ids)
        self.jobs[job.id] = self._pending[job.id] = job
        self._start(job, nodes)
        return job.id

    def suspend(self, job_id: int) -> None:
        """Stop a running job's processes; they stay on their nodes, whose CPUs count as free."""
        job = self._find(job_id, "RUNNING")
        job.state, job.left_s, job.runs = "SUSPENDED", job.ends_at - self._agenda.now, job.runs + 1
        self._note(job)

    def unsuspend(self, job_id: int) -> None:
        """Let a suspended job go on, unless others have its CPUs by now."""
        job = self._find(job_id, "SUSPENDED")
        if any(job.cpus_on(node) > node.cpus - node.used_cpus for node in job.nodes):
            raise Refused("Requested nodes are busy")
        self._run(job, job.left_s)
        self._note(job)

    def cancel(self, job_id: int) -> None:
        """End a job by its user's wish: no harm."""
        job = self._find(job_id, "PENDING", "RUNNING", "SUSPENDED")
        job.cancelled = True
        if job.nodes:
            self._complete(job)
        else:
            del self.jobs[job.id], self._pending[job.id]

    def requeue(self, job_id: int) -> None:
        """End a job's run by an administrator's wish; it waits for another one. No harm."""
        job = self._find(job_id, "RUNNING", "SUSPENDED")
        job.requeued = True
        self._complete(job)

    def hurt(self, node: SimulatedNode, cause: str) -> None:
        """The node lost power: what ran there is dead, though slurmctld does not know yet."""
        for job in node.jobs.values():
            if not job.harmed:
                job.harmed = True
                self.harms.append(Harm(self._agenda.now, job.id, node.name, job.state, cause))

    def kill(self, node: SimulatedNode, cause: str) -> None:
        """Slurmctld gives up what it had on the node: jobs are requeued, those whose epilog ran are done."""
        self.hurt(node, cause)
        for job in list(node.jobs.values()):
            was_completing = job.state == "COMPLETING"
            job.runs += 1
            self._leave(job)
            if was_completing:
                del self.jobs[job.id]
            else:
                self._requeue(job)

    def schedule(self) -> None:
        """Start what can be started now, in order; past a job that must wait, only what does not delay it."""
        shadow = math.inf
        due = (job for job in self._pending.values() if job.not_before <= self._agenda.now)
        for job in list(itertools.islice(due, _BACKFILL_DEPTH)):
            if not self._table.free:
                return
            chosen = self._fitting(job)
            if chosen and self._agenda.now + job.limit_s <= shadow:
                self._start(job, chosen)
            elif not chosen and shadow == math.inf and not job.node:
                shadow = self._shadow(job)

    def _fitting(self, job: SimulatedJob) -> list[SimulatedNode]:
        free = self._table.free
        candidates = [free[job.node]] if job.node in free else [] if job.node else free.values()
        fits = (node for node in candidates if job.cpus_on(node) <= node.cpus - node.used_cpus)
        chosen = list(itertools.islice(fits, job.node_count))
        return chosen if len(chosen) == job.node_count else []

    @property
    def waiting(self) -> int:
        """How many jobs are not on a node."""
        return len(self._pending)

    def _shadow(self, job: SimulatedJob) -> float:
        """When enough nodes will be free for a job that must wait, if all goes by the time limits."""
        ends = sorted(
            running.ends_at - running.seconds + running.limit_s
            for running in self.jobs.values()
            if running.state == "RUNNING"
            for _ in running.nodes
        )
        missing = job.node_count - len(self._table.free)
        return ends[missing - 1] if 0 < missing <= len(ends) else math.inf

    def _start(self, job: SimulatedJob, nodes: list[SimulatedNode]) -> None:
        del self._pending[job.id]
        job.nodes, job.harmed = nodes, False
        for node in nodes:
            node.jobs[job.id] = job
        self._run(job, job.seconds)
        self._note(job)

    def _run(self, job: SimulatedJob, seconds: float) -> None:
        job.state, job.ends_at, job.runs = "RUNNING", self._agenda.now + seconds, job.runs + 1
        run = job.runs
        # A dead job never tells slurmctld that it has ended.
        self._agenda.after(seconds, lambda: self._complete(job) if job.runs == run and not job.harmed else None)

    def _complete(self, job: SimulatedJob) -> None:
        job.state, job.runs = "COMPLETING", job.runs + 1
        run = job.runs
        self._note(job)
        self._agenda.after(self._table.rules.epilog_s, lambda: self._done(job) if job.runs == run else None)

    def _done(self, job: SimulatedJob) -> None:
        if job.harmed:
            return  # the node is gone; slurmctld will notice
        self._leave(job)
        if job.requeued:
            job.requeued = False
            self._requeue(job)
            return
        del self.jobs[job.id]
        self.completed += not job.cancelled

    def _requeue(self, job: SimulatedJob) -> None:
        # To the end of the queue; its begin time would keep it from the head anyway.
        job.state = "PENDING"
        job.not_before = self._agenda.now + self._table.rules.requeue_s
        self._pending[job.id] = job
        self._agenda.after(self._table.rules.requeue_s, self._look_again)

    def _look_again(self) -> None:
        self._table.changed = True

    def _leave(self, job: SimulatedJob) -> None:
        nodes, job.nodes = job.nodes, []
        for node in nodes:
            del node.jobs[job.id]
            self._table.note(node)

    def _note(self, job: SimulatedJob) -> None:
        for node in job.nodes:
            self._table.note(node)

    def _find(self, job_id: int, *states: str) -> SimulatedJob:
        job = self.jobs.get(job_id)
        if job is None or job.state not in states:
            raise Refused(f"job {job_id} is not {' or '.join(states)}")
        return job
