# SPDX-License-Identifier: Apache-2.0
"""The lab keeps its own promises: what the tests of refloat in it rely on."""

import json
from collections.abc import Iterator

import pytest
from reflab.cluster import Lab
from reflab.command import run
from reflab.errors import Failed, TimedOut

# Long enough for a node that slurmctld gives up after SlurmdTimeout (30 s), and for the image's first build.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

MMFS = "/usr/lpp/mmfs/bin"
EBUSY_OF_UMOUNT = 32


@pytest.fixture
def node(lab: Lab) -> Iterator[str]:
    """n1, in service before and after."""
    lab.restore("n1")
    yield "n1"
    lab.restore("n1")


def test_a_job_runs(lab: Lab, node: str) -> None:
    job = lab.submit(node, "id -un; sleep 1")

    lab.wait(lambda: lab.job_state(job) == "RUNNING", 20, "the job running")
    lab.wait(lambda: lab.job_state(job) == "COMPLETED", 20, "the job completed")


def test_a_reboot_is_one(lab: Lab, node: str) -> None:
    before, boot_time, reboots = lab.boot_id(node), lab.record(node)["BootTime"], lab.reboots(node)
    lab.exec(node, ["touch", "/var/tmp/scratch"])
    lab.exec(node, ["touch", "/lab/kept"])

    lab.exec(node, ["systemctl", "reboot"])
    after = lab.wait_booted(node, before)
    lab.wait(lambda: lab.record(node)["BootTime"] not in {boot_time, "None"}, 60, "a new BootTime")

    assert after != before
    assert lab.reboots(node) == reboots + 1
    assert lab.exec(node, ["test", "-e", "/var/tmp/scratch"], check=False).returncode == 1
    lab.exec(node, ["test", "-e", "/lab/kept"])
    # ReturnToService=1 takes a boot that nobody announced for a fault.
    lab.wait(lambda: lab.record(node).get("Reason", "").startswith("Node unexpectedly rebooted"), 30, "the reason")


def test_uptime_is_the_nodes_own(lab: Lab, node: str) -> None:
    before = lab.boot_id(node)
    lab.exec(node, ["systemctl", "reboot"])
    lab.wait_booted(node, before)

    assert float(lab.exec(node, ["cat", "/proc/uptime"]).stdout.split()[0]) < 30


def test_a_held_node_stays_dark(lab: Lab, node: str) -> None:
    before = lab.boot_id(node)
    lab.hold(node)
    lab.exec(node, ["systemctl", "reboot"])
    lab.wait(lambda: lab.node(node).read("state") == "held", 30, "held")

    with pytest.raises(Failed):
        lab.boot_id(node)
    lab.power_on(node)
    lab.wait_booted(node, before)


def test_cut_power_is_seen_and_comes_back(lab: Lab, node: str) -> None:
    before = lab.boot_id(node)

    lab.power_off(node)
    assert not lab.node(node).is_running()
    lab.wait(lambda: "NOT_RESPONDING" in lab.node_state(node), 60, "slurmctld noticed")
    lab.power_on(node)

    lab.wait_booted(node, before)


def test_a_pulled_cable_is_a_lost_carrier(lab: Lab, node: str) -> None:
    def carrier() -> str:
        return lab.exec(node, ["cat", "/sys/class/net/eth0/carrier"]).stdout.strip()

    assert carrier() == "1"
    lab.unplug(node)
    assert carrier() == "0"
    lab.plug(node)
    lab.wait(lambda: carrier() == "1", 10, "the carrier")


def test_the_image_and_the_files_of_the_next_boot_can_be_chosen(lab: Lab, node: str) -> None:
    before = lab.boot_id(node)
    lab.node(node).set_image("compute-2")
    lab.node(node).put("/etc/lab-marker", "here\n")
    lab.node(node).disable("labd.service")

    lab.exec(node, ["systemctl", "reboot"])
    lab.wait_booted(node, before)

    assert "IMAGE_VERSION=compute-2" in lab.exec(node, ["cat", "/etc/os-release"]).stdout
    assert lab.exec(node, ["cat", "/etc/lab-marker"]).stdout == "here\n"
    assert lab.exec(node, ["pgrep", "-x", "labd"], check=False).returncode == 1
    lab.node(node).enable("labd.service")
    lab.exec(node, ["systemctl", "start", "labd"])


def test_gpfs_mounts_and_unmounts(lab: Lab, node: str) -> None:
    refused = lab.exec(node, [f"{MMFS}/mmmount", "gpfs0"], check=False)
    lab.exec(node, [f"{MMFS}/mmstartup"])
    lab.exec(node, [f"{MMFS}/mmmount", "gpfs0"])
    mounted = lab.exec(node, ["findmnt", "-n", "-o", "SOURCE,FSTYPE", "/gpfs/scratch"]).stdout.split()
    active = lab.exec(node, [f"{MMFS}/mmgetstate"]).stdout
    lab.exec(node, ["pgrep", "-x", "mmfsd"])
    lab.exec(node, [f"{MMFS}/mmumount", "gpfs0"])
    lab.exec(node, [f"{MMFS}/mmshutdown"])

    assert refused.returncode == 1
    assert mounted == ["gpfs0", "tmpfs"]
    assert "active" in active
    assert "down" in lab.exec(node, [f"{MMFS}/mmgetstate"]).stdout
    assert "not mounted" in lab.exec(node, [f"{MMFS}/mmlsmount", "gpfs0"]).stdout


