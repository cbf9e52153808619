# SPDX-License-Identifier: Apache-2.0

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refloat_slurm.gateway import NodeView
from refloat_slurm.states import (
    BASES,
    FLAGS,
    POWERS,
    REBOOTS,
    has_known_base,
    is_busy,
    is_drain_set,
    is_drained,
    is_foreign_operation,
    is_in_service,
    parse_flags,
    unknown_flags,
)

# Every state that was seen on a real Slurm (22.05, 24.11, 26.05):
# drain set, drained, busy, in service, foreign operation.
SEEN = {
    "IDLE": (0, 0, 0, 1, 0),
    "MIXED": (0, 0, 1, 1, 0),
    "ALLOCATED": (0, 0, 1, 1, 0),
    "MIXED+DRAIN": (1, 0, 1, 0, 0),
    "ALLOCATED+DRAIN": (1, 0, 1, 0, 0),
    "IDLE+COMPLETING+DRAIN": (1, 0, 1, 0, 0),
    "IDLE+COMPLETING": (0, 0, 1, 1, 0),
    "IDLE+DRAIN": (1, 1, 0, 0, 0),
    "DOWN+DRAIN": (1, 1, 0, 0, 0),
    "DOWN": (0, 0, 0, 0, 0),
    "IDLE+NOT_RESPONDING": (0, 0, 0, 0, 0),
    "MIXED+NOT_RESPONDING": (0, 0, 1, 0, 0),
    "DOWN+NOT_RESPONDING": (0, 0, 0, 0, 0),
    "IDLE+DRAIN+NOT_RESPONDING": (1, 1, 0, 0, 0),
    "DOWN+DRAIN+NOT_RESPONDING": (1, 1, 0, 0, 0),
    "MIXED+DRAIN+REBOOT_REQUESTED": (1, 0, 1, 0, 1),
    "MIXED+REBOOT_REQUESTED": (0, 0, 1, 0, 1),
    "ALLOCATED+REBOOT_REQUESTED": (0, 0, 1, 0, 1),
    "IDLE+REBOOT_REQUESTED": (0, 0, 0, 0, 1),
    "IDLE+DRAIN+REBOOT_REQUESTED": (1, 1, 0, 0, 1),
    "DOWN+DRAIN+REBOOT_REQUESTED": (1, 1, 0, 0, 1),
    "DOWN+DRAIN+REBOOT_ISSUED": (1, 1, 0, 0, 1),
    "DOWN+REBOOT_ISSUED": (0, 0, 0, 0, 1),
    "IDLE+FAIL": (0, 0, 0, 0, 0),
    "ALLOCATED+FAIL": (0, 0, 1, 0, 0),
    "ALLOCATED+FAIL+NOT_RESPONDING": (0, 0, 1, 0, 0),
    "IDLE+MAINTENANCE+RESERVED": (0, 0, 0, 1, 0),
    "IDLE+DRAIN+MAINTENANCE+RESERVED": (1, 1, 0, 0, 0),
    "IDLE+MAINTENANCE+RESERVED+NOT_RESPONDING": (0, 0, 0, 0, 0),
    "IDLE+RESERVED": (0, 0, 0, 1, 0),
    "IDLE+PLANNED": (0, 0, 0, 1, 0),
    "IDLE+POWER_DOWN": (0, 0, 0, 0, 1),
    "IDLE+POWERING_DOWN": (0, 0, 0, 0, 1),
    "IDLE+POWERED_DOWN": (0, 0, 0, 0, 1),
    "IDLE+POWER_DOWN+POWERED_DOWN": (0, 0, 0, 0, 1),
    "IDLE+POWER_UP+POWERED_DOWN": (0, 0, 0, 0, 1),
    "IDLE+NOT_RESPONDING+POWERING_UP": (0, 0, 0, 0, 1),
    "DOWN+POWERED_DOWN": (0, 0, 0, 0, 1),
    "IDLE+CLOUD+POWERED_DOWN": (0, 0, 0, 0, 1),
    "IDLE+CLOUD": (0, 0, 0, 1, 0),
    "FUTURE": (0, 0, 0, 0, 0),
    "UNKNOWN": (0, 0, 0, 0, 0),
    "UNKNOWN+DRAIN": (1, 0, 0, 0, 0),
    "UNKNOWN+DRAIN+INVALID_REG": (1, 0, 0, 0, 0),
    "IDLE+INVALID_REG": (0, 0, 0, 0, 0),
    "IDLE+BLOCKED": (0, 0, 0, 0, 0),
    "ERROR+DRAIN": (1, 0, 0, 0, 0),
}


