# SPDX-License-Identifier: Apache-2.0
"""One simulated node: the agent's real decisions over a machine that boots, mounts and fails as it is told."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from refloat_agent import in_service, machine
from refloat_agent.actions import (
    Action,
    AskPermit,
    DrainForHealth,
    Mount,
    Reboot,
    ReleasePermit,
    Resume,
    RunChecks,
    TakeDown,
    Unmount,
    WriteReason,
)
from refloat_agent.config import AgentSettings
from refloat_agent.moves import Decision
from refloat_agent.observation import (
    ActionOutcome,
    HealthFacts,
    Observation,
    PermitFacts,
    SlurmFacts,
    StepProcess,
    StorageFacts,
)
from refloat_agent.report import report_of
from refloat_agent.state import Cycle, Policy, State, initial, move
from refloat_contract.errors import RefloatError
from refloat_contract.messages import Event, Failure, NodeStatus, Order, Request
from refloat_contract.words import OrderKind, Phase, Purpose, RequestKind, Verdict
from refloat_slurm import states
from refloat_slurm.gateway import Change, NodeView
from refloat_slurm.simulated import SimulatedSlurmctld

Content = NodeStatus | Event | Request

_FIRMWARE_S: Final = 20.0
_ANSWER_S: Final = 0.05  # slurmctld, the broker and back
_WORKING_S: Final = 1.0  # as `refloat_agent.loop.Pace`
_ASK_AGAIN_S: Final = 5.0
_AGED_S: Final = 86400.0  # how long nodes have been up when it begins
_CHECK: Final = "simulated"
_STORAGE: Final = {is_there: (StorageFacts("storage", mounted=is_there, right=is_there),) for is_there in (True, False)}
_UNASKED: Final = PermitFacts(coordinator=True)


class Surroundings(Protocol):
    """What a node reaches: the clock, Slurm, the broker."""

    slurmctld: SimulatedSlurmctld
    reads: int
    writes: int
    reboots: int

    @property
    def now(self) -> float:
        """Seconds since 1970, in virtual time."""
        ...

    def new_boot_id(self) -> str:
        """An id that no boot had yet."""
        ...

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something so many seconds from now."""
        ...

    def tell(self, content: Content) -> None:
        """Send a message to the coordinator."""
        ...

    def noted(self, node: "SimulatedNode") -> None:
        """What the node is at has changed."""
        ...


@dataclass(frozen=True, slots=True)
class Fate:
    """How one node's reboots go. Times are seconds."""

    shutdown_s: float
    boot_s: float
    unmount_s: float
    mount_s: float
    check_s: float
    returns: bool = True
    passes: bool = True


@dataclass(frozen=True, slots=True)
class Site:
    """What all nodes share: configuration, and the image that a reboot comes up with."""

    settings: AgentSettings
    policy: Policy
    image: str


@dataclass(slots=True)
class _Asked:
    permit: str
    request: str
    at: float
    again_at: float
    granted: bool = False
    why: str = ""
    rests: bool = False


