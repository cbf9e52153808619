# SPDX-License-Identifier: Apache-2.0
"""The boot gate on nodes that really boot: no slurmd without storage, and no job on a node whose storage never came."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from reflab import app, host
from reflab.cluster import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

# The harshest: whatever made a node DOWN is over once its slurmd registers.
SLURM_CONF = "ReturnToService=2\nSlurmdTimeout=10\n"
AGENT_TOML = """\
mode = "act"
gate_deadline_s = {deadline_s}
retry_s = 1
[slurm]
poll_s = 2
[[storage]]
name = "work"
path = "/work"
driver = "command"
mount = [["/usr/local/sbin/mount-work"]]
unmount = [["umount", "/work"]]
[[check]]
name = "well"
type = "file"
path = "/lab/well"
when = "boot"
interval_s = 1
"""
# The server of /work is there while the test says so.
MOUNT = """\
#!/bin/sh
test -e /lab/server || { echo 'no answer from the server of /work' >&2; exit 1; }
exec mount -t tmpfs work /work
"""
GATE = "etc/systemd/system/slurmd.service.wants/refloat-boot-gate.service"
UNIT = "/usr/lib/systemd/system/refloat-boot-gate.service"


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    """Two nodes whose gate is enabled as `systemctl enable refloat-boot-gate` does it."""
    why = host.obstacle()
    if why:
        pytest.skip(why)
    lab = Lab(nodes=2, project=app.App(), start_project=False, slurm_conf=SLURM_CONF)
    lab.places = replace(lab.places, name="gate")
    lab.up()
    try:
        for name in lab.names():
            node = lab.node(name)
            node.put("/usr/local/sbin/mount-work", MOUNT, mode=0o755)
            node.put("/work/.is-not-mounted", "")
            link = node.folder / "files" / GATE
            link.parent.mkdir(parents=True)
            link.symlink_to(UNIT)
            node.enable("refloat-agent.service")
        yield lab
    finally:
        lab.down()


def configure(lab: Lab, name: str, deadline_s: float) -> None:
    """Give the node a gate that waits so long."""
    lab.node(name).put("/etc/refloat/agent.toml", AGENT_TOML.format(deadline_s=deadline_s))


def set_server(lab: Lab, name: str, *, up: bool) -> None:
    """Make the node's storage mountable, or not."""
    (lab.node(name).share / "well").touch()
    server = lab.node(name).share / "server"
    server.touch() if up else server.unlink(missing_ok=True)


def reboot(lab: Lab, name: str) -> None:
    """Boot the node anew; returns when systemd runs, whatever it still waits for."""
    before = lab.boot_id(name)
    lab.exec(name, ["systemctl", "reboot"])
    lab.wait(lambda: lab.boot_id(name) not in {before, ""}, 60, f"a new boot of {name}")
    lab.wait(lambda: state_of(lab, name, "refloat-boot-gate") != "", 30, f"systemd of {name}")


def state_of(lab: Lab, name: str, unit: str) -> str:
    """What systemd says of a unit."""
    return lab.exec(name, ["systemctl", "is-active", unit], check=False).stdout.strip()


def status_of(lab: Lab, name: str) -> str:
    """What the gate tells systemd."""
    return lab.exec(name, ["systemctl", "show", "--property=StatusText", "--value", "refloat-boot-gate"]).stdout.strip()


def is_mounted(lab: Lab, name: str) -> bool:
    """Whether the node's storage is there."""
    return " /work " in lab.exec(name, ["cat", "/proc/self/mounts"]).stdout


def test_slurmd_does_not_start_before_storage_is_there(site: Lab) -> None:
    configure(site, "n1", 120)
    set_server(site, "n1", up=False)
    reboot(site, "n1")
    site.wait(lambda: "nothing is mounted on /work" in status_of(site, "n1"), 30, "the gate's word")
    for _ in range(30):
        assert (state_of(site, "n1", "refloat-boot-gate"), state_of(site, "n1", "slurmd")) == ("activating", "inactive")
    set_server(site, "n1", up=True)

    site.wait(lambda: state_of(site, "n1", "slurmd") == "active", 60, "slurmd")
    assert is_mounted(site, "n1")
    site.wait_state("n1", "IDLE", timeout=60)
    assert "slurmd may start: storage is mounted" in site.journal("n1", "-u", "refloat-boot-gate", "-b")


def test_slurmd_does_not_start_before_a_check_of_the_boot_has_passed(site: Lab) -> None:
    configure(site, "n1", 120)
    set_server(site, "n1", up=True)
    (site.node("n1").share / "well").unlink()
    reboot(site, "n1")
    site.wait(lambda: "well: " in status_of(site, "n1"), 30, "the gate's word")

    assert (is_mounted(site, "n1"), state_of(site, "n1", "slurmd")) == (True, "inactive")

    (site.node("n1").share / "well").touch()
    site.wait_state("n1", "IDLE", timeout=90)


def test_a_node_whose_storage_does_not_come_is_drained_before_a_job_can_start(site: Lab) -> None:
    configure(site, "n2", 5)
    set_server(site, "n2", up=False)
    site.restore("n2")
    before = site.boot_id("n2")
    site.node("n2").hold()
    site.exec("n2", ["systemctl", "reboot"])
    site.wait(lambda: site.node_state("n2") & {"NOT_RESPONDING", "DOWN"}, 90, "slurmctld to miss the node")
    job = site.submit("n2", "test ! -e /work/.is-not-mounted")
    site.node("n2").power_on()
    site.wait(lambda: site.boot_id("n2") not in {before, ""}, 60, "a new boot")
    site.wait(lambda: state_of(site, "n2", "slurmd") == "active", 60, "slurmd")
    site.wait_registered("n2")

    assert "DRAIN" in site.node_state("n2")
    assert site.record("n2")["Reason"].startswith("refloat: boot: nothing is mounted on /work")
    assert "the node is drained: refloat: boot:" in site.journal("n2", "-u", "refloat-boot-gate", "-b")
    assert site.job_state(job) == "PENDING"

    set_server(site, "n2", up=True)
    site.wait(lambda: site.job_state(job) == "COMPLETED", 150, "the job, on a node with storage")


def test_a_cycle_and_the_gate_do_not_wait_for_each_other(site: Lab) -> None:
    configure(site, "n1", 120)
    set_server(site, "n1", up=True)
    site.restore("n1")
    before = site.boot_id("n1")
    site.scontrol("update", "nodename=n1", "state=drain", "reason=reboot")
    site.wait_booted("n1", before, timeout=90)

    site.wait_state("n1", "IDLE", timeout=90)
    assert is_mounted(site, "n1")


def test_slurmd_starts_where_there_is_no_agent(site: Lab) -> None:
    node = site.node("n1")
    node.put("/etc/refloat/agent.toml", "mode = 'nonsense'\n")
    drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/refloat gate --patience 2\n"
    node.put("/etc/systemd/system/refloat-boot-gate.service.d/patience.conf", drop_in)
    reboot(site, "n1")

    site.wait(lambda: state_of(site, "n1", "slurmd") == "active", 60, "slurmd")
    assert "UNGUARDED: no agent answers" in site.journal("n1", "-u", "refloat-boot-gate", "-b")
