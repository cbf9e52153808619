# SPDX-License-Identifier: Apache-2.0
"""The composition root: settings become adapters, adapters a loop, and one TaskGroup runs it all."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import structlog

from refloat_agent import boot_gate
from refloat_agent.checklist import Checklist
from refloat_agent.config import AgentSettings
from refloat_agent.desk import ACTING, Desk
from refloat_agent.effects import versions
from refloat_agent.effects.clock import SystemClock
from refloat_agent.effects.gatekeeper import Gatekeeper
from refloat_agent.effects.health import NodeHealth
from refloat_agent.effects.idle import IdleLooks, Idleness, Leave
from refloat_agent.effects.mounts import NodeMounts
from refloat_agent.effects.power import MachinePower
from refloat_agent.effects.processes import ProcProcesses
from refloat_agent.effects.recipes import RecipeCommands
from refloat_agent.effects.services import SystemdServices
from refloat_agent.effects.slurm import AgentSlurm
from refloat_agent.effects.standing import StandingFile
from refloat_agent.effects.storage.holders import HolderSearch
from refloat_agent.events.watch import Watch
from refloat_agent.journal import Journal
from refloat_agent.loop import DEFAULT_PACE, Loop, Pace
from refloat_agent.moves import Decision
from refloat_agent.no_bus import NoBus
from refloat_agent.observation import Observation
from refloat_agent.performer import Effects, Performer
from refloat_agent.ports import Clock, Commands, Mounts, Power, Processes, Services
from refloat_agent.report import VERSION, report_of
from refloat_agent.spool import Spool
from refloat_agent.usage import Usage
from refloat_checks import facts, proc
from refloat_checks.probes import ProbePool
from refloat_checks.runner import Runner
from refloat_checks.silent_servers import SilentServers
from refloat_checks.wakes import KernelLog, Wake
from refloat_contract.errors import Misconfigured, RefloatError, Transient
from refloat_contract.messages import Runs
from refloat_contract.reasons import short_boot
from refloat_contract.words import Phase, Verdict
from refloat_service import lean
from refloat_service.alone import alone
from refloat_service.control import ControlServer
from refloat_service.notify import Notifier, SilentNotifier
from refloat_slurm.gateway import SlurmGateway

if TYPE_CHECKING:
    from refloat_agent.bus import Bus  # what it needs is loaded where there is a broker

log = structlog.get_logger(__name__)
_STUCK_S: Final = 120.0
"""A loop that has not gone round for so long no longer makes progress: the watchdog may restart us."""


_TURN_S: Final = 1.0
_POWER_DEADLINE_S: Final = 60.0
"""A command that only asks for a reboot and does not come back must not keep the next rung of the ladder waiting."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The node beneath the agent: real by `real_machine`, simulated in the demo."""

    clock: Clock
    mounts: Mounts
    services: Services
    power: Power
    processes: Processes
    commands: Commands
    roots: proc.Roots = field(default_factory=proc.Roots)
    probes: ProbePool = field(default_factory=ProbePool)


def real_machine(settings: AgentSettings) -> Machine:
    """The adapters for this very machine."""
    roots = proc.Roots()
    processes = ProcProcesses(roots.proc)
    probes = ProbePool(servers=SilentServers(lambda: proc.read_mounts(roots)))
    return Machine(
        clock=SystemClock(),
        mounts=NodeMounts(settings.storage, roots, probes, HolderSearch(roots)),
        services=SystemdServices(settings.services, settings.command_deadline_s),
        power=MachinePower(settings.reboot_command, min(settings.command_deadline_s, _POWER_DEADLINE_S), roots),
        processes=processes,
        probes=probes,
        commands=RecipeCommands(),
    )


