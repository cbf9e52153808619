# SPDX-License-Identifier: Apache-2.0
"""A lab whose agents look by themselves but once an hour, and what can break on its nodes: events make them fast."""

import time
from dataclasses import dataclass, replace

from reflab import app
from reflab.cluster import Lab

HOUR_S = 3600
AGENT_TOML = f"""\
mode = "act"
retry_s = 0.1
[slurm]
poll_s = 10
[[storage]]
name = "scratch"
driver = "fstab"
path = "/scratch"
[[check]]
name = "scratch"
type = "mount"
path = "/scratch"
interval_s = {HOUR_S}
[[check]]
name = "network"
type = "link"
interface = "fabric0"
interval_s = {HOUR_S}
[[check]]
name = "daemon"
type = "process"
process = "labd"
interval_s = {HOUR_S}
[[check]]
name = "unit"
type = "systemd"
unit = "fabricd.service"
severity = "drain"
interval_s = {HOUR_S}
[[check]]
name = "key"
type = "file"
path = "/etc/munge/munge.key"
interval_s = {HOUR_S}
"""


FABRICD = "systemd-run --quiet --unit=fabricd sleep infinity"


@dataclass(frozen=True, slots=True)
class Fault:
    """What breaks, what mends it (lines for a shell on the node), and a check that must say so."""

    name: str
    breaks: str
    mends: str
    check: str


FAULTS = (
    Fault("umount", "umount --lazy /scratch", "mountpoint -q /scratch || mount /scratch", "scratch"),
    Fault("link down", "ip link set fabric0 down", "ip link set fabric0 up", "network"),
    Fault("daemon killed", "systemctl kill --signal=KILL labd", "systemctl start labd", "daemon"),
    Fault("unit failed", "systemctl kill --signal=KILL fabricd", f"systemctl reset-failed fabricd; {FABRICD}", "unit"),
    Fault("file removed", "mv /etc/munge/munge.key /etc/munge/away", "mv /etc/munge/away /etc/munge/munge.key", "key"),
)


def bring_up(name: str, nodes: int) -> Lab:
    """A lab of so many nodes with agents that act, all of them healthy."""
    lab = Lab(nodes=nodes, project=app.App(), start_project=False)
    lab.places = replace(lab.places, name=name)
    lab.up()
    try:
        for node in lab.names():
            lab.node(node).put("/etc/refloat/agent.toml", AGENT_TOML)
            shell(lab, node, "ip link add fabric0 type veth peer name fabric1 && ip link set fabric1 up")
            shell(lab, node, FABRICD)
            shell(lab, node, "ip link set fabric0 up; mountpoint -q /scratch || mount /scratch")
            lab.exec(node, ["systemctl", "start", "refloat-agent"])
        for node in lab.names():
            lab.wait(lambda node=node: is_healthy(lab, node), 60, f"{node} healthy")  # type: ignore[misc]
    except BaseException:
        lab.down()
        raise
    return lab


def is_healthy(lab: Lab, node: str) -> bool:
    """Whether the node's agent says that every check passes."""
    return "HEALTHY" in lab.exec(node, ["refloat", "status"], check=False).stdout.split()


def shell(lab: Lab, node: str, line: str) -> str:
    """Run a line by a shell on the node; what it printed."""
    return lab.exec(node, ["sh", "-c", line]).stdout


def break_(lab: Lab, node: str, fault: Fault) -> float:
    """Break it; the moment (seconds since 1970) just before."""
    return float(shell(lab, node, f"date +%s.%N; {fault.breaks}").split()[0])


def drained_at(lab: Lab, node: str, timeout: float = 30.0) -> float:
    """Wait until Slurm shows the node drained; the moment at which it was seen."""
    lab.wait(lambda: "DRAIN" in lab.node_state(node), timeout, f"{node} drained")
    return time.time()


def mend(lab: Lab, node: str, fault: Fault) -> None:
    """Mend it."""
    shell(lab, node, fault.mends)


def reason(lab: Lab, node: str) -> str:
    """The node's reason in Slurm."""
    return lab.record(node).get("Reason", "")
