# SPDX-License-Identifier: Apache-2.0
import pytest
from unit.coordinator.world import view

from refloat_contract.reasons import Dialect
from refloat_coordinator import outage


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("IDLE", "", ""),
        ("IDLE", "rebooting refloat=old", ""),  # a stale reason of a node in service says nothing
        ("ALLOCATED", "", ""),
        ("MIXED+DRAIN", "reboot", ""),  # merely draining with a trigger: not out yet
        ("IDLE+DRAIN", "reboot wave=w1", ""),
        ("IDLE+DRAIN", "reboot : Not responding", ""),
        ("IDLE+DRAIN+NOT_RESPONDING", "reboot", "not responding: reboot"),
        ("IDLE+NOT_RESPONDING", "rebooting refloat=old", "not responding"),  # just resumed; the reason is a stale one
        ("DOWN+DRAIN", "rebooting refloat=c1", "down: rebooting refloat=c1"),
        ("IDLE+DRAIN", "rebooting refloat=c1", "drained: rebooting refloat=c1"),
        ("IDLE+DRAIN", "bad DIMM", "drained: bad DIMM"),
        ("MIXED+DRAIN", "bad DIMM", "draining: bad DIMM"),
        ("IDLE+DRAIN", "", "drained"),
        ("IDLE+DRAIN", "refloat: mount: /x is gone", "drained: refloat: mount: /x is gone"),
        ("IDLE+DRAIN", "refloat-hold: no link refloat=c1", "drained: refloat-hold: no link refloat=c1"),
        ("DOWN+NOT_RESPONDING", "Not responding", "down: Not responding"),
        ("IDLE+FAIL", "x", "fail: x"),
        ("IDLE+POWERED_DOWN", "", "powered down"),
        ("IDLE+DRAIN+POWERED_DOWN", "bad DIMM", "powered down: bad DIMM"),
        ("DOWN+POWERED_DOWN", "ResumeTimeout reached", "down: ResumeTimeout reached"),
        ("IDLE+POWERING_UP+NOT_RESPONDING", "", "powering up"),
        ("UNKNOWN", "", "not registered"),
        ("IDLE+REBOOT_REQUESTED", "R", "about to be rebooted by Slurm: R"),
    ],
)
def test_why_a_node_is_out(state: str, reason: str, expected: str) -> None:
    assert outage.cause(view(state=state, reason=reason), Dialect()) == expected


def test_a_node_that_slurm_does_not_know_is_out() -> None:
    assert outage.cause(view(known=False), Dialect()) == "unknown to Slurm"


@pytest.mark.parametrize(
    ("state", "expected"),
    [("DOWN", True), ("DOWN+DRAIN", True), ("DOWN+NOT_RESPONDING", False), ("UNKNOWN+DRAIN", False), ("IDLE", False)],
)
def test_only_a_node_that_slurm_talks_to_is_down_for_sure(state: str, expected: bool) -> None:  # noqa: FBT001
    assert outage.is_down_for_sure(view(state=state)) is expected