class Agent:
    """One node's agent. ``run`` goes on until cancelled."""

    def __init__(
        self,
        settings: AgentSettings,
        gateway: SlurmGateway,
        *,
        machine: Machine | None = None,
        notifier: Notifier | None = None,
        pace: Pace = DEFAULT_PACE,
        read_settings: Callable[[], AgentSettings] | None = None,
    ) -> None:
        self.settings = settings
        self.gateway = gateway
        self.notifier = notifier or SilentNotifier()
        self.machine = machine or real_machine(settings)
        self.probes = self.machine.probes
        self.slurm = AgentSlurm(gateway, settings.node, self.machine.clock, self.machine.processes)
        source = facts.source(self.machine.roots, self.probes)
        self.checklist = Checklist(settings, self.machine.clock, source, read_settings)
        self.health = NodeHealth(self.checklist.runner, self.machine.clock, self._wake)
        self.watch = Watch(self.health.look_now, roots=self.machine.roots)
        self.watch.aim(self._wakes())
        self.spool = Spool(settings.state_dir / "events.jsonl")
        self.bus = self._bus()
        self.health.idle = self._idle()
        self.gatekeeper = Gatekeeper(self.machine.clock)
        self.loop: Loop | None = None
        self.decision: Decision | None = None
        self.seen: Observation | None = None
        self.policy = settings.policy()
        self.barred = ""
        """Why this agent does not act, though it may: another program is at work on the node."""
        self.runs: Runs | None = None
        self._pace = pace
        self._usage = Usage(self.machine.clock.boottime_s)
        self._ready = False

    def _idle(self) -> IdleLooks:
        idleness = Idleness(self.slurm, self.machine.processes, self._phase)
        leave = Leave(self.bus, self.settings.without_coordinator == "proceed")
        return IdleLooks(idleness, leave, self.health.look_idle)

    def _phase(self) -> Phase:
        cycle = self.loop.state.cycle if self.loop is not None else None
        return cycle.phase if cycle is not None else Phase.IN_SERVICE

    def _wakes(self) -> dict[str, tuple[Wake, ...]]:
        """What wakes which check; the kernel's word on servers wakes none, and is read on all the same."""
        servers = self.probes.servers
        if servers is None:
            return self.checklist.wakes()
        return {**self.checklist.wakes(), "": (KernelLog(str(servers.log.path), servers.log),)}

    def _swap(self, runner: Runner) -> None:
        self.policy = replace(self.policy, remedies=self.checklist.settings.remedies())
        if self.loop is not None:
            self.loop.policy = self.policy
        self.health.swap(runner)
        self.watch.aim(self._wakes())

    def _bus(self) -> "Bus | NoBus":
        settings = self.settings
        if settings.mqtt is None:
            return NoBus()
        from refloat_agent.bus import Bus  # noqa: PLC0415 - it loads an MQTT client, 4 MB

        return Bus(
            settings.mqtt,
            cluster=settings.cluster,
            node=settings.node,
            clock=self.machine.clock,
            slurm=self.slurm,
            spool=self.spool,
            wake=self._wake,
        )

    def _wake(self) -> None:
        if self.loop is not None:
            self.loop.wake()

    async def run(self) -> None:
        """Run until cancelled.

        Raises:
            Misconfigured: the control socket or a credential file cannot be used.
        """
        try:
            # Before anything else: two agents would act on one node.
            async with contextlib.AsyncExitStack() as stack:
                await asyncio.to_thread(stack.enter_context, alone(self.settings.socket.with_suffix(".lock")))
                async with asyncio.TaskGroup() as tasks:
                    if self.settings.mode == "act" and not await self._has_turn(stack):
                        tasks.create_task(self._await_turn(stack), name="turn")
                    await self._start(tasks)
        finally:
            self.notifier.stopping("stopping")
            await self.probes.aclose()
            await self.gateway.aclose()

    async def _has_turn(self, stack: contextlib.AsyncExitStack) -> bool:
        """Whether this agent may act: what it shares with scripts that service nodes, and who holds it works alone."""
        try:
            await asyncio.to_thread(stack.enter_context, alone(self.settings.socket.with_suffix(".acting")))
        except Misconfigured as error:
            self.barred = str(error)
        else:
            self.barred = ""
        self.policy = replace(self.policy, acts=not self.barred)
        return not self.barred

    async def _await_turn(self, stack: contextlib.AsyncExitStack) -> None:
        log.warning("not_acting", why=self.barred)
        while not await self._has_turn(stack):  # noqa: ASYNC110 - who holds it is no part of this program
            await asyncio.sleep(_TURN_S)
        log.info("acting")
        if self.loop is not None:
            self.loop.policy = self.policy
            self.loop.wake()

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        # Asks systemd, once.
        boot_id = await asyncio.to_thread(self.machine.power.boot_id)
        journal = Journal(self.settings.state_dir / "journal.json", self.settings.node)
        await self._make_state_dir()
        await self.spool.load()
        state = await journal.load(boot_id)
        self.health.standing = StandingFile(self.settings.state_dir / "standing.json", boot_id)
        await self.health.load()
        if journal.is_new(state) and self.settings.mount_at_boot and self.settings.mode == "act":
            state = replace(state, restore=True)
        self.loop = Loop(
            policy=self.policy,
            journal=journal,
            performer=Performer(self._effects(), tasks, self._wake),
            clock=self.machine.clock,
            processes=self.machine.processes,
            on_decision=self._decided,
            state=state,
            pace=self._pace,
            gate=self.gatekeeper.facts,
        )
        log.info(
            "agent_started",
            version=VERSION,
            node=self.settings.node,
            mode=self.settings.mode,
            slurm=self.gateway.backend,
            boot=short_boot(boot_id),
            checks=len(self.health.runner.specs),
        )
        desk = Desk(self)
        server = ControlServer(self.settings.socket, desk.handlers(), mode=0o600, acting=ACTING)
        tasks.create_task(server.serve(), name="control socket")
        tasks.create_task(self.bus.run(), name="bus")
        tasks.create_task(self.health.run(), name="checks")
        tasks.create_task(self.checklist.run(self._swap), name="checklist")
        tasks.create_task(self.watch.run(), name="events")
        tasks.create_task(self._read_versions(), name="versions")
        tasks.create_task(self.loop.run(), name="loop")
        if self.notifier.watchdog_interval_s is not None:
            tasks.create_task(self._watchdog(self.notifier.watchdog_interval_s), name="watchdog")

    async def _make_state_dir(self) -> None:
        try:
            await asyncio.to_thread(self.settings.state_dir.mkdir, parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            # Read-only or full: health still drains, and the loop says that no cycle can start.
            log.error("state_dir_unusable", path=str(self.settings.state_dir), error=error.strerror)  # noqa: TRY400

    def _effects(self) -> Effects:
        machine = self.machine
        return Effects(
            slurm=self.slurm,
            mounts=machine.mounts,
            services=machine.services,
            power=machine.power,
            commands=machine.commands,
            health=self.health,
            reporter=self.bus,
        )

    def _decided(self, decision: Decision, seen: Observation) -> None:
        if self.barred:
            decision = replace(decision, why=f"{decision.why or 'observing only'} ({self.barred})")
        self.decision, self.seen = decision, seen
        self._usage.note()
        report = report_of(decision, seen, self.settings, VERSION, self.policy.recipes).model_copy(
            update={"runs": self.runs}
        )
        self.bus.report(report)
        line = f"{report.phase}: {report.why}" if report.why else f"{report.phase}, {report.verdict}"
        if not self._ready and self.health.is_known:
            self._ready = True
            lean.give_back()
            self.notifier.ready(line)
        else:
            self.notifier.status(line)

    async def _read_versions(self) -> None:
        """What the node runs: read at the start, and now and then, for packages change while it runs."""
        wanted = self.settings.versions
        while True:
            found = await versions.read(self.machine.roots, self.machine.power.image(), wanted.packages, wanted.modules)
            if found != self.runs:
                log.info("runs", **found.model_dump(exclude={"cmdline", "versions"}), **found.versions)
                self.runs = found
                self._wake()
            await asyncio.sleep(wanted.interval_s)

    async def _watchdog(self, interval_s: float) -> None:
        """Tell the service manager that we live, but only while the loop goes round."""
        ticks, since_s = -1, self.machine.clock.boottime_s()
        while True:
            now_s = self.machine.clock.boottime_s()
            loop = self.loop
            if loop is not None and loop.ticks != ticks:
                ticks, since_s = loop.ticks, now_s
            if now_s - since_s < _STUCK_S + self.settings.slurm.poll_s:
                self.notifier.watchdog()
            await asyncio.sleep(interval_s)

    def usage(self) -> dict[str, float | int]:
        """What the agent itself costs."""
        return self._usage.as_dict()

    async def may_slurmd_start(self, waited_s: float) -> boot_gate.Answer:
        """Answer the boot gate, which has waited so long; see that what it waits for is looked at."""
        settings, seen = self.settings, self.seen
        try:
            storage = await self.machine.mounts.state()
        except RefloatError as error:
            log.warning("not_told", asked="storage", error=str(error))
            storage = None
        self.health.look_for_gate()
        answer = boot_gate.answer(
            boot_gate.lacks(storage, self.health.facts().boot_waits),
            waited_s,
            boot_gate.Rules(settings.gate_deadline_s, acts=settings.mode == "act", drains=settings.health.drain),
            seen.slurm.view if seen is not None and seen.slurm is not None else None,
            drainable=bool(boot_gate.not_mounted(storage)) or self.health.facts().verdict is Verdict.UNHEALTHY,
            trouble=(seen.slurm_error or self.decision.why) if seen is not None and self.decision is not None else "",
        )
        self.gatekeeper.told(answer)
        if answer.overdue:
            self._wake()
        return answer

    async def check_now(self) -> None:
        """Run every check at once.

        Raises:
            Transient: they did not end in time.
        """
        try:
            async with asyncio.timeout(60.0):
                await self.health.run_all()
        except TimeoutError as error:
            raise Transient("the checks did not end within 60 s") from error
