# SPDX-License-Identifier: Apache-2.0
"""The node of `make bench-agent`: what can break on it, and, run as a program, the agent that watches it."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from refloat_agent.config import ENV_PREFIX, AgentSettings
from refloat_agent.daemon import Agent
from refloat_contract.words import Verdict
from refloat_service import logs, settings
from refloat_slurm.gateway import Change
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld

NAME: Final = "n1"
DAEMON: Final = "benchd"
FAULTS: Final = ("umount", "link down", "daemon killed", "file removed", "kernel line")
LINK: Final = "bench0"
PEER: Final = "bench1"
_LOOK_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks, and how it is mended."""

    name: str
    breaks: Callable[[], None]
    mends: Callable[[], None]


@dataclass(slots=True)
class Ground:
    """A small node below a folder: a mount, a link, a daemon, a file, a log of its kernel."""

    place: Path
    daemon: "subprocess.Popen[bytes] | None" = None
    # A pipe that keeps what was written apart, as /dev/kmsg does.
    log: tuple[int, int] = field(default_factory=lambda: os.pipe2(os.O_DIRECT))
    logged: int = 0

    def prepare(self) -> None:
        """Build it; in namespaces of its own."""
        socket.sethostname(NAME)
        # The /sys that is there shows the links of the network namespace that it was mounted in.
        subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
        self.scratch.mkdir()
        self.mount()
        _ip("link", "set", "lo", "up")
        _ip("link", "add", LINK, "type", "veth", "peer", "name", PEER)
        _ip("link", "set", PEER, "up")
        _ip("link", "set", LINK, "up")
        self.start_daemon()
        self.key.write_text("key\n")

    @property
    def scratch(self) -> Path:
        """The mount point."""
        return self.place / "scratch"

    @property
    def key(self) -> Path:
        """The file."""
        return self.place / "munge.key"

    def mount(self) -> None:
        """Mount the storage."""
        subprocess.run(["mount", "-t", "tmpfs", "scratch0", self.scratch], check=True)

    def unmount(self) -> None:
        """Lose the storage."""
        subprocess.run(["umount", self.scratch], check=True)

    def start_daemon(self) -> None:
        """Start the daemon."""
        self.daemon = subprocess.Popen([DAEMON, "1000000"], executable="/bin/sleep")

    def kill_daemon(self) -> None:
        """Lose the daemon."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()

    def say_in_log(self, line: str) -> None:
        """Have the kernel log a line."""
        self.logged += 1
        os.write(self.log[1], f"4,{self.logged},{time.monotonic_ns() // 1000},-;{line}\n".encode())

    def faults(self) -> tuple[Fault, ...]:
        """All that can break here."""
        return (
            Fault(FAULTS[0], self.unmount, self.mount),
            Fault(FAULTS[1], lambda: _ip("link", "set", LINK, "down"), lambda: _ip("link", "set", LINK, "up")),
            Fault(FAULTS[2], self.kill_daemon, self.start_daemon),
            Fault(FAULTS[3], self.key.unlink, lambda: _write(self.key)),
            Fault(
                FAULTS[4],
                lambda: self.say_in_log("nfs: server home not responding, still trying"),
                lambda: self.say_in_log("nfs: server home OK"),
            ),
        )

    def config(self) -> Path:
        """The agent's configuration."""
        path = self.place / "agent.toml"
        path.write_text(
            f"""
mode = "act"
node = "{NAME}"
state_dir = "{self.place}/state"
socket = "{self.place}/agent.sock"
reboot_command = ["false"]
mount_at_boot = false
retry_s = 0.01

[slurm]
poll_s = 30

[log]
level = "error"

[[check]]
name = "scratch"
type = "mount"
path = "{self.scratch}"
source = "scratch0"

[[check]]
name = "network"
type = "link"
interface = "{LINK}"

[[check]]
name = "benchd"
type = "process"
process = "{DAEMON}"

[[check]]
name = "munge-key"
type = "file"
path = "{self.key}"

[[check]]
name = "kernel-log"
type = "kernel-log"
path = "/proc/{os.getpid()}/fd/{self.log[0]}"
severities = {{ nfs-away = "drain" }}
"""
        )
        return path


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _write(path: Path) -> None:
    path.write_text("key\n")


class WatchedGateway(SimulatedGateway):
    """Tells when a drain is ordered: that is where a trial ends."""

    async def update(self, name: str, change: Change | None, reason: str | None = None) -> None:
        """Change state, reason or both."""
        if change is Change.DRAIN:
            say("drained")
        await super().update(name, change, reason)


def say(kind: str) -> None:
    """Tell the bench what has happened, and when."""
    sys.stdout.write(json.dumps({"kind": kind, "at_s": time.monotonic()}) + "\n")
    sys.stdout.flush()


async def resume_when_healthy(agent: Agent, slurmctld: SimulatedSlurmctld) -> None:
    """Be the administrator who gives the node back as soon as it is well, so that the next trial may begin."""
    drained = False
    while True:
        view = slurmctld.view(NAME)
        if "DRAIN" in view.flags:
            drained = True
            if agent.health.facts().verdict is Verdict.HEALTHY and not agent.health.facts().raw_failing:
                slurmctld.update(NAME, Change.RESUME, None, "root")
                await agent.slurm.read()
                agent.loop.wake()  # type: ignore[union-attr]  # it runs, or nobody would have drained
        elif drained and agent.decision is not None and not agent.decision.state.health_drained:
            drained = False
            say("back")
        await asyncio.sleep(_LOOK_S)


async def obey(agent: Agent, helper: "asyncio.Task[None]") -> None:
    """Do what the bench asks for, line by line."""
    orders: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            running.call_soon_threadsafe(orders.put_nowait, line.strip())

    threading.Thread(target=read, daemon=True).start()
    while True:
        order = await orders.get()
        if order == "settle":
            helper.cancel()
            await asyncio.sleep(5.0)
        elif order.startswith("passes "):
            for _ in range(int(order.split()[1])):
                await agent.check_now()
        say(order)


async def run(config: Path) -> None:
    """Run the agent beside a simulated slurmctld of one node."""
    slurmctld = SimulatedSlurmctld([NAME], clock=time.time)
    agent = Agent(settings.load(AgentSettings, config, env_prefix=ENV_PREFIX), WatchedGateway(slurmctld))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(agent.run(), name="agent")
        while agent.health.facts().verdict is not Verdict.HEALTHY:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(_LOOK_S)
        say("healthy")
        helper = tasks.create_task(resume_when_healthy(agent, slurmctld), name="administrator")
        tasks.create_task(obey(agent, helper), name="orders")


if __name__ == "__main__":
    logs.configure("console", "error")
    os.environ.pop("NOTIFY_SOCKET", None)
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run(Path(sys.argv[1])))
