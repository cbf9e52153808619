# SPDX-License-Identifier: Apache-2.0
"""The simulated slurmctld: one object for clients, administrators, nodes and users. Nothing in it sleeps."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import Enum
from typing import TypeAlias

from refloat_contract.errors import Refused, Transient
from refloat_slurm.gateway import AdminLevel, Change, Job, JobEnd, NodeView
from refloat_slurm.simulated.admin import Administration
from refloat_slurm.simulated.agenda import Agenda
from refloat_slurm.simulated.jobs import Harm, JobQueue, SimulatedJob
from refloat_slurm.simulated.nodes import NodeTable, Rules, Transition
from refloat_slurm.simulated.slurmd import Registrar

_Write: TypeAlias = tuple[str, Change | None, str | None, str]


class _Outage(Enum):
    """How slurmctld fails, by what its clients are told."""

    NONE = ""
    STOPPED = "Unable to contact slurm controller (connect failure)"
    HUNG = "Socket timed out on send/recv operation"


class SimulatedSlurmctld:
    """A slurmctld over nodes that register and go silent as the caller says.

    Time comes from ``clock``, read at every call, or else only from `tick`. Every change happens at its exact time,
    however far apart the ticks are.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        cpus: int = 2,
        rules: Rules | None = None,
        now: float = 0.0,
        clock: Callable[[], float] | None = None,
        log_limit: int = 100_000,
        on_reboot: Callable[[str], None] | None = None,
    ) -> None:
        self._clock = clock
        self._agenda = Agenda(clock() if clock is not None else now)
        self._table = NodeTable(names, cpus, self._agenda, rules or Rules(), log_limit)
        self._jobs = JobQueue(self._table, self._agenda)
        self._registrar = Registrar(self._table, self._agenda, self._jobs)
        self.reboots_issued: list[str] = []
        self._on_reboot = on_reboot
        self._admin = Administration(self._table, self._agenda, self._jobs, self._registrar, self._issued)
        self._outage = _Outage.NONE
        self._applies_later = True
        self._late: list[_Write] = []
        self._next_pass = self._agenda.now
        self._pass_is_due = False
        self.accounting: dict[str, AdminLevel] | None = {}
        """The users whom slurmdbd knows beside root; None where there is no accounting."""

    # Time

    @property
    def now(self) -> float:
        """The simulated time: seconds since 1970 if the clock says so."""
        return self._agenda.now

    def tick(self, now: float | None = None) -> None:
        """Let everything happen that is due by ``now``, or by the clock."""
        if now is None:
            now = self._clock() if self._clock is not None else self._agenda.now
        self._schedule()
        if self._agenda.next_at > now:
            self._agenda.now = max(self._agenda.now, now)
            return
        for happen in self._agenda.until(now):
            happen()
            self._schedule()

    def _schedule(self) -> None:
        while self._table.changed and self._outage is _Outage.NONE:
            if self._agenda.now < self._next_pass:
                if not self._pass_is_due:
                    self._pass_is_due = True
                    self._agenda.after(self._next_pass - self._agenda.now, self._begin_pass)
                return
            self._table.changed = False
            self._next_pass = self._agenda.now + self._table.rules.schedule_s
            self._jobs.schedule()

    def _begin_pass(self) -> None:
        self._pass_is_due = False
        self._next_pass = self._agenda.now

    @property
    def next_at(self) -> float:
        """When something is due next, as far as is known now; infinity when nothing is."""
        return self._agenda.next_at

    # Clients: what a gateway calls

    def view(self, name: str) -> NodeView:
        """One node, or UnknownNode."""
        self._answer()
        return self._table.find(name).view

    def views(self) -> dict[str, NodeView]:
        """All nodes."""
        self._answer()
        return {name: node.view for name, node in self._table.nodes.items()}

    def take_stirred(self) -> dict[str, NodeView]:
        """The nodes whose state or reason changed since the last call, as they are now: a feed that misses nothing."""
        self._answer()
        stirred, self._table.stirred = self._table.stirred, {}
        return {name: self._table.nodes[name].view for name in stirred}

    def jobs_on(self, name: str) -> tuple[Job, ...]:
        """The jobs that hold the node."""
        self._answer()
        return tuple(_job(job) for job in self._table.find(name).jobs.values())

    def all_jobs(self) -> tuple[Job, ...]:
        """The jobs that hold nodes, each with its nodes."""
        self._answer()
        return tuple(
            replace(_job(job), nodes=",".join(node.name for node in job.nodes))
            for job in self._jobs.jobs.values()
            if job.nodes
        )

    def admin_level(self, user: str) -> AdminLevel:
        """`sacctmgr show user`, which slurmctld has no part in: it answers while slurmctld does not."""
        if self.accounting is None:
            raise Refused("You are not running a supported accounting_storage plugin")
        return {"root": AdminLevel.ADMINISTRATOR, **self.accounting}.get(user, AdminLevel.NONE)

    def end(self, job_id: int, how: JobEnd) -> None:
        """`scontrol requeue` or `scancel` of a job by an administrator; Refused for a job that is over."""
        self._answer()
        if how is JobEnd.CANCEL:
            self._jobs.cancel(job_id)
        else:
            self._jobs.requeue(job_id)
        self.tick()

    def update(self, name: str, change: Change | None, reason: str | None = None, user: str = "root") -> None:
        """`scontrol update nodename=NAME state=CHANGE reason=REASON` by ``user``.

        While slurmctld hangs this raises Transient and is applied when it carries on, if `hang` was told so.
        """
        if self._outage is _Outage.HUNG and self._applies_later:
            self._late.append((name, change, reason, user))
        self._answer()
        self._admin.update(name, change, reason, user)
        self.tick()

    def reboot(
        self, name: str, *, asap: bool = False, next_state: str = "", reason: str = "", user: str = "root"
    ) -> None:
        """`scontrol reboot [ASAP] [nextstate=…] [reason=…] NAME`; once issued it is in `reboots_issued`."""
        self._answer()
        self._admin.reboot(name, asap=asap, next_state=next_state, reason=reason, user=user)
        self.tick()

    def cancel_reboot(self, name: str) -> None:
        """`scontrol cancel_reboot NAME`."""
        self._answer()
        self._admin.cancel_reboot(name)
        self.tick()

    def mark(self, name: str, *flags: str) -> None:
        """Set flags that nothing here sets by itself: MAINTENANCE, FAIL, POWERED_DOWN and such."""
        self.tick()
        node = self._table.find(name)
        node.marks.update(flags)
        self._table.note(node)

    def unmark(self, name: str, *flags: str) -> None:
        """Take flags away again."""
        self.tick()
        node = self._table.find(name)
        node.marks.difference_update(flags)
        self._table.note(node)

    # Nodes

    def node_down(self, name: str) -> None:
        """The node loses power or goes down for a reboot: slurmd is silent, and what ran there is dead."""
        self.tick()
        node = self._table.find(name)
        self._jobs.hurt(node, "the node went down")
        self._registrar.silence(node)

    def slurmd_stopped(self, name: str) -> None:
        """Slurmd is silent; jobs live on."""
        self.tick()
        self._registrar.silence(self._table.find(name))

    def register(self, name: str, boot_time: float, slurmd_start_time: float | None = None) -> None:
        """Slurmd is up and registers; a ``boot_time`` newer than the last one by more than the jitter is a reboot."""
        self.tick()
        started = boot_time if slurmd_start_time is None else slurmd_start_time
        self._registrar.register(self._table.find(name), int(boot_time), int(started))
        self.tick()

    # Users

    def submit(
        self,
        seconds: float,
        *,
        user: str = "alice",
        nodes: int = 1,
        cpus: int = 0,
        limit_s: float | None = None,
        node: str = "",
    ) -> int:
        """Queue a job that runs so long on so many nodes (``cpus`` of each, 0 for all); return its id."""
        self.tick()
        limit = seconds if limit_s is None else limit_s
        job_id = self._jobs.submit(SimulatedJob(0, user, seconds, limit, nodes, cpus, node))
        self.tick()
        return job_id

    def place(self, seconds: float, on: Iterable[str], *, user: str = "alice", limit_s: float | None = None) -> int:
        """Have a job run on these nodes, all of each, for so many seconds more; return its id."""
        self.tick()
        nodes = [self._table.find(name) for name in on]
        limit = seconds if limit_s is None else limit_s
        return self._jobs.place(SimulatedJob(0, user, seconds, limit, len(nodes)), nodes)

    def suspend(self, job_id: int) -> None:
        """`scontrol suspend`; Refused unless it runs."""
        self.tick()
        self._jobs.suspend(job_id)

    def unsuspend(self, job_id: int) -> None:
        """`scontrol resume` of a job; Refused unless it is suspended."""
        self.tick()
        self._jobs.unsuspend(job_id)

    def cancel(self, job_id: int) -> None:
        """`scancel`; Refused for a job that is over."""
        self.tick()
        self._jobs.cancel(job_id)

    # Faults

    def stop(self) -> None:
        """Slurmctld ends: clients are told at once, and nothing is scheduled."""
        self.tick()
        self._outage = _Outage.STOPPED

    def hang(self, *, applies_later: bool = True) -> None:
        """Slurmctld hangs: clients time out. Their updates are applied by `recover`, or lost."""
        self.tick()
        self._outage = _Outage.HUNG
        self._applies_later = applies_later

    def recover(self) -> None:
        """Slurmctld carries on, or starts again; one that starts does not know its nodes for a moment."""
        self.tick()
        outage, self._outage = self._outage, _Outage.NONE
        if outage is _Outage.STOPPED:
            self._restart()
        late, self._late = self._late, []
        for write in late:
            # Whoever sent it has long been told of a timeout: a refusal reaches nobody.
            with contextlib.suppress(Refused):
                self._admin.update(*write)
        self.tick()

    def _restart(self) -> None:
        for node in self._table.nodes.values():
            node.unknown = node.base != "DOWN"
            self._table.note(node)
        self._agenda.after(self._table.rules.restart_s, self._know_nodes)

    def _know_nodes(self) -> None:
        for node in self._table.nodes.values():
            node.unknown = False
            self._table.note(node)

    # Counters

    @property
    def jobs_run(self) -> int:
        """Jobs that ran to their end, epilog included."""
        return self._jobs.completed

    @property
    def jobs_harmed(self) -> int:
        """Runs that were lost because a node went away."""
        return len(self._jobs.harms)

    @property
    def harms(self) -> tuple[Harm, ...]:
        """What harm was done, when, and on which node."""
        return tuple(self._jobs.harms)

    @property
    def jobs_waiting(self) -> int:
        """Jobs in the queue that are not on a node."""
        return self._jobs.waiting

    @property
    def idle(self) -> int:
        """On how many nodes a job could start."""
        return len(self._table.free)

    @property
    def transitions(self) -> deque[Transition]:
        """The latest changes of nodes, oldest first."""
        return self._table.log

    @property
    def out(self) -> int:
        """How many nodes are out of service."""
        return self._table.out

    @property
    def max_out(self) -> int:
        """The most nodes that were out of service at once."""
        return self._table.max_out

    def _answer(self) -> None:
        self.tick()
        if self._outage is not _Outage.NONE:
            raise Transient(self._outage.value)

    def _issued(self, name: str) -> None:
        self.reboots_issued.append(name)
        if self._on_reboot is not None:
            self._on_reboot(name)


def _job(job: SimulatedJob) -> Job:
    return Job(str(job.id), job.user, job.state, int(job.ends_at + job.limit_s - job.seconds))


async def run(slurmctld: SimulatedSlurmctld, period_s: float) -> None:
    """Tick by the clock for ever: for a demo, where things must happen while nobody asks."""
    while True:
        slurmctld.tick()
        await asyncio.sleep(period_s)
