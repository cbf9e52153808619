# SPDX-License-Identifier: Apache-2.0
"""What 1,500 and 10,000 nodes cost: thousands of agents, a real mosquitto and a real coordinator; Slurm is simulated.

Run by `make bench-scale`. Every process is a real one on this machine: mosquitto, the coordinator, a simulated
slurmctld that counts what it is asked, and the agents, some thousands to a process, each with its own connection. So
the agents' own CPU time, which a cluster spreads over its nodes, is spent on this machine as well, and slows all.

For each size: the agents connect all at once; they idle; an administrator drains nodes by hand at random moments; a
wave goes over all nodes; the broker is killed and started again; so is the coordinator. At 1,500 nodes also: a part of
all nodes fails a check at the same moment. Figures go to build/bench/scale.json.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import psutil
import scalecoordinator
import scalenode
import scalereport
import scaleslurm
from scalewire import Wire

from refloat_contract.errors import RefloatError
from refloat_service import control

OUT: Final = Path("build/bench/scale.json")
INSTALL: Final = "mosquitto is not installed: apt-get install mosquitto (or dnf install mosquitto)"
SIZES: Final = (1500, 10_000)
FAULT_SIZE: Final = 1500
FAULTS: Final = (150, 375, 750)

BROKER: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
# The coordinator hears all nodes at once; the defaults (20 and 1000) slow it down, and drop what does not fit.
max_inflight_messages 0
max_queued_messages 100000
"""
PERIOD_S: Final = 1.0
PER_WORKER: Final = 5000
BOOT_S: Final = (3.0, 8.0)
MEMORY: Final = Path("/dev/shm")
MIB: Final = 1 << 20


@dataclass
class Scene:
    """Everything that runs, for one number of nodes."""

    names: list[str]
    folder: Path
    port: int
    slurm: Wire
    workers: list[Wire]
    programs: dict[str, psutil.Process]
    start: Callable[[str], Awaitable[None]]
    coordinator: dict[str, Any]
    """Its settings, for when it is started again."""
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def socket(self) -> Path:
        """Where the coordinator listens."""
        return self.folder / "coordinator.sock"

    async def all(self, op: str, **facts: Any) -> list[Any]:
        """Ask all workers."""
        return list(await asyncio.gather(*(worker.ask(op, **facts) for worker in self.workers)))

    async def count(self, epoch: int | None = None) -> Counter[str]:
        """How many agents are connected and fed, and in which phase."""
        total: Counter[str] = Counter()
        for state in await self.all("state", epoch=epoch):
            total.update({"connected": state["connected"], "fed": state["fed"], **state["phases"]})
        return total

    async def online(self) -> int:
        """How many agents the coordinator holds to be online, in service, and shown so by Slurm."""
        try:
            nodes = await control.call(self.socket, "status", deadline_s=60.0)
        except RefloatError:
            return 0
        return sum(1 for n in nodes if n["online"] and n["slurm"] and n["report"])


async def until(true: Callable[[], Awaitable[bool]], patience_s: float, what: str) -> None:
    """Wait for something."""
    deadline = time.monotonic() + patience_s
    while not await true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {patience_s:g} s")
        await asyncio.sleep(0.25)


class Meter:
    """CPU time and memory of the programs between two moments."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._began = time.monotonic()
        self._cpu = {name: _cpu_s(program) for name, program in scene.programs.items()}

    def read(self) -> dict[str, float]:
        """Percent of one core, MiB."""
        seconds = time.monotonic() - self._began
        figures: dict[str, float] = {"seconds": round(seconds, 1)}
        for name, program in self._scene.programs.items():
            figures[f"{name}_cpu_percent"] = round(100 * (_cpu_s(program) - self._cpu[name]) / seconds, 1)
            figures[f"{name}_rss_mb"] = round(program.memory_info().rss / MIB, 1)
        return figures

    async def rpcs(self) -> dict[str, float]:
        """Calls a second that slurmctld answered, by who asked what."""
        until_s = time.monotonic()
        counts = await self._scene.slurm.ask("counts", since=self._began, until=until_s)
        return {kind: round(sum(each) / max(1, len(each)), 2) for kind, each in counts.items() if any(each)}


def _cpu_s(program: psutil.Process) -> float:
    times = program.cpu_times()
    return float(times.user + times.system)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and tails."""
    if len(values) < 2:
        return {"count": len(values)}
    cuts = quantiles(values, n=100, method="inclusive")
    return {
        "count": len(values),
        "p50_s": round(cuts[49], 3),
        "p90_s": round(cuts[89], 3),
        "p99_s": round(cuts[98], 3),
        "max_s": round(max(values), 3),
    }


