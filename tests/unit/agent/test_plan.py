# SPDX-License-Identifier: Apache-2.0
"""The dry run: what a recipe would do here, and what it would wait for first."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refloat_agent.config import ENV_PREFIX, AgentSettings
from refloat_agent.observation import Observation, PermitFacts, ServiceFacts, SlurmFacts, StepProcess, StorageFacts
from refloat_agent.plan import Means, Plan, StorageMeans, plan
from refloat_agent.state import Policy
from refloat_service.settings import load
from refloat_slurm.gateway import Job, NodeView

TOML = """
mode = "act"
[recipes.firmware]
triggers = { firmware = "flashing" }
steps = [
  { step = "stop" }, { step = "unmount" },
  { step = "run", argv = [["fwupdate", "--apply"]], deadline_s = 1800, retries = 2, on_failure = "skip" },
  { step = "reboot", how = "kexec", pre = [["kexec", "-l", "/boot/vmlinuz"]] },
  { step = "mount" }, { step = "start" }, { step = "check" }, { step = "resume" } ]
"""
MEANS = Means(
    (
        StorageMeans("home", "mount /home", "umount /home", "hold"),
        StorageMeans("scratch", "mount /scratch", "umount /scratch", "wait", "pid 991 python uid 1000"),
    ),
    checks=("labd", "ib"),
)


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    (tmp_path / "agent.toml").write_text(TOML)
    return load(AgentSettings, tmp_path / "agent.toml", env_prefix=ENV_PREFIX, env={}).policy()


def _plan(policy: Policy, flags: str = "IDLE", reason: str = "", **facts: Any) -> Plan:
    usual: dict[str, Any] = {
        "slurm": SlurmFacts(NodeView("n1", frozenset(flags.split("+")), reason, "alice", 1), fresh=True),
        "jobs": (),
        "steps": (),
        "storage": tuple(StorageFacts(name, mounted=True, right=True) for name in ("home", "scratch")),
        "services": (ServiceFacts("a.service", active=True), ServiceFacts("b.service", active=False)),
    }
    return plan("firmware", Observation(1000.0, 1, "boot", **{**usual, **facts}), policy, MEANS)


def test_every_step_is_shown_with_what_it_would_do_and_its_limits(policy: Policy) -> None:
    planned = _plan(policy)

    assert (planned.trigger, planned.waits) == ("firmware", ())
    assert [(step.number, step.step, step.does) for step in planned.steps[:4]] == [
        (1, "stop", ("systemctl stop a.service",)),
        (
            2,
            "unmount",
            ("scratch: umount /scratch; used by pid 991 python uid 1000 (busy = 'wait')", "home: umount /home"),
        ),
        (3, "run", ("fwupdate --apply",)),
        (
            4,
            "reboot",
            (
                "pre hook: kexec -l /boot/vmlinuz",
                "systemctl kexec",
                "after 300 s more: force",
                "after 120 s more: force-force",
                "after 60 s more: sysrq",
            ),
        ),
    ]
    assert planned.steps[2].limits == "1800 s, 3 attempts, then skip"
    assert planned.steps[6].does == ("2 checks: labd, ib",)


@pytest.mark.parametrize(
    ("facts", "wait"),
    [
        ({"jobs": (Job("4711", "alice", "RUNNING"),)}, "job 4711 of alice is RUNNING"),
        ({"jobs": None}, "could not be listed"),
        ({"steps": (StepProcess(9, "slurmstepd: [7.0]"),)}, "slurmstepd: [7.0] (pid 9)"),
        ({"slurm": None, "slurm_error": "connect failure"}, "does not answer: connect failure"),
        ({"flags": "DOWN+DRAIN+REBOOT_ISSUED"}, "Slurm itself is rebooting"),
        ({"flags": "IDLE+DRAIN", "reason": "bad dimm"}, "drained already: bad dimm"),
    ],
)
def test_what_would_be_waited_for_is_said_first(policy: Policy, facts: dict[str, Any], wait: str) -> None:
    (said,) = _plan(policy, **facts).waits

    assert wait in said


def test_a_coordinator_is_asked_first_and_an_observer_does_nothing(policy: Policy) -> None:
    asked = _plan(replace(policy, has_coordinator=True), permit=PermitFacts(coordinator=True))

    assert asked.waits == ("a permit of the coordinator",)
    assert "observe" in _plan(replace(policy, acts=False)).waits[0]


def test_what_cannot_be_told_is_said(policy: Policy) -> None:
    planned = _plan(policy, storage=None, services=None)

    assert planned.steps[0].does == ("the services' states could not be read",)
    assert planned.steps[1].does == ("the mount table could not be read",)
