# SPDX-License-Identifier: Apache-2.0
"""refloat on real Slurm, a real broker, a real InfluxDB and nodes that really reboot: what it promises to do."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Self

import pytest
from reflab import app, host
from reflab.cluster import Lab
from reflab.places import CONTROLLER

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

STORAGE = {"/gpfs/scratch", "/scratch"}
PROGRESS = re.compile(r"rebooting refloat=[0-9a-f]{8} boot=(?P<boot>[0-9a-f]{8})")


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    """Four nodes with refloat at work, as a site would install it."""
    why = host.obstacle()
    if why:
        pytest.skip(why)
    lab = Lab(nodes=4, project=app.App())
    lab.places = replace(lab.places, name="site")
    lab.up()
    for name in lab.names():
        lab.wait(partial(is_serving, lab, name), 60, f"{name} in service")
    yield lab
    lab.down()


@pytest.fixture(autouse=True)
def calm(site: Lab) -> None:
    """Every daemon up and every node in service before each test."""
    for unit in ("mosquitto", "influxdb", "refloat-coordinator"):
        site.exec(CONTROLLER, ["systemctl", "start", unit])
    for name in site.names():
        site.exec(name, ["systemctl", "start", "labd"])
        if not is_serving(site, name):
            site.restore(name)
        site.wait(partial(is_serving, site, name), 60, f"{name} in service")
    site.wait(lambda: all(is_known_to_serve(row) for row in refloat(site, "status")), 60, "the coordinator's view")


def is_serving(lab: Lab, name: str) -> bool:
    """Whether Slurm would start jobs on the node, and its storage is there."""
    return lab.node_state(name) <= {"IDLE", "ALLOCATED", "MIXED", "COMPLETING"} and mounted(lab, name) == STORAGE


def is_known_to_serve(row: dict[str, Any]) -> bool:
    """Whether the coordinator has heard of both the agent and Slurm that the node serves: its feed has a period."""
    return bool(row["online"]) and "DRAIN" not in row["slurm"]["flags"]


def mounted(lab: Lab, name: str) -> set[str]:
    """Which of the storage is mounted on the node."""
    table = lab.exec(name, ["cat", "/proc/self/mounts"]).stdout
    return STORAGE & {line.split()[1] for line in table.splitlines()}


def refloat(lab: Lab, *words: str) -> Any:
    """Run the command line on the controller, and read its JSON."""
    done = lab.exec(CONTROLLER, ["refloat", *words, "--json"], check=False, timeout=120)
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)


class Watch:
    """Look at the cluster until told to stop: reasons seen per node, and the most nodes that were out at once."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._stop = threading.Event()
        self.reasons: dict[str, list[str]] = {name: [] for name in lab.names()}
        self.most_out = 0
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set():
            done = self._lab.exec(CONTROLLER, ["sinfo", "-hN", "-o", "%N|%T|%E"], check=False)
            rows = [line.split("|", 2) for line in done.stdout.splitlines()]
            out = [name for name, state, _ in rows if not state.startswith(("idle", "mixed", "alloc", "completing"))]
            self.most_out = max(self.most_out, len(out))
            for name, _, reason in rows:
                if reason != "none" and reason not in self.reasons[name]:
                    self.reasons[name].append(reason)
            time.sleep(0.1)


def test_a_node_reboots_itself_without_a_broker_or_a_coordinator(site: Lab) -> None:
    site.exec(CONTROLLER, ["systemctl", "stop", "refloat-coordinator", "mosquitto"])
    job = site.submit("n1", "sleep 6")
    site.wait(lambda: site.job_state(job) == "RUNNING", 30, "the job running")
    before, reboots = site.boot_id("n1"), site.reboots("n1")
    site.exec("n1", ["touch", "/var/tmp/of-the-old-boot"])

    with Watch(site) as watch:
        site.scontrol("update", "nodename=n1", "state=drain", "reason=reboot")
        queued = site.submit("n1", "sleep 1")
        while site.job_state(job) in {"RUNNING", "COMPLETING"}:
            assert site.boot_id("n1") == before, "rebooted under a job"
            assert mounted(site, "n1") == STORAGE or site.job_state(job) != "RUNNING", "unmounted under a job"
            time.sleep(0.2)
        site.wait_booted("n1", before, timeout=90)
        site.wait(lambda: site.job_state(queued) == "COMPLETED", 90, "the queued job done on the node")

    assert site.job_state(job) == "COMPLETED"
    assert site.reboots("n1") == reboots + 1
    assert site.exec("n1", ["test", "-e", "/var/tmp/of-the-old-boot"], check=False).returncode == 1
    progress = [found for reason in watch.reasons["n1"] if (found := PROGRESS.match(reason))]
    assert [found["boot"] for found in progress] == [before.replace("-", "")[:8]]
    assert mounted(site, "n1") == STORAGE
    assert site.node_state("n1") <= {"IDLE", "COMPLETING"}


def test_gpfs_restart_applies_the_configuration_without_a_reboot(site: Lab) -> None:
    before = site.boot_id("n2")
    site.exec("n2", ["rm", "-f", "/lab/applied"])

    with Watch(site) as watch:
        site.scontrol("update", "nodename=n2", "state=drain", "reason=gpfs-restart")
        site.wait(lambda: site.exec("n2", ["cat", "/lab/applied"], check=False).stdout, 60, "the commands run")
        site.wait(lambda: is_serving(site, "n2"), 60, "n2 in service")

    applied = site.exec("n2", ["cat", "/lab/applied"]).stdout
    assert applied == "/gpfs/scratch unmounted\n/scratch unmounted\n"
    assert site.boot_id("n2") == before
    assert any(reason.startswith("gpfs-restarting refloat=") for reason in watch.reasons["n2"])