def test_busy_storage_refuses(lab: Lab, node: str) -> None:
    lab.exec(node, [f"{MMFS}/mmstartup"])
    lab.exec(node, [f"{MMFS}/mmmount", "gpfs0"])
    hold = ["systemd-run", "--unit=holder", "--property=Type=exec", "--working-directory=/gpfs/scratch"]
    lab.exec(node, [*hold, "sleep", "infinity"])
    busy = lab.exec(node, [f"{MMFS}/mmumount", "gpfs0"], check=False)
    shutdown = lab.exec(node, [f"{MMFS}/mmshutdown"], check=False)
    lab.exec(node, ["systemctl", "stop", "holder"])
    lab.exec(node, [f"{MMFS}/mmshutdown"])

    assert busy.returncode == EBUSY_OF_UMOUNT
    assert "busy" in busy.stderr
    assert shutdown.returncode == 1


def test_a_knob_makes_the_mount_fail(lab: Lab, node: str) -> None:
    lab.exec(node, [f"{MMFS}/mmstartup"])
    knob = lab.node(node).share / "mmmount.fail"
    knob.write_text("no quorum\n")
    refused = lab.exec(node, [f"{MMFS}/mmmount", "gpfs0"], check=False)
    knob.unlink()
    lab.exec(node, [f"{MMFS}/mmshutdown"])

    assert (refused.returncode, refused.stderr) == (1, "mmmount: no quorum\n")


def test_scratch_mounts_by_fstab(lab: Lab, node: str) -> None:
    lab.exec(node, ["mount", "/scratch"])
    source = lab.exec(node, ["findmnt", "-n", "-o", "SOURCE", "/scratch"]).stdout.strip()
    lab.exec(node, ["umount", "/scratch"])

    assert source == "scratch0"


def test_the_watched_daemon_stops_and_starts(lab: Lab, node: str) -> None:
    lab.exec(node, ["pgrep", "-x", "labd"])
    lab.exec(node, ["systemctl", "stop", "labd"])
    assert lab.exec(node, ["pgrep", "-x", "labd"], check=False).returncode == 1
    lab.exec(node, ["systemctl", "start", "labd"])
    lab.wait(lambda: lab.exec(node, ["pgrep", "-x", "labd"]), 5, "labd")


def test_the_broker_carries_a_message_from_the_host_to_a_node(lab: Lab, node: str) -> None:
    broker = ["-h", "10.77.0.1", "-t", "lab/test"]
    run([*lab.network_argv(), "true"])
    lab.exec(node, ["mosquitto_pub", *broker, "-r", "-m", "hello"])

    assert lab.exec("ctl", ["mosquitto_sub", *broker, "-C", "1", "-W", "5"]).stdout == "hello\n"


def test_the_broker_and_the_database_survive_their_hosts_power_cut(lab: Lab, node: str) -> None:
    _write_point(lab, "kept value=1")
    lab.power_off("ctl")
    lab.power_on("ctl")

    lab.wait(lambda: _read_points(lab, "kept"), 60, "the point")
    lab.wait_state(node, "IDLE")


def test_the_database_gives_back_what_was_written(lab: Lab) -> None:
    _write_point(lab, "written,node=n1 value=42")

    assert _read_points(lab, "written")[0][1:] == ["n1", 42]


def _write_point(lab: Lab, line: str) -> None:
    url = "http://127.0.0.1:8086/write?db=refloat"
    run([*lab.network_argv(), "curl", "-sS", "--fail", "--noproxy", "*", "--data-binary", line, url])


def _read_points(lab: Lab, measurement: str) -> list[list[object]]:
    query = f"SELECT * FROM {measurement}"  # noqa: S608 - a name from this file
    asked = ["influx", "-database", "refloat", "-format", "json", "-execute", query]
    shown = json.loads(lab.exec("ctl", asked).stdout)
    series = shown["results"][0].get("series") or [{"values": []}]
    points: list[list[object]] = series[0]["values"]
    return points


def test_a_command_past_its_deadline_is_ended(lab: Lab, node: str) -> None:
    with pytest.raises(TimedOut):
        lab.exec(node, ["sleep", "4321"], timeout=0.5)

    assert lab.exec(node, ["pgrep", "-f", "sleep 4321"], check=False).returncode == 1


def test_the_journal_of_earlier_boots_is_kept(lab: Lab, node: str) -> None:
    before = lab.boot_id(node)
    lab.exec(node, ["logger", "a line of the old boot"])
    lab.exec(node, ["systemctl", "reboot"])
    lab.wait_booted(node, before)

    assert "a line of the old boot" in lab.journal(node)
