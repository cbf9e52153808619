# SPDX-License-Identifier: Apache-2.0
"""The lab as tests see it: up, down, run something inside, ask Slurm, play with power and cables."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from reflab import app, host, image, lifecycle, slurm
from reflab.command import Completed, say
from reflab.errors import Failed, LabError, TimedOut
from reflab.network import CONTROLLER_ADDRESS
from reflab.node import Node, Power
from reflab.places import CONTROLLER, Places, locked

CONTROLLER_UNITS = ("slurmctld.service", "mosquitto.service", "influxdb.service")
NODE_UNITS = ("slurmd.service", "labd.service")
APP_CONTROLLER_UNITS = ("refloat-coordinator.service",)
APP_NODE_UNITS = ("refloat-agent.service",)
DATABASE = "refloat"
UP_TIMEOUT_S = 120.0
POLL_S = 0.1

T = TypeVar("T")


@dataclass(slots=True)
class Lab:
    """A cluster of one controller `ctl` and nodes n1..nN of one Debian release.

    `project` None leaves refloat out; lines of `slurm_conf` (default: `LAB_SLURM_CONF`) take the
    place of the lab's own; `start_project` False installs refloat's units without starting them.
    """

    release: str | None = None
    nodes: int = 3
    project: app.App | None = None
    slurm_conf: str = field(default_factory=lambda: os.environ.get("LAB_SLURM_CONF", ""))
    start_project: bool = True
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.places = Places.of(self.release)

    def up(self) -> "Lab":
        """Bring it up, after removing what a crashed run left; return when every service answers."""
        host.prepare()
        plan = self._plan()
        with locked(self.places.lock(f"run-{self.places.run.name}")):
            if lifecycle.recorded(self.places) == plan and self._is_healthy():
                say(f"{self.places.run.name}: is up already")
                return self
            lifecycle.remove(self.places)
            try:
                self._start(plan)
            except BaseException:
                lifecycle.keep_logs(self.places)
                lifecycle.remove(self.places)
                raise
        return self

    def down(self) -> None:
        """Remove every trace but the cache."""
        with locked(self.places.lock(f"run-{self.places.run.name}")):
            lifecycle.remove(self.places)
            lifecycle.forget_logs(self.places)

    def node(self, name: str) -> Node:
        """Return the container `name` (ctl, n1, ...)."""
        return Node(self.places, name)

    def names(self) -> list[str]:
        """Return n1..nN."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    def exec(
        self,
        node: str,
        argv: Sequence[str],
        *,
        timeout: float = 60.0,
        check: bool = True,
        stdin: str = "",
        user: str = "root",
    ) -> Completed:
        """Run `argv` inside `node`; raise `Failed` on a bad code if `check`, `TimedOut` past the deadline."""
        return self.node(node).execute(argv, timeout_s=timeout, check=check, stdin=stdin, user=user)

    def network_argv(self, node: str = CONTROLLER) -> list[str]:
        """Return the argv prefix that runs a process of this host in the network of `node`."""
        return self.node(node).enter_network()

    def scontrol(self, *words: str, check: bool = True) -> Completed:
        """Run scontrol on the controller."""
        return self.exec(CONTROLLER, ["scontrol", *words], check=check)

    def submit(self, node: str, script: str, *options: str) -> int:
        """Submit a job of alice to `node`; return its id."""
        fixed = ["sbatch", "--parsable", f"--nodelist={node}", "--chdir=/tmp", "--output=/dev/null"]
        shown = self.exec(CONTROLLER, [*fixed, *options], stdin=f"#!/bin/sh\n{script}\n", user="alice").stdout
        return int(shown.strip().split(";")[0])

    def job_state(self, job: int) -> str:
        """Return the state of a job, such as RUNNING or COMPLETED; for some minutes after its end, too."""
        return slurm.record(self.scontrol("show", "job", str(job)).stdout)["JobState"]

    def record(self, node: str) -> dict[str, str]:
        """Return what `scontrol show node` says: State, Reason, BootTime and the others."""
        return slurm.record(self.scontrol("show", "node", node).stdout)

    def node_state(self, node: str) -> frozenset[str]:
        """Return the node's state flags, such as {IDLE, DRAIN}."""
        return slurm.flags(self.record(node)["State"])

    def boot_id(self, node: str) -> str:
        """Return the boot id as the node sees it; raise `Failed` while it is dark."""
        return self.node(node).boot_id()

    def reboots(self, node: str) -> int:
        """Count the reboots that the node asked for and got since `up`."""
        return sum(event.what is Power.REBOOT for event in self.node(node).power_events())

    def power_off(self, node: str) -> None:
        """Cut the node's power; it stays dark until `power_on`."""
        self.node(node).power_off()

    def power_on(self, node: str) -> None:
        """Give the node power again, or let go of a `hold`; returns at once."""
        self.node(node).power_on()

    def hold(self, node: str) -> None:
        """Let the node's next reboot end in the dark, until `power_on`."""
        self.node(node).hold()

    def unplug(self, node: str) -> None:
        """Pull the node's network cable."""
        self.node(node).network.unplug(node)

    def plug(self, node: str) -> None:
        """Put the node's network cable back."""
        self.node(node).network.plug(node)

    def journal(self, node: str, *words: str) -> str:
        """Return the node's journal of all its boots, also while it is dark; `words` go to journalctl."""
        return self.node(node).journal(*words)

    def wait(self, predicate: Callable[[], T], timeout: float, what: str) -> T:
        """Poll until `predicate` returns something true, and return that; a `LabError` in it means not yet."""
        until, last = time.monotonic() + timeout, ""
        while time.monotonic() < until:
            try:
                if found := predicate():
                    return found
                last = f"{found!r}"
            except LabError as error:
                last = str(error)
            time.sleep(POLL_S)
        raise TimedOut(f"waited {timeout:g} s for {what}; last: {last}")

    def wait_booted(self, node: str, old_boot_id: str, timeout: float = 60.0) -> str:
        """Wait until `node` is up in another boot than `old_boot_id`, all units started; return the new id."""
        new = self.wait(lambda: {self.boot_id(node)} - {old_boot_id}, timeout, f"a new boot of {node}").pop()
        self.wait(self.node(node).is_booted, timeout, f"{node} started")
        return new

    def wait_registered(self, node: str, timeout: float = 60.0) -> None:
        """Wait until slurmctld knows the present boot of `node`: its state may be the old boot's until then."""
        booted = max(event.at for event in self.node(node).power_events() if event.what is Power.BOOT)

        def registered() -> bool:
            # Whole seconds, by the clock that both share.
            return slurm.seconds(self.record(node)["SlurmdStartTime"]) >= int(booted)

        self.wait(registered, timeout, f"{node} registered")

    def restore(self, node: str, timeout: float = 120.0) -> None:
        """Bring `node` back into service, whatever a test did to it; its present boot is kept if it has one."""
        self.plug(node)
        self.power_on(node)
        self.wait(self.node(node).is_booted, timeout, f"{node} started")
        self.wait_registered(node, timeout)
        self.wait(lambda: self._resumed(node), timeout, f"{node} IDLE")

    def _resumed(self, node: str) -> bool:
        state = self.node_state(node)
        if state & {"DOWN", "DRAIN"} and "NOT_RESPONDING" not in state:
            # Refused in the first seconds of a slurmctld; asked again then.
            self.scontrol("update", f"nodename={node}", "state=RESUME", check=False)
        return state == {"IDLE"}

    def wait_state(self, node: str, *flags: str, timeout: float = 90.0) -> None:
        """Wait until the node's state flags in Slurm are exactly `flags`."""
        self.wait(lambda: self.node_state(node) == set(flags), timeout, f"{node} in state {'+'.join(flags)}")

    def _plan(self) -> lifecycle.Plan:
        tree = image.ensure(self.places)
        layers = app.install(self.places, tree, self.project) if self.project else []
        return lifecycle.Plan(
            names=self.names(),
            layers=[str(layer) for layer in (self.places.furniture, *layers, tree)],
            slurm_conf=self.slurm_conf,
            controller_units=[*CONTROLLER_UNITS, *(APP_CONTROLLER_UNITS if self._runs_project else ())],
            node_units=[*NODE_UNITS, *(APP_NODE_UNITS if self._runs_project else ())],
        )

    def _start(self, plan: lifecycle.Plan) -> None:
        began = time.monotonic()
        say(f"{self.places.run.name}: bring up {self.nodes} nodes ...")
        lifecycle.start(self.places, plan)
        self.wait(self._all_there, UP_TIMEOUT_S, "all nodes in service")
        self.wait(self._broker_answers, UP_TIMEOUT_S, "mosquitto")
        self.wait(self._database_is_there, UP_TIMEOUT_S, "influxdb")
        lifecycle.record(self.places, plan)
        say(f"{self.places.run.name}: {self.nodes} nodes, broker and database answer: {time.monotonic() - began:.1f} s")

    @property
    def _runs_project(self) -> bool:
        return self.start_project and self.project is not None

    def _all_there(self) -> bool:
        """Say whether every node is idle; with refloat in charge it is enough that slurmd answers."""
        for name in (CONTROLLER, *self.names()):
            if not self.node(name).is_supervised():
                raise Failed(f"{name} has no supervisor: {self.node(name).tail('supervisor.log')}")
        which = ["--responding"] if self._runs_project else ["--states=idle"]
        shown = self.exec(CONTROLLER, ["sinfo", "--noheader", "--Node", *which, "--format=%N"], timeout=15).stdout
        missing = set(self.names()) - set(shown.split())
        if missing:
            raise Failed(f"not yet there: {', '.join(sorted(missing))}")
        return True

    def _is_healthy(self) -> bool:
        try:
            return self._all_there()
        except LabError:
            return False

    def _broker_answers(self) -> bool:
        address = str(CONTROLLER_ADDRESS)
        self.exec(CONTROLLER, ["mosquitto_pub", "-h", address, "-t", "lab/up", "-m", "up"], timeout=15)
        return True

    def _database_is_there(self) -> bool:
        self.exec(CONTROLLER, ["influx", "-execute", f"CREATE DATABASE {DATABASE}"], timeout=15)
        return True
