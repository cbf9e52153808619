# SPDX-License-Identifier: Apache-2.0
"""The slurmctld of `make bench-scale`: the simulated one in a process of its own, which counts what it is asked.

It answers a read of the table with the text that ``scontrol -o show nodes`` prints, so that the coordinator reads it
as it reads a real one, and single nodes by their fields.
"""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from scalewire import Wire, serve

from refloat_contract.errors import Refused
from refloat_slurm.gateway import AdminLevel, Change, Job, JobEnd, NodeView, Registration
from refloat_slurm.node_table import NodeTable
from refloat_slurm.simulated import Rules, SimulatedSlurmctld
from refloat_slurm.simulated.nodes import SimulatedNode

LATENCY_S: Final = (0.001, 0.006)
"""How long a real slurmctld took to answer; measured in the lab."""

_RECORD: Final = (
    "NodeName={name} Arch=x86_64 CoresPerSocket=64 CPUAlloc=0 CPUEfctv=256 CPUTot=256 CPULoad={load:.2f}"
    " AvailableFeatures=milan,ib,rack{rack} ActiveFeatures=milan,ib,rack{rack} Gres=gpu:a100:4(S:0-1)"
    " NodeAddr={name} NodeHostName={name} Version=24.11.5"
    " OS=Linux 5.14.0-503.40.1.el9_5.x86_64 #1 SMP PREEMPT_DYNAMIC Mon May 5 06:06:04 EDT 2025"
    " RealMemory=515000 AllocMem=0 FreeMem=498211 Sockets=2 Boards=1 State={state} ThreadsPerCore=2 TmpDisk=0"
    " Weight=1 Owner=N/A MCS_label=N/A Partitions=batch,long,debug BootTime={boot} SlurmdStartTime={started}"
    " LastBusyTime=1763700000 ResumeAfterTime=None CfgTRES=cpu=256,mem=515000M,billing=256,gres/gpu=4 AllocTRES="
    " CurrentWatts=0 AveWatts=0 {reason}\n"
)


class Slurmctld:
    """Handles requests: those of gateways, and those of the benchmark itself."""

    def __init__(self, names: list[str]) -> None:
        # Nodes are silent for as long as they boot, and never long enough to count as lost.
        rules = Rules(slurmd_timeout_s=600.0, not_responding_s=300.0)
        self._slurm = SimulatedSlurmctld(names, rules=rules, clock=time.time)
        self._asked: Counter[tuple[str, str, int]] = Counter()
        self._writes: list[tuple[float, str, str, str]] = []
        self._texts: dict[str, bytes] = dict.fromkeys(names, b"")
        self._changed = set(names)
        note = self._slurm._table.note

        def noted(node: SimulatedNode) -> None:
            self._changed.add(node.name)
            note(node)

        self._slurm._table.note = noted  # type: ignore[method-assign]

    def handle(self, request: dict[str, Any]) -> Any:
        """The answer."""
        op = request["op"]
        if who := request.get("who"):
            self._asked[who, op, int(time.monotonic())] += 1
        return getattr(self, f"_{op}")(request)

    def _table(self, _: dict[str, Any]) -> bytes:
        self._slurm.tick()
        for name in self._changed:
            self._texts[name] = _record(self._slurm.view(name)).encode()
        self._changed.clear()
        return b"".join(self._texts.values())

    def _node(self, request: dict[str, Any]) -> list[Any]:
        return _fields(self._slurm.view(request["name"]))

    def _jobs(self, request: dict[str, Any]) -> list[Any]:
        return [[job.id, job.user, job.state, job.ends_at] for job in self._slurm.jobs_on(request["name"])]

    def _update(self, request: dict[str, Any]) -> None:
        change = Change(request["change"]) if request["change"] else None
        self._slurm.update(request["name"], change, request["reason"])
        self._writes.append((time.monotonic(), request["name"], request["change"] or "", request["reason"] or ""))

    def _register(self, request: dict[str, Any]) -> None:
        self._slurm.register(request["name"], time.time())

    def _silence(self, request: dict[str, Any]) -> None:
        self._slurm.node_down(request["name"])

    # The benchmark's own questions

    def _trigger(self, request: dict[str, Any]) -> float:
        """An administrator drains nodes by hand; answers with the moment."""
        for name in request["names"]:
            self._slurm.update(name, Change.DRAIN, request["reason"], "admin")
        return time.monotonic()

    def _give_back(self, request: dict[str, Any]) -> int:
        """Resume every node that is not in service."""
        given = 0
        for name, view in self._slurm.views().items():
            if {"DRAIN", "DOWN"} & view.flags:
                self._slurm.update(name, Change.RESUME, None, "admin")
                given += 1
        return given

    def _written(self, request: dict[str, Any]) -> list[tuple[float, str, str, str]]:
        return [write for write in self._writes if write[0] >= request["since"]]

    def _counts(self, request: dict[str, Any]) -> dict[str, list[int]]:
        """How often each thing was asked by whom, second by second."""
        since, until = int(request["since"]), int(request["until"])
        kinds = {(who, op) for who, op, _ in self._asked}
        return {
            f"{who} {op}": [self._asked[who, op, second] for second in range(since, until)] for who, op in sorted(kinds)
        }

    def _out(self, _: dict[str, Any]) -> int:
        return self._slurm.out


