# SPDX-License-Identifier: Apache-2.0
"""`refloat simulate`: what it foretells keeps the promises, can be repeated, and begins as a dump of Slurm says."""

import asyncio
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from refloat_cli.main import app
from refloat_cli.simulate import dumps, inventory
from refloat_cli.simulate.inventory import Mix
from refloat_cli.simulate.outcome import Outcome, outcome_of
from refloat_cli.simulate.plan import Plan, count_of, merged
from refloat_cli.simulate.plot import write
from refloat_cli.simulate.world import World
from refloat_contract.errors import Misconfigured, Transient

WAVE = {"image": "compute-2", "max_unavailable": 4, "canary": 2, "max_failures": 3}
QUICK: dict[str, Any] = {
    "start": "2026-11-23T20:00",
    "jobs": {"mean_s": 600, "limit_s": 1800},
    "times": {"boot_s": 60},
    "limits": {"max_unavailable": 5},
    "turn_s": 10,
    "wave": WAVE,
}


def simulated(**settings: Any) -> tuple[World, Outcome]:
    plan = Plan.model_validate({**QUICK, "nodes": "n[1-20]", **settings})
    cluster = inventory.of_hostlist(plan.nodes)
    world = World(plan, cluster, Mix(plan.jobs, plan.jobs.load))
    asyncio.run(world.run())
    return world, outcome_of(world, 1.0)


def test_a_wave_over_a_busy_cluster_ends_with_every_node_done_and_no_job_harmed() -> None:
    world, outcome = simulated()
    assert (outcome.state, outcome.done, outcome.reboots) == ("done", 20, 20)
    assert outcome.jobs_harmed == 0
    assert outcome.jobs_run > 20
    assert outcome.most_out <= 4
    assert world.slurmctld.max_out <= 4
    assert outcome.least_serving >= 16
    assert all(node.image == "compute-2" for node in world.nodes.values())
    # Every node lost at least its shutdown, boot and mount.
    assert outcome.lost_node_hours > 20 * 60 / 3600


def test_a_wave_is_told_what_wave_start_is_told() -> None:
    jobs = {"order": "soonest-free", "deadline": "5m", "on-deadline": "requeue"}
    world, outcome = simulated(wave={**WAVE, **jobs, "soak": "5m", "blocker": "/bin/false"})

    assert (outcome.state, outcome.done, outcome.jobs_harmed) == ("done", 20, 0)
    assert world.wave is not None
    assert (world.wave.spec.soak_s, world.wave.spec.deadline_s) == (300, 300)


def test_the_same_seed_tells_the_same_and_another_does_not() -> None:
    first, again = simulated()[1], simulated()[1]
    assert first == again
    assert simulated(seed=2)[1] != first


def test_nodes_that_do_not_come_back_are_held_and_stop_the_wave_past_its_limit() -> None:
    wave = {**WAVE, "canary": 0, "node_deadline_s": 600}
    world, outcome = simulated(faults={"never_return": 2}, wave=wave)
    gone = {name for name, node in world.nodes.items() if node.gone}
    assert (outcome.state, outcome.done, len(gone)) == ("failed", 18, 2)
    assert all("did not come back" in why for why in outcome.held.values())
    world, outcome = simulated(faults={"never_return": 2}, wave={**wave, "max_failures": 0})
    assert outcome.state == "paused"
    assert outcome.not_begun > 0
    assert not outcome.is_good


def test_nodes_that_fail_a_check_after_the_boot_are_held() -> None:
    _, outcome = simulated(faults={"fail_check": 1}, wave={**WAVE, "canary": 0})
    assert outcome.state == "failed"
    assert outcome.done == 19
    assert "fails after the boot" in next(iter(outcome.held.values()))