def test_a_failed_check_drains_and_a_passed_one_resumes(site: Lab) -> None:
    site.exec("n2", ["systemctl", "stop", "labd"])
    site.wait(lambda: "DRAIN" in site.node_state("n2"), 30, "n2 drained")

    assert site.record("n2")["Reason"].startswith("refloat: labd: ")

    site.exec("n2", ["systemctl", "start", "labd"])
    site.wait(lambda: is_serving(site, "n2"), 60, "n2 resumed")


def test_an_administrators_drain_is_never_touched(site: Lab) -> None:
    site.scontrol("update", "nodename=n2", "state=drain", "reason=bad DIMM B2, do not touch")
    site.exec("n2", ["systemctl", "stop", "labd"])
    site.wait(lambda: "failing" in json.dumps(refloat(site, "status", "n2")), 30, "the check seen to fail")
    time.sleep(8)
    mine = site.record("n2")["Reason"]
    site.exec("n2", ["systemctl", "start", "labd"])
    time.sleep(8)

    assert mine.startswith("bad DIMM B2, do not touch [root@")
    assert site.record("n2")["Reason"] == mine
    assert "DRAIN" in site.node_state("n2")

    site.scontrol("update", "nodename=n2", "state=resume")


def test_a_node_that_cannot_mount_is_held_and_a_new_trigger_goes_on(site: Lab) -> None:
    knob = site.node("n3").share / "mmmount.fail"
    knob.write_text("no quorum\n")
    reboots = site.reboots("n3")
    site.scontrol("update", "nodename=n3", "state=drain", "reason=reboot: kernel")
    site.wait(lambda: site.record("n3").get("Reason", "").startswith("refloat-hold: "), 180, "n3 held")

    assert "no quorum" in site.record("n3")["Reason"]
    assert {"DOWN", "DRAIN"} <= site.node_state("n3")

    knob.unlink()
    site.scontrol("update", "nodename=n3", "reason=reboot")
    site.wait(lambda: site.reboots("n3") == reboots + 2, 60, "the second reboot")
    site.wait(lambda: is_serving(site, "n3"), 60, "n3 in service")


def test_a_wave_survives_its_coordinator_and_the_record_its_database(site: Lab) -> None:
    for name in site.names():
        site.node(name).put("/etc/image-release", "compute 3f2a1c0d9e\n")
    boots = {name: site.boot_id(name) for name in site.names()}
    jobs = [site.submit(name, "sleep 4") for name in site.names() for _ in range(2)]

    with Watch(site) as watch:
        report = refloat(
            site, "wave", "start", "n[1-4]", "--recipe", "reboot", "--image", "compute-3f2a1c0",
            "--max-unavailable", "1", "--canary", "1",
        )  # fmt: skip
        watching = subprocess.Popen(
            [*site.node(CONTROLLER).enter(), "refloat", "wave", "watch", report["id"]],
            stdout=subprocess.PIPE,
            text=True,
        )
        site.wait(lambda: count(site, report["id"], "done") >= 1, 120, "the canary done")
        site.exec(CONTROLLER, ["systemctl", "stop", "influxdb"])
        site.exec(CONTROLLER, ["systemctl", "kill", "--signal=KILL", "refloat-coordinator"])
        site.wait(lambda: count(site, report["id"], "done") == 4, 240, "the wave done")
        output, _ = watching.communicate(timeout=60)
    site.exec(CONTROLLER, ["systemctl", "start", "influxdb"])

    assert watching.returncode == 0, output
    assert "4 done" in output
    assert watch.most_out == 1
    assert all(site.boot_id(name) != boots[name] for name in site.names())
    assert {site.job_state(job) for job in jobs} == {"COMPLETED"}
    site.wait(lambda: ids(points(site)) == ids(refloat(site, "events")), 60, "every event in InfluxDB, once")
    events = refloat(site, "events")
    for name in site.names():
        of_the_wave = [e["kind"] for e in events if e["node"] == name and e.get("wave") == report["id"]]
        assert of_the_wave.count("reboot") == 1
        assert of_the_wave.count("resumed") == 1
        assert {"drain_seen", "permit_granted", "phase_entered", "booted"} <= set(of_the_wave)


def count(lab: Lab, wave: str, turn: str) -> int:
    """How many nodes of a wave are so far; -1 while the coordinator is away."""
    done = lab.exec(CONTROLLER, ["refloat", "wave", "show", wave, "--json"], check=False)
    return int(json.loads(done.stdout)["report"]["counts"].get(turn, 0)) if done.returncode == 0 else -1


def ids(rows: list[dict[str, Any]]) -> list[str]:
    """The events' ids, in order."""
    return sorted(row["id"] for row in rows)


def points(lab: Lab) -> list[dict[str, Any]]:
    """What InfluxDB has of the record."""
    argv = ["influx", "-database", "refloat", "-format", "json", "-execute", "SELECT * FROM slurm"]
    result = json.loads(lab.exec(CONTROLLER, argv).stdout)["results"][0]
    if "series" not in result:
        return []
    series = result["series"][0]
    return [dict(zip(series["columns"], row, strict=True)) for row in series["values"]]