@dataclass(slots=True, eq=False)
class SimulatedNode:
    """A node with its agent. `look` is one round of the agent's loop, made whenever there may be something new."""

    name: str
    site: Site
    fate: Fate
    world: Surroundings
    view: NodeView | None = None
    """Slurm's view, as the feed last told it."""
    boot: str = ""
    booted_at: float = 0.0
    state: State = field(init=False)
    policy: Policy = field(init=False)
    image: str = ""
    up: bool = True
    gone: bool = False
    mounted: bool = True
    healthy: bool = True
    health: HealthFacts = field(init=False)
    _asked: _Asked | None = None
    _requests: int = 0
    _busy: dict[type[Action], Action] = field(default_factory=dict)
    _outcomes: list[ActionOutcome] = field(default_factory=list)
    _said: tuple[object, ...] = ()
    _next_at: float = float("inf")
    going_down: bool = False

    def __post_init__(self) -> None:
        """Up for long, in service, and not in a cycle."""
        self.boot = self.world.new_boot_id()
        self.booted_at = self.world.now - _AGED_S
        self.state = initial(self.boot, "0")
        self.policy = replace(self.site.policy, node=self.name)
        self._check()

    @property
    def cycle(self) -> Cycle | None:
        """The cycle that the node is in."""
        return self.state.cycle

    @property
    def _now_s(self) -> float:
        return _FIRMWARE_S + self.world.now - self.booted_at

    # What comes in

    def shown(self, view: NodeView) -> None:
        """The feed tells how Slurm shows the node now."""
        self.view = view
        cycle = self.state.cycle
        if cycle is None:
            matters = "DRAIN" in view.flags or self.state.health_drained
        else:
            matters = cycle.phase is not Phase.DRAINING or "DRAIN" not in view.flags or states.is_drained(view)
        if matters:
            self.look()

    def ordered(self, order: Order) -> None:
        """The coordinator answers, or says that there is something to look at."""
        asked = self._asked
        if order.kind is OrderKind.POKE:
            if asked is not None and asked.why:
                asked.again_at, asked.rests = self.world.now, False
            self.view = self._read() if self.up else self.view
            self.look()
            return
        if asked is None or order.request != asked.request:
            return
        if order.kind is OrderKind.GRANT:
            asked.granted, asked.why = True, ""
        elif order.kind is OrderKind.DENY:
            asked.granted, asked.why, asked.rests = False, order.why, True
            asked.again_at = self.world.now + max(_ASK_AGAIN_S, order.retry_after_s)
        self.look()

    def look(self) -> None:
        """Observe, decide, act; again while the state moves."""
        while self.up and self._look():
            pass

    def announce(self) -> None:
        """Tell the coordinator that the agent is there."""
        self._report(Decision(self.state), self._observe(None))

    # One round

    def _look(self) -> bool:
        before = self.state.cycle
        seen = self._observe(before)
        decide = machine.decide if before is not None else in_service.decide
        decision = decide(self.state, seen, self.policy)
        move(before, decision.state.cycle)
        for event in decision.state.outbox:
            self.world.tell(event)
        self.state = replace(decision.state, outbox=()) if decision.state.outbox else decision.state
        self._report(decision, seen)
        for action in decision.actions:
            self._perform(action)
        if self.state.cycle != before:
            return True
        self._look_again(decision)
        return False

    def _observe(self, cycle: Cycle | None) -> Observation:
        hint = SlurmFacts(self.view, fresh=False, from_feed=True) if self.view is not None else None
        health, permit = self.health, self._permit()
        if cycle is not None:
            wanted = machine.wants(self.state, hint, self.policy, permit)
        else:
            wanted = in_service.wants(self.state, hint, health, self.policy, permit=permit)
        slurm = hint
        if wanted.slurm:
            self.view = self._read()
            slurm = SlurmFacts(self.view, fresh=True)
        running = self.world.slurmctld.jobs_on(self.name) if wanted.jobs or wanted.steps else ()
        self.world.reads += wanted.jobs
        steps = tuple(StepProcess(1000 + int(job.id), f"slurmstepd: [{job.id}.batch]") for job in running)
        outcomes, self._outcomes = tuple(self._outcomes), []
        for outcome in outcomes:
            self._busy.pop(type(outcome.action), None)
        return Observation(
            now_s=self._now_s,
            wall_ns=int(self.world.now * 1e9),
            boot_id=self.boot,
            slurm=slurm,
            jobs=running if wanted.jobs else None,
            steps=steps if wanted.steps else None,
            storage=_STORAGE[self.mounted] if wanted.storage else None,
            services=() if wanted.services else None,
            registered=self._is_registered() if wanted.registered else None,
            health=health,
            permit=permit,
            outcomes=outcomes,
            busy=frozenset({"storage"} if Unmount in self._busy or Mount in self._busy else ()),
            image=self.image,
        )

    def _read(self) -> NodeView:
        self.world.reads += 1
        return self.world.slurmctld.view(self.name)

    def _is_registered(self) -> bool:
        view = self.world.slurmctld.view(self.name)  # as the feed tells
        return view.registration is not None and view.registration.boot_time >= int(self.booted_at)

    def _permit(self) -> PermitFacts:
        asked = self._asked
        if asked is None:
            return _UNASKED
        return PermitFacts(
            coordinator=True,
            granted=asked.permit if asked.granted else "",
            denied=asked.permit if asked.why else "",
            denied_why=asked.why,
            rests=asked.rests and self.world.now < asked.again_at,
            again_s=self._now_s + asked.again_at - self.world.now,
        )

    def _report(self, decision: Decision, seen: Observation) -> None:
        """Tell the coordinator, unless nothing that it acts on has changed."""
        cycle, last = self.state.cycle, self.state.last
        said = (cycle and (cycle.id, cycle.phase, cycle.hold), last, self.boot, self.healthy)
        if said == self._said:
            return
        self._said = said
        settings = self.site.settings
        left = Decision(self.state, decision.actions, decision.why)
        report = report_of(left, seen, settings, "", self.policy.recipes)
        self.world.tell(NodeStatus(node=self.name, online=True, report=report))
        self.world.noted(self)

    def _look_again(self, decision: Decision) -> None:
        """Look when something may be due that nothing else tells of."""
        now_s, cycle = self._now_s, self.state.cycle
        times = [decision.again_s] if decision.again_s is not None else []
        if cycle is not None and not (cycle.phase is Phase.HELD and cycle.hold_shown):
            deadline_s = self.policy.deadlines_s.get(cycle.phase, 0.0)
            if deadline_s:
                times.append(cycle.entered_s + deadline_s + _WORKING_S)
            if cycle.retry_s:
                times.append(cycle.retry_s)
            if self._asked is not None and self._asked.why:
                times.append(now_s + self._asked.again_at - self.world.now)
            if cycle.phase in {Phase.RESUMING, Phase.HELD}:
                times.append(now_s + _WORKING_S)
        elif self.state.health_drained:
            times.append(now_s + self.policy.health_update_s)
        due = [at for at in times if at > now_s]
        if due:
            self._look_in(min(due) - now_s)

    def _look_in(self, seconds: float) -> None:
        at = self.world.now + seconds
        if at >= self._next_at:
            return
        self._next_at = at
        self.world.later(seconds, lambda: self._woken(at))

    def _woken(self, at: float) -> None:
        if self._next_at == at:
            self._next_at = float("inf")
            self.look()

    # What it does

    def _perform(self, action: Action) -> None:
        match action:
            case AskPermit():
                self._ask(action)
            case ReleasePermit(permit):
                self._release(permit)
            case TakeDown(reason):
                self._update(action, Change.DOWN, reason)
            case WriteReason(reason) | DrainForHealth(reason):
                self._update(action, Change.DRAIN, reason)
            case Resume():
                self._update(action, Change.RESUME)
            case Reboot():
                self._reboot()
            case _:
                self._work(action)

    def _work(self, action: Action) -> None:
        """Do what takes its time on the machine, unless it is under way."""
        if type(action) in self._busy:
            return
        self._busy[type(action)] = action
        seconds, effect = self._machinery(action)
        boot = self.boot

        def end() -> None:
            if self.boot == boot and self.up:
                effect()
                self._outcomes.append(ActionOutcome(action))
                self.look()

        self.world.later(seconds, end)

    def _machinery(self, action: Action) -> tuple[float, Callable[[], None]]:
        fate = self.fate
        if isinstance(action, Unmount):
            return fate.unmount_s, self._unmount
        if isinstance(action, Mount):
            return fate.mount_s, self._mount
        # Services and commands of a simulated machine do what they should.
        return fate.check_s, self._check if isinstance(action, RunChecks) else _nothing

    def _unmount(self) -> None:
        self.mounted = False

    def _mount(self) -> None:
        self.mounted = True

    def _check(self) -> None:
        self.health = _found(self.healthy, self._now_s)

    def _update(self, action: Action, change: Change, reason: str | None = None) -> None:
        self.world.writes += 1
        error = ""
        try:
            self.world.slurmctld.update(self.name, change, reason)
        except RefloatError as failure:
            error = str(failure)
        self._outcomes.append(ActionOutcome(action, error))
        self._look_in(_ANSWER_S)

    def _ask(self, ask: AskPermit) -> None:
        now, asked = self.world.now, self._asked
        if asked is not None and asked.permit == ask.permit and (asked.granted or now < asked.again_at):
            return
        why = asked.why if asked is not None and asked.permit == ask.permit else ""
        self._asked = _Asked(ask.permit, self._next_request(), now, now + _ASK_AGAIN_S, why=why)
        self._request(self._asked.request, RequestKind.PERMIT, ask.permit, ask.purpose, ask)

    def _release(self, permit: str) -> None:
        if self._asked is not None and self._asked.permit == permit:
            self._asked = None
        self._request(self._next_request(), RequestKind.RELEASE, permit, Purpose.CYCLE)

    def _request(
        self, name: str, kind: RequestKind, permit: str, purpose: Purpose, ask: AskPermit | None = None
    ) -> None:
        self.world.tell(
            Request(
                id=name,
                node=self.name,
                kind=kind,
                purpose=purpose,
                cycle=permit,
                recipe=ask.recipe if ask else "",
                wave=ask.wave if ask else "",
                cause=ask.cause if ask else "",
            )
        )

    def _next_request(self) -> str:
        self._requests += 1
        return f"{self.name}-{self._requests}"

    # The machine

    def _reboot(self) -> None:
        if not self.going_down:
            self.going_down = True
            self.world.later(self.fate.shutdown_s, self._go_down)

    def _go_down(self) -> None:
        self.up = False
        self.world.reboots += 1
        self.world.slurmctld.node_down(self.name)
        self.world.tell(NodeStatus(node=self.name, online=False))
        if self.fate.returns:
            self.world.later(self.fate.boot_s, self._come_up)
        else:
            self.gone = True
        self.world.noted(self)

    def _come_up(self) -> None:
        """A new boot: nothing remembered, nothing mounted. The gate lets slurmd start once storage is mounted."""
        world = self.world
        self.up, self.going_down = True, False
        self.boot, self.booted_at = world.new_boot_id(), world.now - _FIRMWARE_S
        self.state = initial(self.boot, "0", last=self.state.last)
        self.image = self.site.image or self.image
        self.mounted, self.healthy = False, self.fate.passes
        self._asked, self._next_at, self._said = None, float("inf"), ()
        self._busy, self._outcomes = {}, []
        self.health = _found(self.healthy, 0.0)
        self.view = self._read()
        booted_at = self.booted_at
        world.later(self.fate.mount_s, lambda: world.slurmctld.register(self.name, booted_at))
        self.look()


def _found(healthy: bool, at_s: float) -> HealthFacts:  # noqa: FBT001 - what is meant is plain
    """What the checks find."""
    if healthy:
        return HealthFacts(Verdict.HEALTHY, oldest_s=at_s)
    failure = (Failure(check=_CHECK, message="a check fails after the boot"),)
    return HealthFacts(Verdict.UNHEALTHY, failing=failure, oldest_s=at_s, raw_failing=failure)


def _nothing() -> None:
    """Nothing that the agent could see."""