def test_the_limits_of_groups_hold() -> None:
    racks = {"rack": {"sets": {"a": "n[1-10]", "b": "n[11-20]"}}}
    _, outcome = simulated(
        groups=racks,
        limits={"max_unavailable": 10, "per_group": {"rack": {"max_unavailable": 1}}},
        wave={**WAVE, "max_unavailable": 10, "canary": 0},
    )

    assert (outcome.state, outcome.done, outcome.most_out) == ("done", 20, 2)
    with pytest.raises(ValueError, match="no kind of group is called 'rak'"):
        Plan.model_validate({"limits": {"per_group": {"rak": {"max_unavailable": 1}}}, "groups": racks})


def test_a_larger_budget_takes_less_time_and_more_nodes_out() -> None:
    slow = simulated(wave={**WAVE, "max_unavailable": 1, "canary": 0})[1]
    fast = simulated(wave={**WAVE, "max_unavailable": 5, "canary": 0})[1]
    assert fast.duration_s < slow.duration_s
    assert slow.most_out == 1
    assert fast.most_out > 1


NODES = (
    "NodeName=n1 Arch=x86_64 CoresPerSocket=1 State=ALLOCATED ThreadsPerCore=1 BootTime=1780000000 "
    "SlurmdStartTime=1780000010\n"
    "NodeName=n2 Arch=x86_64 CoresPerSocket=1 State=IDLE+DRAIN ThreadsPerCore=1 BootTime=1780000000 "
    "SlurmdStartTime=1780000010 Reason=fan broken [root@1780000500]\n"
    "NodeName=n10 Arch=x86_64 CoresPerSocket=1 State=DOWN+NOT_RESPONDING ThreadsPerCore=1 BootTime=1780000000 "
    "SlurmdStartTime=1780000010 Reason=Not responding [slurm@1780000500]\n"
    "NodeName=n3 Arch=x86_64 CoresPerSocket=1 State=IDLE ThreadsPerCore=1 BootTime=1780000000 "
    "SlurmdStartTime=1780000010\n"
)
JOBS = "11|RUNNING|1|1:00:00|2-00:00:00|n1\n12_[1-4%2]|PENDING|2|30:00|30:00|\n"
HISTORY = "1|600|60\n2|1200|UNLIMITED\n"


def test_a_dumped_cluster_begins_with_its_drains_its_dead_nodes_and_its_jobs() -> None:
    found = inventory.read_jobs(JOBS, "jobs.txt", inventory.read_nodes(NODES, "nodes.txt"))
    assert found.names == ("n1", "n2", "n3", "n10")
    assert found.out == {"n2": "fan broken", "n10": "Not responding"}
    assert found.silent == {"n10"}
    (running,), (waiting,) = found.running, found.pending
    assert (running.on, running.left_s, running.limit_s) == (("n1",), 3600.0, 172800.0)
    assert (waiting.nodes, waiting.limit_s) == (2, 1800.0)
    plan = Plan.model_validate({**QUICK, "wave": {**WAVE, "nodes": "n[1-3,10]", "canary": 0, "node_deadline_s": 600}})
    history = inventory.read_history(HISTORY, "history.txt")
    world = World(plan, found, Mix(plan.jobs, inventory.load_of(found, plan.jobs), history))
    asyncio.run(world.run())
    outcome = outcome_of(world, 1.0)
    assert outcome.done == 2
    assert outcome.jobs_harmed == 0
    # A foreign drain stays what it was.
    view = world.slurmctld.view("n2")
    assert (view.reason, "DRAIN" in view.flags) == ("fan broken", True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("03:04", 184.0), ("1:02:03", 3723.0), ("2-01:00:00", 176400.0), ("UNLIMITED", 604800.0)],
)
def test_times_as_squeue_prints_them(text: str, seconds: float) -> None:
    assert inventory.seconds(text, "here") == seconds


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (lambda text: inventory.read_nodes(text, "dump"), "no nodes here\n"),
        (lambda text: inventory.read_jobs(text, "dump", inventory.Inventory(("n1",))), "11|RUNNING|1\n"),
        (
            lambda text: inventory.read_jobs(text, "dump", inventory.Inventory(("n1",))),
            "11|RUNNING|1|soon|1:00:00|n1\n",
        ),
        (lambda text: inventory.read_jobs(text, "dump", inventory.Inventory(("n1",))), "11|PENDING|x|1:00|1:00|\n"),
        (lambda text: inventory.read_history(text, "dump"), "NNodes|ElapsedRaw|TimelimitRaw\n"),
    ],
)
def test_a_dump_that_is_not_understood_is_refused_with_the_command_that_makes_one(read: Any, text: str) -> None:
    with pytest.raises(Misconfigured, match="dump") as error:
        read(text)
    assert "make" in str(error.value)


