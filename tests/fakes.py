# SPDX-License-Identifier: Apache-2.0
"""A small world behind the agent's ports: Slurm, storage, power and jobs, with every invariant watched.

Each boundary where a process could be killed calls `World.boundary`; a test names those where it shall be.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from refloat_agent import holds
from refloat_agent.observation import (
    HealthFacts,
    PermitFacts,
    ServiceFacts,
    SlurmFacts,
    StepProcess,
    StorageFacts,
)
from refloat_agent.recipes import Argv, Way
from refloat_agent.state import State, after_boot, initial
from refloat_contract.errors import Refused, Transient
from refloat_contract.held import find
from refloat_contract.messages import Event, Failure, NodeReport
from refloat_contract.words import EventKind, Purpose, Verdict
from refloat_slurm.gateway import Change, Job, NodeView


class Killed(BaseException):
    """The agent was killed at a boundary; no handler of the product may catch it."""


@dataclass
class World:
    """One node and all around it. ``violations`` lists every invariant that was broken."""

    kills: frozenset[int] = frozenset()
    stateless: bool = True
    now_s: float = 100.0
    wall_s: float = 1_800_000_000.0
    boot: int = 1
    soft: int = 0
    goes_softly: bool = False
    base: str = "IDLE"
    drain: bool = False
    extra: frozenset[str] = frozenset()
    reason: str = ""
    reason_user: str = ""
    reason_at: int = 0
    job_until_s: float = 0.0
    suspended: bool = False
    queued: bool = False
    jobs_started: int = 0
    mounted: bool = True
    service: bool = True
    registered_from_s: float = 0.0
    unlucky_resumes: int = 0
    checked_s: float | None = None
    check_fails: str = ""
    fails_after_boot: str = ""
    mount_fails: int = 0
    image: str = "compute-1"
    next_images: list[str] = field(default_factory=list)
    """What the next boots come up with; then what was there last."""
    slurm_down: bool = False
    disk_full: bool = False
    full_saves: frozenset[int] = frozenset()
    saves: int = 0
    going_down: bool = False
    deaf_to: frozenset[Way] = frozenset()
    """Ways to reboot that are accepted, and nothing happens."""
    refuses: frozenset[Way] = frozenset()
    """Ways to reboot that fail."""
    reboots: int = 0
    rebooted_for: list[str] = field(default_factory=list)
    resumes: int = 0
    commands_run: int = 0
    command_fails: dict[str, int] = field(default_factory=dict)
    """How often each program still fails."""
    coordinator: bool | None = False
    grants: bool = True
    leave: bool = False
    """The agent has been shown a grant."""
    age_s: float = 0.0
    """How old this world is; unlike ``now_s`` it goes on through reboots."""
    plan: list[tuple[float, Callable[["World"], None]]] = field(default_factory=list)
    """What happens at which age, whatever the agent does."""
    boundaries: int = 0
    trace: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    saved: State | None = None
    forgets: bool = False
    """The journal does not outlive its agent, as on a disk that was wiped."""
    events: dict[str, Event] = field(default_factory=dict)
    spooled: list[Event] = field(default_factory=list)
    asked: dict[str, None] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    reports: list[NodeReport] = field(default_factory=list)

    def slurm(self) -> "FakeSlurm":
        """The node in Slurm, as the agent is given it."""
        return FakeSlurm(self)

    @property
    def boot_id(self) -> str:
        return f"{self.boot:08x}-0000-4000-8000-000000000000" + (f".{self.soft}" if self.soft else "")

    @property
    def busy(self) -> bool:
        return self.now_s < self.job_until_s

    @property
    def flags(self) -> frozenset[str]:
        base = "MIXED" if self.busy and self.base == "IDLE" and not self.suspended else self.base
        return frozenset({base}) | ({"DRAIN"} if self.drain else set()) | self.extra

    def boundary(self, name: str) -> None:
        """A place where the agent may be killed."""
        self.boundaries += 1
        self.trace.append(f"{self.boundaries} {name}")
        if self.boundaries in self.kills:
            self.trace.append("KILLED")
            self.saved = None if self.forgets else self.saved
            raise Killed

    @contextmanager
    def act(self, name: str) -> Iterator[None]:
        """An effect: killable before and after."""
        self.boundary(f"before {name}")
        yield
        self.boundary(f"after {name}")

    def admin(self, *, drain: bool, reason: str, user: str = "root") -> None:
        """What an administrator does with scontrol."""
        self.drain, self.reason, self.reason_user, self.reason_at = drain, reason, user, int(self.wall_s)
        if not drain:
            self.base = "IDLE"

    def harmless(self, what: str) -> None:
        """Invariant 1: whatever takes something from a job needs an empty node."""
        if self.busy:
            self.violations.append(f"{what} while a job runs")
        if self.coordinator and not self.leave:
            self.violations.append(f"{what} without a permit")

    def advance(self, seconds: float) -> None:
        """Let time pass; a queued job starts on a node that Slurm holds to be in service."""
        self.now_s += seconds
        self.wall_s += seconds
        self.age_s += seconds
        while self.plan and self.plan[0][0] <= self.age_s:
            self.plan.pop(0)[1](self)
        if self.queued and self.base == "IDLE" and not self.drain and not self.extra and not self.busy:
            self.queued = False
            self.jobs_started += 1
            self.job_until_s = self.now_s + 5
            if not self.mounted:
                self.violations.append("a job started on a node without its storage")

    def power_cycle(self) -> None:
        """The machine goes down and comes up in a new boot."""
        self.harmless("power cycle")
        if self.goes_softly:
            self.soft += 1
        else:
            self.boot, self.soft = self.boot + 1, 0
        self.job_until_s = 0.0
        self.image = self.next_images.pop(0) if self.next_images else self.image
        self.check_fails = self.fails_after_boot
        self.going_down = False
        self.mounted = False
        self.service = True
        self.checked_s = None
        self.now_s = self.now_s if self.goes_softly else 20.0
        self.registered_from_s = self.now_s + 14.0
        self.wall_s += 60.0
        if not self.drain and not self.goes_softly:
            self.base, self.reason, self.reason_user = "DOWN", "Node unexpectedly rebooted", "slurm"
        if self.stateless:
            self.saved, self.spooled = None, []


@dataclass
class FakeClock:
    world: World

    def boottime_s(self) -> float:
        return self.world.now_s

    def wall_ns(self) -> int:
        return int(self.world.wall_s * 1e9)


@dataclass
class FakeSlurm:
    world: World
    seen: NodeView | None = None
    seen_s: float = 0.0

    def latest(self) -> SlurmFacts | None:
        if self.seen is None:
            return None
        return SlurmFacts(self.seen, fresh=False, age_s=self.world.now_s - self.seen_s)

    async def read(self) -> NodeView:
        if self.world.slurm_down:
            raise Transient("Unable to contact slurm controller")
        world = self.world
        self.seen = NodeView("n1", world.flags, world.reason, world.reason_user, world.reason_at)
        self.seen_s = world.now_s
        return self.seen

    async def jobs(self) -> tuple[Job, ...]:
        if self.world.slurm_down:
            raise Transient("Unable to contact slurm controller")
        return (Job("7", "alice", "SUSPENDED" if self.world.suspended else "RUNNING"),) if self.world.busy else ()

    async def is_registered(self) -> bool:
        return self.world.now_s >= self.world.registered_from_s

    async def update(self, change: Change, reason: str | None = None) -> None:
        world = self.world
        with world.act(f"slurm {change} {reason}"):
            if world.slurm_down:
                raise Transient("Socket timed out on send/recv operation")
            if change is Change.RESUME:
                self._resume()
                return
            if world.drain and not is_ours(world.reason):
                world.violations.append(f"{world.reason!r} was overwritten with {reason!r}")
            world.drain = True
            if change is Change.DOWN:
                world.harmless("DOWN")
                world.base = "DOWN"
            world.reason, world.reason_user, world.reason_at = reason or world.reason, "root", int(world.wall_s)

    def _resume(self) -> None:
        world = self.world
        if not world.drain and world.base != "DOWN":
            raise Refused("Invalid node state specified")
        if not is_ours(world.reason):
            world.violations.append(f"a foreign drain was cleared: {world.reason!r}")
        if not world.mounted:
            world.violations.append("resumed without storage")
        if world.checked_s is None or world.check_fails:
            world.violations.append("resumed without passed checks of this boot")
        if world.now_s < world.registered_from_s:
            world.violations.append("resumed before this boot had registered")
        world.drain, world.base = False, "IDLE"
        world.resumes += 1
        if world.unlucky_resumes:
            # Resumed within the second of the registration: slurmctld takes the boot for an unexpected one.
            world.unlucky_resumes -= 1
            world.base, world.reason, world.reason_user = "DOWN", "Node unexpectedly rebooted", "slurm"


def is_ours(reason: str) -> bool:
    words = (
        "reboot",
        "gpfs-restart",
        "firmware",
        "flashing",
        "soft",
        "refloat:",
        "refloat-hold:",
        "refloat-release:",
        "Node unexpectedly rebooted",
    )
    return reason.startswith(words)


@dataclass
class FakeMounts:
    world: World

    async def state(self) -> tuple[StorageFacts, ...]:
        mounted = self.world.mounted
        return (StorageFacts("scratch", mounted, mounted, "" if mounted else "nothing is mounted on /scratch"),)

    async def mount(self) -> None:
        with self.world.act("mount"):
            if self.world.mount_fails:
                self.world.mount_fails -= 1
                raise Refused("mount: no such device")
            self.world.mounted = True

    async def unmount(self, cycle: str, *, reboots: bool, still: Callable[[], bool]) -> None:
        with self.world.act("unmount"):
            self.world.harmless("unmount")
            self.world.mounted = False


@dataclass
class FakeServices:
    world: World

    async def state(self) -> tuple[ServiceFacts, ...]:
        return (ServiceFacts("site.service", self.world.service),)

    async def stop(self, *, keep_going: bool) -> None:
        with self.world.act("stop"):
            self.world.harmless("stop of a service")
            self.world.service = False

    async def start(self) -> None:
        with self.world.act("start"):
            self.world.service = True


@dataclass
class FakePower:
    world: World

    def boot_id(self) -> str:
        return self.world.boot_id

    def image(self) -> str:
        return self.world.image

    async def reboot(self, way: Way) -> None:
        with self.world.act("reboot" if way is Way.SYSTEMD else f"reboot ({way})"):
            self.world.harmless("reboot")
            if way in self.world.refuses:
                raise Refused(f"Call to Reboot failed ({way})")
            if way in self.world.deaf_to:
                return
            if self.world.mounted:
                self.world.violations.append("rebooted with storage mounted")
            if not self.world.going_down:
                self.world.reboots += 1
                # One reboot per cycle, and one for each try that the reason counts.
                cycle = re.search(r"refloat=(\S+)", self.world.reason)
                again = re.search(r" try=\d+", self.world.reason)
                if cycle is None:
                    self.world.violations.append(f"rebooted although Slurm shows {self.world.reason!r}")
                elif (this := cycle[1] + (again[0] if again else "")) in self.world.rebooted_for:
                    self.world.violations.append(f"rebooted twice for cycle {this}")
                else:
                    self.world.rebooted_for.append(this)
            self.world.going_down = True
            self.world.goes_softly = way is Way.SOFT


@dataclass
class FakeProcesses:
    world: World

    async def steps(self) -> tuple[StepProcess, ...]:
        return (StepProcess(991, "slurmstepd: [7.batch]"),) if self.world.busy else ()

    def started_at(self, name: str) -> list[float]:
        return [self.world.wall_s - self.world.now_s]


@dataclass
class FakeCommands:
    world: World

    async def run(self, argvs: Sequence[Argv], deadline_s: float, *, keep_going: bool) -> None:
        with self.world.act(" ".join(argvs[0])):
            self.world.harmless("commands")
            if not (self.world.base == "DOWN" and self.world.drain and "refloat=" in self.world.reason):
                self.world.violations.append(f"{argvs[0]} was run although Slurm shows {self.world.reason!r}")
            self.world.commands_run += 1
            if self.world.command_fails.get(argvs[0][0], 0):
                self.world.command_fails[argvs[0][0]] -= 1
                raise Refused(f"{argvs[0][0]}: exit status 1")


@dataclass
class FakeHealth:
    world: World

    def facts(self) -> HealthFacts:
        world = self.world
        if world.checked_s is None:
            return HealthFacts()
        failing = (Failure(check="labd", message=world.check_fails),) if world.check_fails else ()
        verdict = Verdict.UNHEALTHY if failing else Verdict.HEALTHY
        return HealthFacts(verdict, failing, (), world.checked_s, failing)

    async def run_all(self) -> None:
        with self.world.act("checks"):
            self.world.checked_s = self.world.now_s


@dataclass
class FakeReporter:
    world: World

    def permit(self) -> PermitFacts:
        world = self.world
        asked = next((permit for permit in reversed(world.asked) if permit not in world.released), "")
        granted, denied = (asked, "") if world.grants else ("", asked)
        world.leave = world.leave or bool(granted)
        return PermitFacts(world.coordinator, granted, denied, "budget cluster: 1 of 1 out: n2 (permit)")

    async def ask(self, permit: str, purpose: Purpose, recipe: str, wave: str, cause: str) -> None:
        with self.world.act("ask"):
            self.world.asked[permit] = None

    async def release(self, permit: str) -> None:
        with self.world.act("release"):
            self.world.released.add(permit)

    async def deliver(self, events: Sequence[Event]) -> None:
        self.world.boundary("before deliver")
        for event in events:
            self._note(event)
        self.world.boundary("after deliver")

    def _note(self, event: Event) -> None:
        known = self.world.events.get(event.id)
        if known is not None and known != event:
            self.world.violations.append(f"two different events share the id {event.id}")
        if event.kind is EventKind.HOLD and find(holds.ALL, event.message) is None:
            self.world.violations.append(f"a hold that no page explains: {event.message}")
        self.world.events[event.id] = event

    def report(self, report: NodeReport) -> None:
        self.world.reports.append(report)

    async def flush(self) -> None:
        self.world.boundary("flush")


@dataclass
class FakeJournal:
    world: World

    async def load(self, boot_id: str) -> State:
        saved = self.world.saved
        nonce = f"{self.world.boundaries:06x}"
        if saved is None:
            return initial(boot_id, nonce)
        return replace(saved, nonce=nonce) if saved.boot_id == boot_id else after_boot(saved, boot_id, nonce)

    async def save(self, state: State) -> None:
        self.world.boundary("before save")
        self.world.saves += 1
        if self.world.disk_full or self.world.saves in self.world.full_saves:
            raise Transient("/var/lib/refloat: No space left on device")
        self.world.saved = replace(state)
        self.world.boundary("after save")