@pytest.mark.parametrize(("text", "expected"), SEEN.items())
def test_what_a_state_means(text: str, expected: tuple[int, ...]) -> None:
    state = parse_flags(text)

    predicates = (is_drain_set, is_drained, is_busy, is_in_service, is_foreign_operation)
    assert tuple(int(predicate(state)) for predicate in predicates) == expected
    assert not unknown_flags(state)
    view = NodeView("n1", state)
    assert tuple(int(predicate(view)) for predicate in predicates) == expected


def test_every_base_with_every_two_flags_keeps_the_rules() -> None:
    choices = [(), *((flag,) for flag in FLAGS), *itertools.combinations(sorted(FLAGS), 2)]
    for base, flags in itertools.product(BASES, choices):
        state = frozenset({base, *flags})

        busy = bool(state & {"ALLOCATED", "MIXED", "COMPLETING"})
        known = base not in {"UNKNOWN", "ERROR"}
        keeps_jobs_away = state & (
            {"DRAIN", "FAIL", "NOT_RESPONDING", "INVALID_REG", "BLOCKED", "RESUME"} | REBOOTS | POWERS
        )
        assert is_busy(state) == busy
        assert is_drain_set(state) == ("DRAIN" in state)
        assert is_drained(state) == ("DRAIN" in state and not busy and known)
        assert is_in_service(state) == (base in {"IDLE", "MIXED", "ALLOCATED"} and not keeps_jobs_away)
        assert is_foreign_operation(state) == bool(state & (REBOOTS | POWERS))
        assert parse_flags("+".join([base, *flags])) == state
        assert parse_flags("+".join([base, *reversed(flags)]).lower()) == state


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("down*+drain", {"DOWN", "NOT_RESPONDING", "DRAIN"}),
        ("IDLE+DRAIN*$", {"IDLE", "DRAIN", "NOT_RESPONDING", "MAINTENANCE"}),
        ("idle~", {"IDLE", "POWERED_DOWN"}),
        ("idle#", {"IDLE", "POWERING_UP"}),
        ("idle!", {"IDLE", "POWER_DOWN"}),
        ("idle%", {"IDLE", "POWERING_DOWN"}),
        ("mixed@", {"MIXED", "REBOOT_REQUESTED"}),
        ("down^", {"DOWN", "REBOOT_ISSUED"}),
        ("idle-", {"IDLE", "PLANNED"}),
        ("IDLE+MAINT", {"IDLE", "MAINTENANCE"}),
        (" idle \n", {"IDLE"}),
    ],
)
def test_marks_and_other_spellings_are_understood(text: str, expected: set[str]) -> None:
    assert parse_flags(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "+", "IDLE+", "+DRAIN", "DRAIN", "drained", "IDLE DRAIN", "IDLE,DRAIN", "n/a", "IDLE+DOWN", "?", "IDLE+1",
     "(null)", "ÏDLE"],
)  # fmt: skip
def test_what_is_no_state_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="state"):
        parse_flags(text)


def test_flags_of_a_later_slurm_are_kept_and_named() -> None:
    state = parse_flags("IDLE+DRAIN+QUARANTINED+?")

    assert unknown_flags(state) == {"QUARANTINED", "?"}


@pytest.mark.parametrize("state", [frozenset(), frozenset({"DRAIN"}), frozenset({"IDLE", "DOWN", "DRAIN"})])
def test_a_set_without_one_base_state_is_neither_drained_nor_in_service(state: frozenset[str]) -> None:
    assert not has_known_base(state)
    assert not is_drained(state)
    assert not is_in_service(state)


@given(st.text())
def test_any_text_is_a_state_or_a_value_error(text: str) -> None:
    try:
        state = parse_flags(text)
    except ValueError:
        return

    assert len(state & BASES) == 1
