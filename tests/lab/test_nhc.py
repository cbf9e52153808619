# SPDX-License-Identifier: Apache-2.0
"""`nhc` as Slurm's HealthCheckProgram: by itself, beside an agent that observes, and beside one that acts."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from reflab import app, host
from reflab.cluster import Lab
from reflab.places import CONTROLLER

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

# Much more often, and slurmctld finds no time for the pings that a resumed node must answer.
SLURM_CONF = """\
HealthCheckProgram=/usr/sbin/nhc
HealthCheckInterval=3
HealthCheckNodeState=ANY
"""
NHC_CONF = """\
* || VERBOSE=1
* || check_file_test -f /lab/well
"""
AGENT_TOML = """\
mode = "{mode}"
nhc_conf = "/etc/nhc/nhc.conf"
nhc_interval_s = 1
[slurm]
poll_s = 2
"""
ALONE, OBSERVED, ACTED = "n1", "n2", "n3"
MESSAGE = "check_file_test:  -f /lab/well returned 1."
MINE = "bad DIMM B2, do not touch"


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    """Three nodes whose health Slurm checks all the time: without an agent, with one that observes, one that acts."""
    why = host.obstacle()
    if why:
        pytest.skip(why)
    lab = Lab(nodes=3, project=app.App(), start_project=False, slurm_conf=SLURM_CONF)
    lab.places = replace(lab.places, name="nhc")
    lab.up()
    try:
        for name in lab.names():
            # Well from the first look on: a node that fails again soon after a resume stays out for longer.
            set_well(lab, name)
            lab.node(name).put("/etc/nhc/nhc.conf", NHC_CONF)
        run_agent(lab, OBSERVED, "observe")
        run_agent(lab, ACTED, "act")
        yield lab
    finally:
        lab.down()


@pytest.fixture(autouse=True)
def well(site: Lab) -> None:
    """Every node well, in service, and looked at so."""
    for name in site.names():
        set_well(site, name)
    for name in site.names():
        site.restore(name)


def set_well(lab: Lab, name: str, *, well: bool = True) -> None:
    """Make the node's one check pass, or fail."""
    file = lab.node(name).share / "well"
    file.touch() if well else file.unlink(missing_ok=True)


def run_agent(lab: Lab, name: str, mode: str) -> None:
    """Start the node's agent, which looks at the nhc.conf."""
    lab.node(name).put("/etc/refloat/agent.toml", AGENT_TOML.format(mode=mode))
    lab.exec(name, ["systemctl", "start", "refloat-agent"])


def runs(lab: Lab, name: str) -> int:
    """How often nhc has come to an end on the node."""
    log = lab.exec(name, ["cat", "/var/log/nhc.log"], check=False).stdout
    return len(re.findall("Health Check completed successfully|Health check failed:", log))


def whole_runs(lab: Lab) -> None:
    """Wait until nhc has run again on every node, from its start to its end."""
    wanted = {name: runs(lab, name) + 2 for name in lab.names()}
    lab.wait(lambda: all(runs(lab, name) >= wanted[name] for name in wanted), 30, "a run of nhc on every node")


def drains(lab: Lab, name: str) -> int:
    """How often slurmctld was told to drain the node."""
    log = lab.exec(CONTROLLER, ["cat", "/lab/slurmctld.log"]).stdout
    return log.count(f"update_node: node {name} state set to DRAIN")


def test_a_failing_check_drains_once_and_a_passing_one_resumes(site: Lab) -> None:
    before = {name: drains(site, name) for name in site.names()}
    for name in site.names():
        set_well(site, name, well=False)
    for name in site.names():
        site.wait(lambda name=name: "DRAIN" in site.node_state(name), 30, f"{name} drained")  # type: ignore[misc]
    reasons = {name: site.record(name)["Reason"] for name in site.names()}
    whole_runs(site)

    # A reason ends with who set it and when: what had been set again would show it.
    assert {name: site.record(name)["Reason"] for name in site.names()} == reasons
    assert {name: drains(site, name) - before[name] for name in site.names()} == dict.fromkeys(site.names(), 1)
    assert reasons[ALONE].startswith(f"NHC: {MESSAGE} [root@")
    assert reasons[OBSERVED].startswith(f"NHC: {MESSAGE} [root@")
    assert reasons[ACTED].startswith("refloat: check_file_test:/lab/well: check_file_test: ")

    for name in site.names():
        set_well(site, name)
    for name in site.names():
        site.wait_state(name, "IDLE", timeout=30)


def test_a_drain_of_an_administrators_is_untouched(site: Lab) -> None:
    for name in site.names():
        site.scontrol("update", f"nodename={name}", "state=drain", f"reason={MINE}")
    reasons = {name: site.record(name)["Reason"] for name in site.names()}

    for well in (False, True):
        for name in site.names():
            set_well(site, name, well=well)
        whole_runs(site)

        assert {name: site.record(name)["Reason"] for name in site.names()} == reasons
        assert all("DRAIN" in site.node_state(name) for name in site.names())
    assert all(reason.startswith(f"{MINE} [root@") for reason in reasons.values())


def test_the_agents_last_pass_is_the_answer(site: Lab) -> None:
    asked = site.exec(OBSERVED, ["nhc", "-v", "-l", "-", "MARK_OFFLINE=0"])
    set_well(site, OBSERVED, well=False)
    fresh = site.exec(OBSERVED, ["nhc", "-l", "-", "--fresh", "MARK_OFFLINE=0"], check=False)
    site.exec(OBSERVED, ["systemctl", "stop", "refloat-agent"])
    alone = site.exec(OBSERVED, ["nhc", "-l", "-", "MARK_OFFLINE=0"], check=False)
    site.exec(OBSERVED, ["systemctl", "start", "refloat-agent"])

    assert 'Running check:  "check_file_test -f /lab/well"' in asked.stdout
    assert fresh.returncode == alone.returncode == 1
    assert f"ERROR:  nhc:  Health check failed:  {MESSAGE}" in fresh.stdout
    assert f"ERROR:  nhc:  Health check failed:  {MESSAGE}" in alone.stdout


def test_an_agent_that_acts_takes_over_what_nhc_drained(site: Lab) -> None:
    # On a node without history: one that was in trouble just before stays out for longer.
    run_agent(site, ALONE, "act")
    reason = "NHC: check_hw_eth:  Ethernet device ib0 not detected."
    site.scontrol("update", f"nodename={ALONE}", "state=drain", f"reason={reason}")

    site.wait_state(ALONE, "IDLE", timeout=30)
    assert "health_resumed" in site.journal(ALONE, "-u", "refloat-agent")
