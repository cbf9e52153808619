# SPDX-License-Identifier: Apache-2.0
"""The nodes of `make bench-scale`: thousands of agents in one process, each with a connection of its own to the broker.

An agent here is the daemon's loop, decisions, journal, spool, view of Slurm, and MQTT bus; left out are its checks,
event sources and control socket, which talk to nobody. Storage, power and processes are played, and every reboot ends
the agent, forgets its disk and starts a new one in a new boot.
"""

import asyncio
import gc
import logging
import random
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import aiomqtt
import structlog
from paho.mqtt.client import MQTT_ERR_SUCCESS
from scaleslurm import RemoteGateway
from scalewire import Wire, serve

from refloat_agent.bus import Bus
from refloat_agent.config import AgentSettings
from refloat_agent.effects.slurm import AgentSlurm
from refloat_agent.journal import Journal
from refloat_agent.loop import Loop
from refloat_agent.moves import Decision
from refloat_agent.observation import HealthFacts, Observation, ServiceFacts, StepProcess, StorageFacts
from refloat_agent.performer import Effects, Performer
from refloat_agent.recipes import Argv, Way
from refloat_agent.report import report_of
from refloat_agent.spool import Spool
from refloat_agent.state import Policy
from refloat_contract.errors import Refused
from refloat_contract.messages import Failure
from refloat_contract.words import Phase, Verdict

VERSION: Final = "0.1.0"
IMAGE: Final = "compute-2"
_FIRMWARE_S: Final = 20.0
_SHUTDOWN_S: Final = 0.3
_KEEP_ALIVE_S: Final = 7.0