async def connect_storm(scene: Scene) -> None:
    """All agents start in the same instant."""
    began, meter = time.monotonic(), Meter(scene)
    await scene.all("start")
    await until(lambda: _are(scene, "connected"), 300, "all agents connected")
    connected_s = time.monotonic() - began
    await until(lambda: _are(scene, "fed"), 120, "all agents fed")
    await until(lambda: _all_online(scene), 120, "all agents online")
    await scene.all("settle")
    scene.figures["connect"] = {
        "all_connected_s": round(connected_s, 1),
        "all_consistent_s": round(time.monotonic() - began, 1),
        **await _connects(scene, began),
        **meter.read(),
    }


async def _connects(scene: Scene, since: float) -> dict[str, int]:
    times = [at for each in await scene.all("connects", since=since) for at in each]
    by_second = Counter(int(at - since) for at in times)
    return {"connects": len(times), "connects_per_s_max": max(by_second.values(), default=0)}


async def _are(scene: Scene, what: str, epoch: int | None = None) -> bool:
    return (await scene.count(epoch))[what] == len(scene.names)


async def _all_online(scene: Scene) -> bool:
    return await scene.online() == len(scene.names)


async def steady(scene: Scene, seconds: float) -> None:
    """Nothing happens."""
    await asyncio.sleep(5.0)
    meter = Meter(scene)
    await asyncio.sleep(seconds)
    scene.figures["steady"] = {**meter.read(), "rpc_per_s": await meter.rpcs()}


