# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_checks.nhc.slurm_marking import offline, online


def test_a_node_in_service_is_drained_with_nhcs_words() -> None:
    assert offline("idle", "none", "check_x:  bad") == ["update", "State=DRAIN", "Reason=NHC: check_x:  bad"]


def test_a_left_over_reason_takes_the_place_of_the_message() -> None:
    assert offline("mix", "Not   responding", "bad") == ["update", "State=DRAIN", "Reason=Not responding"]


@pytest.mark.parametrize("state", ["drain", "drng*", "fail", "maint"])
def test_a_node_that_is_out_without_a_reason_is_left_alone(state: str) -> None:
    assert offline(state, "none", "bad") is None
    assert online(state, "none") is None
    assert offline(state, "none", "bad", ignore_empty_note=True) == ["update", "State=DRAIN", "Reason=NHC: bad"]
    assert online(state, "none", ignore_empty_note=True) == ["update", "State=RESUME"]


@pytest.mark.parametrize("state", ["idle@", "down#", "mix-", "boot", "plnd", "drain@", "", "unk", "powdn", "reboot"])
def test_states_that_nhc_does_not_handle_are_left_alone(state: str) -> None:
    assert offline(state, "NHC: x", "bad") is None
    assert online(state, "NHC: x") is None


@pytest.mark.parametrize(("reason", "ours"), [("NHC: x", True), ("NHC:", True), ("NHC:x", False), ("nhc: x", False)])
def test_only_nhcs_own_reason_is_cleared(reason: str, *, ours: bool) -> None:
    assert online("drain", reason) == (["update", "State=RESUME"] if ours else None)


def test_a_down_node_is_not_drained_but_resumed_if_it_was_nhcs() -> None:
    assert offline("down*", "NHC: x", "bad") is None
    assert online("down*", "NHC: x", node="n1") == ["update", "State=RESUME", "NodeName=n1"]