@dataclass
class Ground:
    """What all nodes of this process stand on."""

    gateway: RemoteGateway
    wire: Wire
    settings: AgentSettings
    policy: Policy
    folder: Path
    boot_s: tuple[float, float]
    notes: list[tuple[float, str, str]] = field(default_factory=list)
    """What happened to which node when, by the clock that all processes of this machine share."""
    connects: list[float] = field(default_factory=list)
    lag_s: float = 0.0
    """The longest that this process kept any of its agents waiting for its turn since somebody asked."""

    async def watch_lag(self) -> None:
        """See how late this process is."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.05)
            self.lag_s = max(self.lag_s, time.monotonic() - began - 0.05)

    def note(self, node: str, what: str) -> None:
        """Remember this moment."""
        self.notes.append((time.monotonic(), node, what))


@dataclass
class Node:
    """One node and the agent of its present boot."""

    name: str
    ground: Ground
    boot: str = field(default_factory=lambda: str(uuid.uuid4()))
    booted_s: float = field(default_factory=time.monotonic)
    slurmd_started: float = field(default_factory=time.time)
    mounted: bool = True
    failing: str = ""
    checked_s: float = _FIRMWARE_S
    rebooting: asyncio.Event = field(default_factory=asyncio.Event)
    phase: Phase = Phase.IN_SERVICE
    loop: Loop | None = None
    bus: Bus | None = None
    slurm: AgentSlurm | None = None

    def boottime_s(self) -> float:
        """CLOCK_BOOTTIME."""
        return _FIRMWARE_S + time.monotonic() - self.booted_s

    def wall_ns(self) -> int:
        """The wall clock."""
        return time.time_ns()

    def look(self) -> None:
        """Wake the agent."""
        if self.loop is not None:
            self.loop.wake()

    def judge(self, failing: str) -> None:
        """A check has found something else than before."""
        self.failing, self.checked_s = failing, self.boottime_s()
        self.look()

    async def live(self) -> None:
        """Boot after boot."""
        first = True
        while True:
            await self._boot()
            await self.ground.wire.ask("silence", name=self.name)
            self.ground.note(self.name, "down")
            await asyncio.sleep(random.uniform(*self.ground.boot_s))  # noqa: S311 - time, not secrets
            if first:
                first = False
            shutil.rmtree(self._folder, ignore_errors=True)
            self.boot, self.booted_s, self.slurmd_started = str(uuid.uuid4()), time.monotonic(), time.time()
            self.mounted, self.rebooting = False, asyncio.Event()
            self.checked_s = self.boottime_s()
            await self.ground.wire.ask("register", name=self.name)
            self.ground.note(self.name, "up")

    @property
    def _folder(self) -> Path:
        return self.ground.folder / self.name

    async def _boot(self) -> None:
        ground = self.ground
        self._folder.mkdir(exist_ok=True)
        played = _Played(self)
        self.slurm = AgentSlurm(ground.gateway, self.name, self, played)
        spool = Spool(self._folder / "events.jsonl")
        self.bus = self._new_bus(self.slurm, spool)
        journal = Journal(self._folder / "journal.json", self.name)
        await spool.load()
        state = await journal.load(self.boot)
        async with asyncio.TaskGroup() as tasks:
            effects = Effects(self.slurm, _Mounts(self), _Services(), played, _Commands(), _Health(self), self.bus)
            self.loop = Loop(
                policy=replace(ground.policy, node=self.name),
                journal=journal,
                performer=Performer(effects, tasks, self.look),
                clock=self,
                processes=played,
                on_decision=self._decided,
                state=state,
            )
            works = [tasks.create_task(self.bus.run()), tasks.create_task(self.loop.run())]
            await self.rebooting.wait()
            await asyncio.sleep(_SHUTDOWN_S)
            for work in works:
                work.cancel()

    def _new_bus(self, slurm: AgentSlurm, spool: Spool) -> Bus:
        settings = self.ground.settings
        assert settings.mqtt is not None
        bus = Bus(
            settings.mqtt,
            cluster=settings.cluster,
            node=self.name,
            clock=self,
            slurm=slurm,
            spool=spool,
            wake=self.look,
        )
        tell = bus._linked

        def linked(connected: bool) -> None:  # noqa: FBT001 - the signature of Link
            if connected:
                self.ground.connects.append(time.monotonic())
            tell(connected)

        bus._link._on_state = linked
        return bus

    def _decided(self, decision: Decision, seen: Observation) -> None:
        cycle = decision.state.cycle
        phase = cycle.phase if cycle is not None else Phase.IN_SERVICE
        if phase is not self.phase:
            self.ground.note(self.name, phase)
            self.phase = phase
        assert self.bus is not None
        self.bus.report(report_of(decision, seen, self.ground.settings, VERSION, self.ground.policy.recipes))


@dataclass(frozen=True, slots=True)
class _Played:
    """Power and the process table."""

    node: Node

    def boot_id(self) -> str:
        return self.node.boot

    def image(self) -> str:
        return IMAGE

    async def reboot(self, way: Way) -> None:
        self.node.rebooting.set()

    async def steps(self) -> tuple[StepProcess, ...]:
        return ()

    def started_at(self, name: str) -> list[float]:
        return [self.node.slurmd_started]


@dataclass(frozen=True, slots=True)
class _Mounts:
    node: Node

    async def state(self) -> tuple[StorageFacts, ...]:
        up = self.node.mounted
        return (StorageFacts("scratch", up, up, "" if up else "nothing is mounted on /scratch"),)

    async def mount(self) -> None:
        await asyncio.sleep(0.2)
        self.node.mounted = True

    async def unmount(self, cycle: str, *, reboots: bool, still: Callable[[], bool]) -> None:
        await asyncio.sleep(0.2)
        self.node.mounted = False


class _Services:
    async def state(self) -> tuple[ServiceFacts, ...]:
        return ()

    async def stop(self, *, keep_going: bool) -> None:
        """None there."""

    async def start(self) -> None:
        """None there."""


class _Commands:
    async def run(self, argvs: Sequence[Argv], deadline_s: float, *, keep_going: bool) -> None:
        raise Refused("no commands here")


@dataclass(frozen=True, slots=True)
class _Health:
    node: Node

    def facts(self) -> HealthFacts:
        node = self.node
        failing = (Failure(check="played", message=node.failing),) if node.failing else ()
        verdict = Verdict.UNHEALTHY if failing else Verdict.HEALTHY
        return HealthFacts(verdict, failing, (), node.checked_s, failing)

    async def run_all(self) -> None:
        self.node.checked_s = self.node.boottime_s()


class _Executor(ThreadPoolExecutor):
    """Runs what a thread would do at once, but for connecting, which waits for the broker.

    Each of these agents would have threads of its own; thousands of them that share some threads of one process wait
    for each other, and for the interpreter's lock. Their disk is memory and never makes them wait.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if getattr(fn, "__name__", "") == "_client_connect":
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the asker is told
            future.set_exception(error)
        return future