async def triggers(scene: Scene, seconds: float) -> None:
    """An administrator drains nodes by hand, one by one at random moments, each with a trigger."""
    chance = random.Random(1)  # noqa: S311 - to be repeated
    names = chance.sample(scene.names, min(200, len(scene.names) // 4))
    began, meter = time.monotonic(), Meter(scene)
    drained: dict[str, float] = {}
    for name in names:
        await asyncio.sleep(chance.uniform(0, 2 * seconds / len(names)))
        drained[name] = await scene.slurm.ask("trigger", names=[name], reason="reboot: kernel update")
    figures, rpcs = meter.read(), await meter.rpcs()
    await _all_in_service(scene, 120)
    scene.figures["triggers"] = {**await _latencies(scene, began, drained), **figures, "rpc_per_s": rpcs}


async def burst(scene: Scene) -> None:
    """An administrator drains a twentieth of all nodes with one command."""
    names = random.Random(2).sample(scene.names, len(scene.names) // 20)  # noqa: S311 - to be repeated
    began, meter = time.monotonic(), Meter(scene)
    at = await scene.slurm.ask("trigger", names=names, reason="reboot: kernel update")
    await _all_in_service(scene, 180)
    drained: dict[str, float] = dict.fromkeys(names, float(at))
    scene.figures["burst"] = {
        **await _latencies(scene, began, drained),
        **meter.read(),
        "rpc_per_s": await meter.rpcs(),
    }


async def _latencies(scene: Scene, since: float, drained: dict[str, float]) -> dict[str, Any]:
    """From the trigger in Slurm to the agent's first action, to its first step down, and to service again."""
    first: dict[str, dict[str, float]] = {"DRAINING": {}, "UNMOUNTING": {}, "IN_SERVICE": {}}
    for notes in await scene.all("notes", since=since):
        for at, name, what in notes:
            if what in first and name in drained and at > drained[name]:
                first[what].setdefault(name, at - drained[name])
    acts, leaves, back = (list(first[what].values()) for what in first)
    return {"to_action": spread(acts), "to_first_step": spread(leaves), "to_service": spread(back)}


async def _all_in_service(scene: Scene, patience_s: float) -> None:
    async def is_so() -> bool:
        return (await scene.count())["IN_SERVICE"] == len(scene.names) and await scene.slurm.ask("out") == 0

    await asyncio.sleep(3.0)
    try:
        await until(is_so, patience_s, "all nodes in service")
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {dict(await scene.count())}, {await scene.slurm.ask('out')} out") from error


async def wave(scene: Scene, seconds: float) -> None:
    """A wave over all nodes, a twentieth at a time; it is aborted when the time is up."""
    spec = {"nodes": f"n[1-{len(scene.names)}]", "max_unavailable": max(1, len(scene.names) // 20)}
    began, meter = time.monotonic(), Meter(scene)
    report = await control.call(scene.socket, "wave_start", spec=spec)
    await asyncio.sleep(seconds)
    figures, rpcs = meter.read(), await meter.rpcs()
    shown = await control.call(scene.socket, "wave_show", id=report["id"], deadline_s=60.0)
    written = await scene.slurm.ask("written", since=began)
    marked = {name: at for at, name, change, why in reversed(written) if "wave=" in why and why.startswith("reboot ")}
    scene.figures["wave"] = {
        "counts": shown["report"]["counts"],
        **await _latencies(scene, began, marked),
        **figures,
        "rpc_per_s": rpcs,
    }
    with contextlib.suppress(RefloatError):
        await control.call(scene.socket, "wave_abort", id=report["id"], deadline_s=60.0)
    await _all_in_service(scene, 120)


async def faults(scene: Scene, count: int) -> dict[str, Any]:
    """So many nodes fail a check at the same moment."""
    names = random.Random(count).sample(scene.names, count)  # noqa: S311 - to be repeated
    meter = Meter(scene)
    began = min(await scene.all("judge", names=names, failing="GPU 3 has fallen off the bus"))

    async def all_drained() -> bool:
        written = await scene.slurm.ask("written", since=began)
        return len({name for _, name, change, _ in written if change == "DRAIN"}) == count

    await until(all_drained, 120, "all faulty nodes drained")
    figures, rpcs = meter.read(), await meter.rpcs()
    drained: dict[str, float] = {}
    for at, name, change, _ in await scene.slurm.ask("written", since=began):
        if change == "DRAIN":
            drained.setdefault(name, at - began)
    await asyncio.sleep(2.0)
    await scene.all("judge", names=names, failing="")
    await _all_in_service(scene, 180)
    return {**spread(list(drained.values())), **figures, "rpc_per_s": rpcs}


async def breaker(scene: Scene) -> None:
    """The same with the breaker as it is by default: one check that fails on so many nodes is one incident."""
    scene.programs["coordinator"].kill()
    scene.programs["coordinator"].wait()
    del scene.coordinator["breaker"]
    await scene.start("coordinator")
    await until(lambda: _all_online(scene), 120, "all agents online again")
    names = random.Random(7).sample(scene.names, FAULTS[1])  # noqa: S311 - to be repeated
    began = min(await scene.all("judge", names=names, failing="GPU 3 has fallen off the bus"))
    await asyncio.sleep(15.0)
    drained = {name: at for at, name, change, _ in await scene.slurm.ask("written", since=began) if change == "DRAIN"}
    await scene.all("judge", names=names, failing="")
    await _all_in_service(scene, 180)
    latencies = spread([at - began for at in drained.values()])
    scene.figures["breaker"] = {"failed": len(names), "drained": len(drained), **latencies}


async def broker_restart(scene: Scene) -> None:
    """The broker is killed, and started again with nothing left of what it kept."""
    scene.programs["broker"].kill()
    scene.programs["broker"].wait()
    await asyncio.sleep(2.0)
    began = time.monotonic()
    await scene.start("broker")
    meter = Meter(scene)
    await until(lambda: _are(scene, "connected"), 180, "all agents connected again")
    connected_s = time.monotonic() - began
    await until(lambda: _are(scene, "fed"), 120, "all agents fed again")
    await until(lambda: _all_online(scene), 120, "all agents online again")
    scene.figures["broker"] = {
        "all_connected_s": round(connected_s, 1),
        "all_consistent_s": round(time.monotonic() - began, 1),
        **await _connects(scene, began),
        **meter.read(),
        **await _agent_reads(scene, began),
    }


async def coordinator_restart(scene: Scene, away_s: float) -> None:
    """The coordinator is killed, stays away, and is started again."""
    killed = time.monotonic()
    scene.programs["coordinator"].kill()
    scene.programs["coordinator"].wait()
    await asyncio.sleep(away_s)
    reads_away = await _agent_reads(scene, killed)
    began = time.monotonic()
    epoch = scene.figures.get("epoch", 1) + 1
    await scene.start("coordinator")
    meter = Meter(scene)
    await until(lambda: _are(scene, "fed", epoch), 180, "all agents fed by the new coordinator")
    fed_s = time.monotonic() - began
    await until(lambda: _all_online(scene), 120, "all agents online again")
    scene.figures["coordinator"] = {
        "all_fed_s": round(fed_s, 1),
        "all_consistent_s": round(time.monotonic() - began, 1),
        **meter.read(),
        "away_s": away_s,
        **reads_away,
    }


async def _agent_reads(scene: Scene, since: float) -> dict[str, float]:
    counts = await scene.slurm.ask("counts", since=since, until=time.monotonic())
    each = counts.get("agents node") or [0]
    return {"agent_reads_per_s": round(sum(each) / len(each), 1), "agent_reads_per_s_max": max(each)}


# Processes


@contextlib.asynccontextmanager
async def running(size: int) -> AsyncIterator[Scene]:
    """All processes for so many nodes; they end with the block."""
    folder = Path(tempfile.mkdtemp(prefix="refloat-scale-"))
    # A node's disk is its own: thousands of them on one would be the bottleneck of this machine alone.
    disks = Path(tempfile.mkdtemp(prefix="refloat-scale-", dir=MEMORY if MEMORY.is_dir() else None))
    names = [f"n{number}" for number in range(1, size + 1)]
    port = _free_port()
    (folder / "mosquitto.conf").write_text(BROKER.format(port=port))
    parts = max(1, -(-size // PER_WORKER))
    slurm_socket = folder / "slurm.sock"
    roles: dict[str, dict[str, Any]] = {
        "slurm": {"path": str(slurm_socket), "size": size},
        "coordinator": {"slurm": str(slurm_socket), "settings": _coordinator(folder, port)},
    }
    for part in range(parts):
        roles[f"agents-{part}"] = {
            "path": str(folder / f"agents-{part}.sock"),
            "slurm": str(slurm_socket),
            "port": port,
            "names": names[part::parts],
            "folder": str(disks),
        }
    programs: dict[str, psutil.Process] = {}

    async def start(role: str) -> None:
        argv = [sys.executable, __file__, "--role", role.split("-", 1)[0]]
        if role == "broker":
            argv = [_mosquitto(), "-c", str(folder / "mosquitto.conf")]
        with (folder / f"{role}.log").open("ab") as log:
            program = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=log)  # noqa: ASYNC220
        assert program.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            program.stdin.write(json.dumps(roles.get(role, {})).encode())
            program.stdin.close()
        programs[role] = psutil.Process(program.pid)

    try:
        for role in ("broker", *roles):
            await start(role)
        slurm = await Wire().open(slurm_socket)
        workers = [await Wire().open(folder / f"agents-{part}.sock") for part in range(parts)]
        scene = Scene(names, folder, port, slurm, workers, programs, start, roles["coordinator"]["settings"])
        await until(lambda: _answers(scene), 60, "the coordinator answers")
        yield scene
    except BaseException:
        for log in folder.glob("*.log"):  # noqa: ASYNC240 - all is over
            print(f"--- {log.name}", log.read_text(errors="replace")[-3000:], sep="\n", file=sys.stderr)
        raise
    finally:
        for program in programs.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                program.kill()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(disks, ignore_errors=True)


async def _answers(scene: Scene) -> bool:
    try:
        return len(await control.call(scene.socket, "status", deadline_s=60.0)) == len(scene.names)
    except RefloatError:
        return False


def _coordinator(folder: Path, port: int) -> dict[str, Any]:
    return {
        "cluster": "bench",
        "client_id": "bench-coordinator",
        "state_dir": str(folder / "coordinator"),
        "socket": str(folder / "coordinator.sock"),
        "mqtt": {"host": "127.0.0.1", "port": port},
        "feed": {"period_s": PERIOD_S},
        "limits": {"max_unavailable": "100%"},
        "breaker": {"percent": 0},
    }


def _mosquitto() -> str:
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(INSTALL)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _play(role: str) -> None:
    """One of the processes, until killed."""
    given = json.load(sys.stdin)

    async def main() -> None:
        if role == "slurm":
            await scaleslurm.run(Path(given["path"]), [f"n{number}" for number in range(1, given["size"] + 1)])
        elif role == "coordinator":
            await scalecoordinator.run(Path(given["slurm"]), given["settings"])
        else:
            await scalenode.run(
                Path(given["path"]), Path(given["slurm"]), given["port"], given["names"], Path(given["folder"]), BOOT_S
            )

    asyncio.run(main())


# The run


async def measure(size: int, stages: Sequence[str]) -> dict[str, Any]:
    """All stages for so many nodes."""
    plays: dict[str, Callable[[Scene], Awaitable[None]]] = {
        "steady": lambda scene: steady(scene, 20.0),
        "triggers": lambda scene: triggers(scene, 40.0),
        "burst": burst,
        "wave": lambda scene: wave(scene, 45.0),
        "broker": broker_restart,
        "coordinator": lambda scene: coordinator_restart(scene, 60.0),
        "faults": _all_faults,
        "breaker": breaker,
    }
    async with running(size) as scene:
        for name, play in {"connect": connect_storm, **plays}.items():
            if name in stages and (size == FAULT_SIZE or name not in {"faults", "breaker"}):
                began = time.monotonic()
                await scene.all("lag")
                await play(scene)
                scene.figures.setdefault(name, {})["agents_lag_max_s"] = round(max(await scene.all("lag")), 2)
                took = f"{size} nodes: {name}: {time.monotonic() - began:.0f} s"
                print(took, json.dumps(scene.figures.get(name)), file=sys.stderr, flush=True)
        return scene.figures


async def _all_faults(scene: Scene) -> None:
    scene.figures["faults"] = {str(count): await faults(scene, count) for count in FAULTS}


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """One size, in the words of its goals."""
    steady, to_action = figures.get("steady", {}), figures.get("triggers", {}).get("to_action", {})
    stages = [stage for stage in figures.values() if isinstance(stage, dict)]
    return {
        "trigger_p50_s": to_action.get("p50_s"),
        "trigger_p99_s": to_action.get("p99_s"),
        "slurmctld_rpc_per_s": steady.get("rpc_per_s", {}).get("coordinator table"),
        "coordinator_rss_mb": max((stage.get("coordinator_rss_mb", 0.0) for stage in stages), default=None),
        "coordinator_cpu_percent": steady.get("coordinator_cpu_percent"),
        "broker_rss_mb": max((stage.get("broker_rss_mb", 0.0) for stage in stages), default=None),
    }


def main() -> None:
    """Measure, print tables, write build/bench/scale.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of nodes, with commas")
    parser.add_argument("--stages", default="connect,steady,triggers,burst,wave,broker,coordinator,faults,breaker")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.role:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _play(options.role)
        return
    results: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    _mosquitto()
    for size in (int(text) for text in options.sizes.split(",")):
        figures = asyncio.run(measure(size, ["connect", *options.stages.split(",")]))
        # What was measured before is kept, so that one stage can be measured again.
        known = {**results.get(str(size), {}), **figures}
        results[str(size)] = {**known, **summary(known)}
        if "faults" in figures:
            results[f"faults_{size}"] = {name: each for name, each in figures["faults"].items() if name.isdigit()}
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps(results, indent=2) + "\n")
    scalereport.show(results)


if __name__ == "__main__":
    main()