def _record(view: NodeView) -> str:
    registered = view.registration or Registration(0, 0)
    flags = sorted(view.flags, key=lambda flag: flag not in {"IDLE", "DOWN", "MIXED", "ALLOCATED", "UNKNOWN"})
    reason = f"Reason={view.reason} [{view.reason_user}@{view.reason_at}]" if view.reason else ""
    return _RECORD.format(
        name=view.name,
        load=random.uniform(0, 2),  # noqa: S311 - a figure that nobody reads
        rack=int(view.name[1:]) // 64,
        state="+".join(flags),
        boot=registered.boot_time or "None",
        started=registered.slurmd_start_time or "None",
        reason=reason,
    )


def _fields(view: NodeView) -> list[Any]:
    registered = view.registration or Registration(0, 0)
    times = [registered.boot_time, registered.slurmd_start_time]
    return [view.name, sorted(view.flags), view.reason, view.reason_user, view.reason_at, *times]


class RemoteGateway:
    """`SlurmGateway` on that process. ``who`` is counted by."""

    def __init__(self, wire: Wire, who: str) -> None:
        self._wire = wire
        self._who = who
        self._table = NodeTable()

    @property
    def backend(self) -> str:
        """The backend's name."""
        return "simulated"

    async def node(self, name: str) -> NodeView:
        """Read one node, as sinfo does: without its registration."""
        found = await self._wire.ask("node", who=self._who, name=name)
        return NodeView(found[0], frozenset(found[1]), *found[2:5])

    async def node_in_full(self, name: str) -> NodeView:
        """Read one node with its registration."""
        found = await self._wire.ask("node", who=self._who, name=name)
        reason, user, at, boot, started = found[2:]
        return NodeView(found[0], frozenset(found[1]), reason, user, at, Registration(boot, started))

    async def nodes(self) -> dict[str, NodeView]:
        """Read the whole node table, from the text that scontrol prints."""
        text = await self._wire.ask("table", who=self._who)
        return self._table.read(text.decode())

    async def jobs(self, name: str) -> tuple[Job, ...]:
        """All jobs that hold the node."""
        return tuple(Job(*job) for job in await self._wire.ask("jobs", who=self._who, name=name))

    async def update(self, name: str, change: Change | None, reason: str | None = None) -> None:
        """Change state, reason or both."""
        if reason is None and change in {Change.DRAIN, Change.DOWN}:
            raise Refused("a reason is needed")
        await self._wire.ask("update", who=self._who, name=name, change=change and change.value, reason=reason)

    async def all_jobs(self) -> tuple[Job, ...]:
        """There are none: nodes are drained as soon as they drain."""
        return ()

    async def end_job(self, job: str, how: JobEnd) -> None:
        """There is none."""
        raise Refused("there are no jobs here")

    async def admin_level(self, user: str) -> AdminLevel:
        """Nobody is anybody here."""
        return AdminLevel.NONE

    async def partitions(self) -> dict[str, str]:
        """No limits by partition here."""
        return {}

    async def aclose(self) -> None:
        """The wire is the caller's."""


async def run(path: Path, names: list[str]) -> None:
    """Serve until killed."""
    slurmctld = Slurmctld(names)
    await serve(path, slurmctld.handle, lambda: random.uniform(*LATENCY_S))  # noqa: S311 - time, not secrets
