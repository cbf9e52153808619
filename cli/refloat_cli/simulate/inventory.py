# SPDX-License-Identifier: Apache-2.0
"""What a cluster holds when its simulation begins: from a hostlist, or from dumps of a real one; pure."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from refloat_cli.simulate.plan import Jobs
from refloat_contract.errors import Misconfigured, Transient
from refloat_coordinator import hostlists
from refloat_slurm import answers, states

TIMES: Final = "SLURM_TIME_FORMAT=%s "
NODES_COMMAND: Final = f"{TIMES}scontrol -o show nodes"
JOBS_COMMAND: Final = "squeue -h -t R,CG,PD -o '%i|%T|%D|%L|%l|%N'"
HISTORY_COMMAND: Final = "sacct -a -X -n -P -S now-7days -s CD,TO,F -o NNodes,ElapsedRaw,TimelimitRaw"

_DAYS: Final = re.compile(r"(?:(?:(?P<days>\d+)-)?(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")
_NO_LIMIT_S: Final = 7 * 86400.0
_MOST_SAMPLES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Running:
    """A job that runs on these nodes; ``left_s`` until its time limit, which was ``limit_s``."""

    on: tuple[str, ...]
    left_s: float
    limit_s: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in the queue."""

    nodes: int
    limit_s: float


@dataclass(frozen=True, slots=True)
class Inventory:
    """Nodes and jobs. ``out``: drained nodes with their reasons; ``silent``: nodes that are down."""

    names: tuple[str, ...]
    out: Mapping[str, str] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    running: tuple[Running, ...] = ()
    pending: tuple[Waiting, ...] = ()

    @property
    def hostlist(self) -> str:
        """All nodes, folded."""
        return hostlists.fold(self.names)


@dataclass(frozen=True, slots=True)
class Draw:
    """A job that a user submits."""

    nodes: int
    seconds: float
    limit_s: float


@dataclass(frozen=True, slots=True)
class Mix:
    """What jobs are like. ``history`` are jobs that were; without any, the plan's own numbers."""

    jobs: Jobs
    load: float
    history: tuple[Draw, ...] = ()

    @property
    def ratio(self) -> bool:
        """Whether it is known how much of their limits jobs use."""
        return bool(self.history)

    def draw(self, chance: random.Random) -> Draw:
        """One more job."""
        if self.history:
            return chance.choice(self.history)
        limit_s = self.jobs.limit_s
        seconds = min(limit_s, max(1.0, chance.expovariate(1 / self.jobs.mean_s)))
        return Draw(chance.choice(self.jobs.nodes), seconds, limit_s)

    def run_time(self, limit_s: float, chance: random.Random) -> float:
        """How long a job that asks for ``limit_s`` runs."""
        if not self.history:
            return min(limit_s, max(1.0, chance.expovariate(1 / self.jobs.mean_s)))
        used = chance.choice(self.history)
        return max(1.0, limit_s * min(1.0, used.seconds / used.limit_s))

    def left(self, job: Running, chance: random.Random) -> float:
        """How much longer a job runs that has come so far: no less than it has run, no more than its limit."""
        ran_s = job.limit_s - job.left_s
        for _ in range(8):
            run_s = self.run_time(job.limit_s, chance)
            if run_s > ran_s:
                return run_s - ran_s
        return job.left_s


def of_hostlist(text: str) -> Inventory:
    """A cluster that is whole.

    Raises:
        Misconfigured: the hostlist cannot be read.
    """
    return Inventory(hostlists.expand(text))


def read_nodes(text: str, source: str) -> Inventory:
    """The nodes of a dump made with `NODES_COMMAND`.

    Raises:
        Misconfigured: it is not understood.
    """
    try:
        views = answers.read_nodes(text)
    except Transient as error:
        raise Misconfigured(f"{source}: {error}; make it with: {NODES_COMMAND}") from error
    out = {n: v.reason or "drained" for n, v in views.items() if states.is_drain_set(v)}
    silent = frozenset(n for n, v in views.items() if "DOWN" in v.flags or "NOT_RESPONDING" in v.flags)
    out.update({name: views[name].reason or "Not responding" for name in silent})
    return Inventory(tuple(hostlists.in_order(views)), out, silent)


def read_jobs(text: str, source: str, inventory: Inventory) -> Inventory:
    """The inventory with the jobs of a dump made with `JOBS_COMMAND`.

    Raises:
        Misconfigured: a line is not understood, or names a node that the inventory lacks.
    """
    known, running, pending = frozenset(inventory.names), list[Running](), list[Waiting]()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.strip().split("|")
        if len(fields) != JOBS_COMMAND.count("|") + 1:
            raise Misconfigured(f"{source}:{number}: {line.strip()!r} is not understood; make it with: {JOBS_COMMAND}")
        _, state, count, left, limit, on = fields
        limit_s = seconds(limit, f"{source}:{number}")
        if state == "PENDING":
            pending.append(Waiting(_count(count, f"{source}:{number}"), limit_s))
            continue
        names = tuple(name for name in hostlists.expand(on) if name in known) if on else ()
        if names:
            running.append(Running(names, max(1.0, min(limit_s, seconds(left, f"{source}:{number}"))), limit_s))
    return Inventory(inventory.names, inventory.out, inventory.silent, tuple(running), tuple(pending))


def read_history(text: str, source: str) -> tuple[Draw, ...]:
    """Jobs that were, of a dump made with `HISTORY_COMMAND`.

    Raises:
        Misconfigured: a line is not understood.
    """
    drawn = list[Draw]()
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.strip().split("|")
        if fields == [""]:
            continue
        if len(fields) < 3 or not (fields[0].isdigit() and fields[1].isdigit()):  # noqa: PLR2004 - nodes, time, limit
            raise Misconfigured(
                f"{source}:{number}: {line.strip()!r} is not understood; make it with: {HISTORY_COMMAND}"
            )
        limit_s = int(fields[2]) * 60.0 if fields[2].isdigit() else _NO_LIMIT_S  # sacct's limit is in minutes
        if int(fields[0]) and int(fields[1]) and limit_s:
            drawn.append(Draw(int(fields[0]), float(fields[1]), max(limit_s, float(fields[1]))))
    return tuple(drawn[:_MOST_SAMPLES])


def seconds(text: str, where: str) -> float:
    """A time as squeue prints it: ``1-02:03:04``, ``02:03:04``, ``03:04``, or one of its words for none.

    Raises:
        Misconfigured: it is none of these.
    """
    if text in {"UNLIMITED", "NOT_SET", "INVALID", "Partition_Limit"}:
        return _NO_LIMIT_S
    found = _DAYS.fullmatch(text)
    if found is None:
        raise Misconfigured(f"{where}: {text!r} is no time of squeue's; make the dump with: {JOBS_COMMAND}")
    days, hours, minutes, rest = (int(found[name] or 0) for name in ("days", "hours", "minutes", "seconds"))
    return days * 86400.0 + hours * 3600.0 + minutes * 60.0 + rest


def load_of(inventory: Inventory, jobs: Jobs) -> float:
    """The share of the serving nodes that jobs are on: what users are taken to go on asking for."""
    if not inventory.running:
        return jobs.load
    serving = len(inventory.names) - len(inventory.out)
    busy = len({name for job in inventory.running for name in job.on} - inventory.out.keys())
    return 1.0 if inventory.pending else busy / max(1, serving)


def _count(text: str, where: str) -> int:
    if not text.isdigit():
        raise Misconfigured(f"{where}: {text!r} is no number of nodes; make the dump with: {JOBS_COMMAND}")
    return max(1, int(text))