def test_the_picture_shows_what_nodes_were_at(tmp_path: Path) -> None:
    world, _ = simulated()
    write(tmp_path / "course.svg", world.course, "20 nodes")
    picture = (tmp_path / "course.svg").read_text()
    text = " ".join(ET.fromstring(picture).itertext())  # noqa: S314 - it was drawn above
    assert "20 nodes" in text
    for standing in ("jobs", "draining", "rebooting"):
        assert standing in text
    with pytest.raises(Misconfigured, match="cannot write"):
        write(tmp_path / "missing" / "course.svg", world.course, "20 nodes")


def test_the_command_line_is_laid_over_the_file() -> None:
    base = Plan.model_validate({"nodes": "n[1-4]", "times": {"boot_s": 60, "mount_s": 3}})
    both = merged(base, {"nodes": None, "times": {"boot_s": 90}, "faults": {"never_return": "50%"}})
    assert (both.nodes, both.times.boot_s, both.times.mount_s, both.faults.never_return) == ("n[1-4]", 90, 3, "50%")
    with pytest.raises(Misconfigured, match="never_return"):
        merged(base, {"faults": {"never_return": "half"}})


def test_the_command_tells_it_in_json(tmp_path: Path) -> None:
    spec = tmp_path / "plan.toml"
    spec.write_text(
        "turn_s = 10\n[jobs]\nmean_s = 600\nlimit_s = 1800\n[times]\nboot_s = 60\n[wave]\nmax_unavailable = 3\n"
    )
    asked = CliRunner().invoke(
        app, ["simulate", str(spec), "--nodes", "n[1-6]", "--limit", "3", "-w", "canary=1", "--json"]
    )
    assert asked.exit_code == 0, asked.output
    told = json.loads(asked.output)
    assert (told["nodes"], told["done"], told["jobs_harmed"]) == (6, 6, 0)


def test_a_simulation_without_a_cluster_says_how_to_name_one() -> None:
    result = CliRunner().invoke(app, ["simulate"])
    assert isinstance(result.exception, Misconfigured)
    assert "--nodes" in str(result.exception)


PROGRAM = """#!/bin/sh
case "$SLURM_TIME_FORMAT${SQUEUE_FORMAT:-}" in %s) /bin/cat "$0.says";; *) echo "odd environment" >&2; exit 1;; esac
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, says in (("scontrol", NODES), ("squeue", JOBS), ("sacct", HISTORY)):
        (tmp_path / name).write_text(PROGRAM)
        (tmp_path / name).chmod(0o755)
        (tmp_path / f"{name}.says").write_text(says)
    monkeypatch.setenv("PATH", str(tmp_path))
    # A user's own default must not change what is read.
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    return tmp_path


def test_this_cluster_is_read_by_slurms_own_programs(slurm: Path) -> None:
    assert asyncio.run(dumps.live()) == (NODES, JOBS, HISTORY)
    (slurm / "sacct").write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    assert asyncio.run(dumps.live()) == (NODES, JOBS, "")


def test_a_machine_without_slurm_says_how_to_simulate_another_cluster(slurm: Path) -> None:
    (slurm / "scontrol").unlink()
    with pytest.raises(Transient, match=r"scontrol.*--nodes-file"):
        asyncio.run(dumps.live())


@pytest.mark.parametrize(("share", "count"), [(0, 0), ("0%", 0), (3, 3), ("3", 3), ("2%", 1), ("50%", 10), (99, 20)])
def test_a_share_of_the_nodes_may_be_none(share: int | str, count: int) -> None:
    assert count_of(share, 20) == count
