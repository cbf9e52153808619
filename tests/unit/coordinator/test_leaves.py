# SPDX-License-Identifier: Apache-2.0
from refloat_contract.words import RequestKind
from refloat_coordinator.leaves import LEAVE_S, Leaves, answer

START = Leaves(most=2, since=0.0)
ASK, RELEASE = RequestKind.PERMIT, RequestKind.RELEASE
T0 = LEAVE_S


def test_no_more_nodes_than_allowed_have_leave_and_one_that_is_given_back_goes_to_the_next() -> None:
    leaves, first = answer(START, "n1", ASK, T0)
    leaves, second = answer(leaves, "n2", ASK, T0)
    leaves, third = answer(leaves, "n3", ASK, T0)
    leaves, _ = answer(leaves, "n1", RELEASE, T0)
    leaves, again = answer(leaves, "n3", ASK, T0)

    assert (first, second, again) == (None, None, None)
    assert third == "idle checks run on 2 of at most 2 nodes"
    assert set(leaves.until) == {"n2", "n3"}


def test_a_leave_that_is_renewed_goes_on_and_one_that_is_not_ends() -> None:
    leaves, _ = answer(START, "n1", ASK, T0)
    leaves, _ = answer(leaves, "n2", ASK, T0)
    leaves, renewed = answer(leaves, "n1", ASK, T0 + 60)
    leaves, third = answer(leaves, "n3", ASK, T0 + LEAVE_S)

    assert (renewed, third) == (None, None)
    assert set(leaves.until) == {"n1", "n3"}


def test_after_a_start_nobody_has_leave_until_all_that_was_given_before_has_ended() -> None:
    _, early = answer(START, "n1", ASK, LEAVE_S - 1)
    _, later = answer(START, "n1", ASK, LEAVE_S)

    assert early == "the coordinator has started: no idle checks for 90 s"
    assert later is None


def test_a_limit_of_0_gives_none() -> None:
    assert answer(Leaves(0, since=0.0), "n1", ASK, T0)[1] is not None