async def _keep_alive(client: aiomqtt.Client) -> None:
    """What aiomqtt does for each client once a second, and thousands do in this one process: ping in time."""
    while client._client.loop_misc() == MQTT_ERR_SUCCESS:  # noqa: ASYNC110 - so does aiomqtt
        await asyncio.sleep(_KEEP_ALIVE_S)


class Worker:
    """Answers the benchmark's questions about its nodes."""

    def __init__(self, ground: Ground, names: Sequence[str]) -> None:
        self._ground = ground
        self._nodes = {name: Node(name, ground) for name in names}
        self._lives: set[asyncio.Task[None]] = set()

    def handle(self, request: dict[str, Any]) -> Any:
        """The answer."""
        return getattr(self, f"_{request['op']}")(request)

    def _start(self, _: dict[str, Any]) -> None:
        for name, node in self._nodes.items():
            task = asyncio.create_task(node.live(), name=name)
            task.add_done_callback(_must_live)
            self._lives.add(task)

    def _settle(self, _: dict[str, Any]) -> None:
        """Look through all these agents for garbage once, and never again: each would do that for itself alone."""
        gc.collect()
        gc.freeze()

    def _state(self, request: dict[str, Any]) -> dict[str, Any]:
        """How many are connected, fed by this epoch (or any), and in which phase."""
        epoch = request.get("epoch")
        nodes = self._nodes.values()
        return {
            "connected": sum(1 for n in nodes if n.bus is not None and n.bus.connected),
            "fed": sum(1 for n in nodes if _is_fed(n, epoch)),
            "phases": Counter(str(n.phase) for n in nodes),
        }

    def _judge(self, request: dict[str, Any]) -> float:
        at = time.monotonic()
        for name in request["names"]:
            if name in self._nodes:
                self._nodes[name].judge(request["failing"])
        return at

    def _notes(self, request: dict[str, Any]) -> list[tuple[float, str, str]]:
        return [note for note in self._ground.notes if note[0] >= request["since"]]

    def _lag(self, _: dict[str, Any]) -> float:
        lag_s, self._ground.lag_s = self._ground.lag_s, 0.0
        return lag_s

    def _connects(self, request: dict[str, Any]) -> list[float]:
        return [at for at in self._ground.connects if at >= request["since"]]


def _is_fed(node: Node, epoch: int | None) -> bool:
    slurm = node.slurm
    if slurm is None or slurm.feed_age_s() is None or slurm._fed is None:
        return False
    return epoch is None or slurm._fed.epoch >= epoch


def _must_live(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logging.error("node %s is dead: %r", task.get_name(), error, exc_info=error)  # noqa: LOG015 - to the log file


async def run(
    path: Path, slurm: Path, port: int, names: Sequence[str], folder: Path, boot_s: tuple[float, float]
) -> None:
    """Serve until killed."""
    asyncio.get_running_loop().set_default_executor(_Executor(16))
    aiomqtt.Client._misc_loop = _keep_alive  # type: ignore[assignment,method-assign]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    wire = await Wire().open(slurm)
    settings = AgentSettings.model_validate(
        {
            "mode": "act",
            "cluster": "bench",
            "node": names[0],
            "state_dir": folder,
            "socket": folder / "agent.sock",
            "mqtt": {"host": "127.0.0.1", "port": port},
            "storage": [{"name": "scratch", "path": "/scratch", "source": "mds1:/scratch", "fstype": "lustre"}],
            "check": [{"name": "played", "type": "mount", "path": "/scratch", "fstype": "lustre"}],
        }
    )
    ground = Ground(RemoteGateway(wire, "agents"), wire, settings, settings.policy(), folder, boot_s)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ground.watch_lag())
        await serve(path, Worker(ground, names).handle)
