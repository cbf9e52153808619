# SPDX-License-Identifier: Apache-2.0
"""Cycles on real nodes whose agent is killed, or whose power is cut, at one boundary after the other."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from reflab import app
from reflab.cluster import CONTROLLER_UNITS, Lab
from reflab.errors import LabError
from reflab.node import Power
from reflab.places import CONTROLLER

STORAGE: Final = frozenset({"/gpfs/scratch", "/scratch"})
SERVING: Final = frozenset({"IDLE", "ALLOCATED", "MIXED", "COMPLETING"})
PATIENCE_S: Final = 90.0
_JOB_S: Final = 15.0
RESTART_AT_ONCE: Final = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=0.2\n"
DYING: Final = f"{RESTART_AT_ONCE}ExecStart=\nExecStart=/usr/lib/refloat/bin/python /lab/dying_agent.py\n"


class Death(StrEnum):
    """What happens at a boundary."""

    KILL = "kill"
    POWER_CUT = "freeze"


@contextmanager
def crash_lab(name: str, nodes: int, *, dying: bool) -> Iterator[Lab]:
    """A lab whose agents come back at once; ``dying``: they die where they are told to. Odd nodes are stateless."""
    lab = Lab(nodes=nodes, project=app.App())
    lab.places = replace(lab.places, name=name)
    lab.up()
    try:
        for each in lab.names():
            _prepare(lab, each, RESTART_AT_ONCE if not dying else DYING)
        # All nodes may be out at once: the budget is not what is tried here.
        settings = lab.node(CONTROLLER).inside("/etc/refloat/coordinator.toml").read_text()
        lab.node(CONTROLLER).put("/etc/refloat/coordinator.toml", settings.replace('"50%"', '"100%"'))
        lab.node(CONTROLLER).put("/etc/systemd/system/refloat-coordinator.service.d/crash.conf", RESTART_AT_ONCE)
        for unit in (*CONTROLLER_UNITS, "refloat-coordinator.service"):
            lab.node(CONTROLLER).put(f"/etc/systemd/system/{unit}.d/limit.conf", "[Unit]\nStartLimitIntervalSec=0\n")
        lab.exec(CONTROLLER, ["systemctl", "daemon-reload"])
        lab.exec(CONTROLLER, ["systemctl", "restart", "refloat-coordinator"])
        for each in lab.names():
            lab.wait(partial(is_serving, lab, each), PATIENCE_S, f"{each} in service")
        yield lab
    finally:
        lab.down()


def _prepare(lab: Lab, name: str, drop_in: str) -> None:
    node = lab.node(name)
    if int(name.removeprefix("n")) % 2 == 0:
        node.write("keep_disk", "")
    (node.share / "dying_agent.py").write_text(Path(__file__).with_name("dying_agent.py").read_text())
    node.put("/etc/systemd/system/refloat-agent.service.d/crash.conf", drop_in)
    lab.exec(name, ["systemctl", "daemon-reload"])
    lab.exec(name, ["systemctl", "restart", "refloat-agent"])


def is_serving(lab: Lab, name: str) -> bool:
    """Whether Slurm would start jobs on the node, and its storage is there."""
    return lab.node_state(name) <= SERVING and mounted(lab, name) == STORAGE


def mounted(lab: Lab, name: str) -> frozenset[str]:
    """Which of the storage is mounted, read from outside: no process of ours inside a node that may be going down."""
    try:
        table = lab.node(name).inside("/proc/1/mounts").read_text()
    except OSError:
        return frozenset()
    return STORAGE & {line.split()[1] for line in table.splitlines()}


def count(lab: Lab, name: str, what: Power) -> int:
    """How often this has happened to the node's power since the lab is up."""
    return sum(event.what is what for event in lab.node(name).power_events())


@dataclass(slots=True)
class Trip:
    """One cycle with one death in it, and everything that was wrong with it."""

    node: str
    how: Death
    at: int
    where: str = ""
    """The boundary of the death; empty when the cycle had fewer."""
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line of the campaign's report."""
        end = "; ".join(self.wrong) or "right"
        return f"{self.node} {self.how} at {self.at} ({self.where or 'not reached'}): {end}"


