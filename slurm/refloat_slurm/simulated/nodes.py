# SPDX-License-Identifier: Apache-2.0
"""The node table of the simulated slurmctld: what it knows of each node, and the log of how that changed."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from refloat_contract.errors import UnknownNode
from refloat_slurm.gateway import NodeView, Registration
from refloat_slurm.names import plain
from refloat_slurm.simulated.agenda import Agenda
from refloat_slurm.states import is_in_service

if TYPE_CHECKING:
    from refloat_slurm.simulated.jobs import SimulatedJob

SLURM: Final = "slurm"
"""The user whom slurmctld names for what it does itself."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between sites and releases; the defaults are Slurm's own, on 24.11 without slurmdbd."""

    return_to_service: int = 1
    slurmd_timeout_s: float = 300.0
    not_responding_s: float = 100.0  # silent for so long: NOT_RESPONDING; a third of SlurmdTimeout to nearly all of it
    resume_timeout_s: float = 60.0  # for a reboot by scontrol
    answer_s: float = 0.5  # a resumed node's slurmd answers within this
    restart_s: float = 2.0  # a started slurmctld knows its nodes after this
    reboot_issue_s: float = 0.5
    epilog_s: float = 1.0
    requeue_s: float = 120.0
    keeps_stale_reasons: bool = True  # RESUME leaves the text: 23.11 to 25.11 without slurmdbd
    appends_not_responding: bool = True  # 23.02 and later
    schedule_s: float = 0.0  # the least time between two passes of the scheduler; 0: one after every change


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a node's flags or reason."""

    at: float
    node: str
    before: frozenset[str]
    after: frozenset[str]
    reason: str


@dataclass(slots=True)
class Reboot:
    """A reboot by scontrol that was asked for and, perhaps, issued."""

    next_state: str  # "", RESUME or DOWN
    own_drain: bool  # the DRAIN flag is this reboot's: it goes with it
    issued: bool = False


@dataclass(slots=True, eq=False)
class SimulatedNode:
    """One node: slurmctld's record of it, and whether its slurmd runs."""

    name: str
    cpus: int
    boot_time: int
    slurmd_start_time: int
    base: str = "IDLE"  # or DOWN; ALLOCATED and MIXED follow from the jobs
    marks: set[str] = field(default_factory=set)
    reason: str = ""
    reason_user: str = ""
    reason_at: int = 0
    forgotten: bool = False  # a RESUME forced a registration, which has not come yet
    unknown: bool = False  # slurmctld has just started
    answering: bool = True  # slurmd runs
    silences: int = 0  # counts, so that a timer of an earlier silence is known as stale
    reboot: Reboot | None = None
    jobs: "dict[int, SimulatedJob]" = field(default_factory=dict)
    seen: tuple[frozenset[str], str] = (frozenset({"IDLE"}), "")  # flags and reason, as last noted
    in_service: bool = True

    @property
    def used_cpus(self) -> int:
        """CPUs of running jobs; those of suspended and completing ones are free again."""
        return sum(job.cpus_on(self) for job in self.jobs.values() if job.state == "RUNNING")

    @property
    def flags(self) -> frozenset[str]:
        """The state as Slurm shows it."""
        used, is_completing = 0, False
        for job in self.jobs.values():
            if job.state == "RUNNING":
                used += job.cpus_on(self)
            elif job.state == "COMPLETING":
                is_completing = True
        return _flags(self._shown_base(used), frozenset(self.marks), is_completing)

    def _shown_base(self, used: int) -> str:
        if self.unknown:
            return "UNKNOWN"
        if self.base != "IDLE" or not used:
            return self.base
        return "ALLOCATED" if used >= self.cpus else "MIXED"

    @property
    def view(self) -> NodeView:
        """What a client is told."""
        registration = _registration(0 if self.forgotten or self.unknown else self.boot_time, self.slurmd_start_time)
        return NodeView(self.name, self.seen[0], self.reason, self.reason_user, self.reason_at, registration)


@lru_cache(maxsize=1024)
def _registration(boot_time: int, slurmd_start_time: int) -> Registration:
    return Registration(boot_time, slurmd_start_time)


@lru_cache(maxsize=1024)
def _flags(base: str, marks: frozenset[str], is_completing: bool) -> frozenset[str]:  # noqa: FBT001 - by position, for the cache
    return marks | {base, *(["COMPLETING"] if is_completing else [])}


@lru_cache(maxsize=1024)
def _takes_jobs(flags: frozenset[str]) -> bool:
    # A reboot without ASAP lets new jobs start until the node happens to be idle.
    return is_in_service(flags - {"REBOOT_REQUESTED"})


class NodeTable:
    """All nodes, the log of their changes, and how many of them were out of service at once."""

    def __init__(self, names: Iterable[str], cpus: int, agenda: Agenda, rules: Rules, log_limit: int) -> None:
        self.agenda = agenda
        self.rules = rules
        booted = int(agenda.now)
        self.nodes = {name: SimulatedNode(plain(name), cpus, booted, booted) for name in names}
        self.log: deque[Transition] = deque(maxlen=log_limit)
        self.out = 0
        self.max_out = 0
        self.free = dict(self.nodes)  # where jobs could start
        self.changed = True  # since the scheduler looked
        self.stirred: dict[str, None] = {}  # nodes that changed since `SimulatedSlurmctld.take_stirred`

    def find(self, name: str) -> SimulatedNode:
        """The node of this name, or UnknownNode."""
        node = self.nodes.get(name)
        if node is None:
            raise UnknownNode(f"Invalid node name specified: {name}")
        return node

    def note(self, node: SimulatedNode) -> None:
        """Log what has changed of the node and count it in or out. To be called after every change."""
        self.changed = True
        before, flags = node.seen, node.flags
        self._list_free(node, flags)
        if flags == before[0] and node.reason == before[1]:
            return
        now = node.seen = (flags, node.reason)
        self.stirred[node.name] = None
        if self.log.maxlen:
            self.log.append(Transition(self.agenda.now, node.name, before[0], *now))
        # A slurmctld that has just started knows nothing of a node; that does not take it out of service.
        if not node.unknown and is_in_service(now[0]) != node.in_service:
            node.in_service = not node.in_service
            self.out += -1 if node.in_service else 1
            self.max_out = max(self.max_out, self.out)

    def _list_free(self, node: SimulatedNode, flags: frozenset[str]) -> None:
        if _takes_jobs(flags) and ("IDLE" in flags or node.used_cpus < node.cpus):
            self.free[node.name] = node
        else:
            self.free.pop(node.name, None)

    def set_reason(self, node: SimulatedNode, reason: str, user: str) -> None:
        """Set text, user and time."""
        node.reason, node.reason_user, node.reason_at = reason, user, int(self.agenda.now)

    def append_reason(self, node: SimulatedNode, text: str) -> None:
        """Say something more, as slurmctld does to a reason that is there already."""
        self.set_reason(node, f"{node.reason} : {text}" if node.reason else text, SLURM)

    def clear_reason(self, node: SimulatedNode) -> None:
        """Take the reason away, unless this release would leave it."""
        if not self.rules.keeps_stale_reasons:
            node.reason, node.reason_user, node.reason_at = "", "", 0