def cycle(lab: Lab, name: str, how: Death, at: int, reason: str = "reboot") -> Trip:
    """Take the node through a cycle, with this death in it, and say what was wrong in the end."""
    trip, share = Trip(name, how, at), lab.node(name).share
    (share / "boundaries").unlink(missing_ok=True)
    (share / "die-at").write_text(f"{how} {at}")
    before = {what: count(lab, name, what) for what in Power}
    # What a power cut does to a job is no fault of anybody's.
    job = lab.submit(name, _WATCHING_JOB) if how is Death.KILL else None
    if job is not None:
        lab.wait(partial(_runs, lab, job), 60, "the job running")
    lab.scontrol("update", f"nodename={name}", "state=drain", f"reason={reason}")
    following = lab.submit(name, "sleep 0.2")
    try:
        if how is Death.POWER_CUT and _cut_at(lab, name, at, following):
            # A node in service lost its power, maybe under a job: Slurm says so, and is told to take it back.
            following = _taken_back(lab, name, following)
        lab.wait(lambda: lab.job_state(following) == "COMPLETED", PATIENCE_S, "the next job done")
        lab.wait(partial(is_serving, lab, name), PATIENCE_S, f"{name} in service")
    except LabError as error:
        trip.wrong.append(f"{error}; Slurm shows {lab.record(name).get('Reason')}")
    (share / "die-at").unlink()
    lab.exec(name, ["systemctl", "kill", "--signal=CONT", "refloat-agent"], check=False)
    passed = share.joinpath("boundaries").read_text().splitlines()
    trip.where = passed[at - 1].partition(" ")[2] if len(passed) >= at else ""
    rebooted = count(lab, name, Power.REBOOT) - before[Power.REBOOT]
    cut = count(lab, name, Power.CUT) - before[Power.CUT]
    wanted = int(reason.startswith("reboot"))
    # Cut while it was to reboot: that boot is the one that was asked for.
    if not (rebooted == wanted or (wanted and cut and rebooted == 0)):
        trip.wrong.append(f"{rebooted} reboots")
    if job is not None and lab.job_state(job) != "COMPLETED":
        trip.wrong.append(f"the job is {lab.job_state(job)}")
    if (share / "harm").exists():
        trip.wrong.append("storage was taken from under the job")
    if trip.wrong:
        lab.restore(name)
    return trip


_WATCHING_JOB: Final = """i=0
while [ $i -lt 15 ]; do
    grep -q ' /gpfs/scratch ' /proc/mounts && grep -q ' /scratch ' /proc/mounts || touch /lab/harm
    sleep 0.1; i=$((i + 1))
done"""


def _runs(lab: Lab, job: int) -> bool:
    return lab.job_state(job) == "RUNNING"


def _taken_back(lab: Lab, name: str, job: int) -> int:
    """A job that was done on the node once it was resumed by hand, instead of ``job``.

    Before slurmctld notices that the node was away it may send a job there, which it then holds back for minutes.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        lab.exec(CONTROLLER, ["scancel", str(job)], check=False)
        lab.restore(name)
        job = lab.submit(name, "sleep 0.2")
        try:
            lab.wait(partial(_is_done, lab, job), _JOB_S, f"{name} resumed by hand")
        except LabError:
            if time.monotonic() > until:
                raise
        else:
            return job


def _is_done(lab: Lab, job: int) -> bool:
    return lab.job_state(job) == "COMPLETED"


def _cut_at(lab: Lab, name: str, at: int, following: int) -> bool:
    """Cut the power once the agent stands still at the boundary, if it comes; whether the node was resumed by then."""
    passed = lab.node(name).share / "boundaries"
    until = time.monotonic() + PATIENCE_S
    while not passed.exists() or len(passed.read_text().splitlines()) < at:
        if lab.job_state(following) == "COMPLETED" or time.monotonic() > until:
            return False
        time.sleep(0.01)
    was_resumed = lab.node_state(name) <= SERVING
    lab.power_off(name)
    lab.power_on(name)
    return was_resumed


def boundaries(lab: Lab, name: str, reason: str = "reboot") -> int:
    """How many boundaries a cycle has in which nothing happens."""
    trip = cycle(lab, name, Death.KILL, 0, reason)
    if trip.wrong:
        raise LabError(str(trip))
    return len((lab.node(name).share / "boundaries").read_text().splitlines())


def campaign(lab: Lab, deaths: list[tuple[Death, int]], told: Callable[[Trip], None]) -> list[Trip]:
    """Die all these deaths, on all nodes at once."""
    waiting: queue.SimpleQueue[tuple[Death, int]] = queue.SimpleQueue()
    for death in deaths:
        waiting.put(death)
    trips: list[Trip] = []
    guard = threading.Lock()

    def work(name: str) -> None:
        while True:
            try:
                how, at = waiting.get_nowait()
            except queue.Empty:
                return
            trip = cycle(lab, name, how, at)
            with guard:
                trips.append(trip)
                told(trip)

    with ThreadPoolExecutor(lab.nodes) as pool:
        list(pool.map(work, lab.names()))
    return trips
