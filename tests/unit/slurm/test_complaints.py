# SPDX-License-Identifier: Apache-2.0

import pytest

from refloat_contract.errors import RefloatError, Refused, Transient, UnknownNode
from refloat_slurm.complaints import not_understood, sort_complaint


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("slurm_load_node error: Unable to contact slurm controller (connect failure)", Transient),
        ("slurm_update error: Socket timed out on send/recv operation", Transient),
        ("Munge encode failed: Failed to access (Did you start munged?)\nProtocol authentication error", Transient),
        ("slurm_update error: Invalid node name specified", UnknownNode),
        ("squeue: error: Invalid node name n9", UnknownNode),
        ("Node n9 not found", UnknownNode),
        ("Node 'n9' does not exist", UnknownNode),
        ("slurm_update error: Invalid user id", Refused),
        ("slurm_update error: Invalid node state specified", Refused),
        ("slurm_update error: Invalid node state transition", Refused),
        ("slurm_load_node error: Access/permission denied", Refused),
        ("scontrol_reboot_nodes error: Permission denied", Refused),
        ("You must specify a reason when DOWNING or DRAINING a node. Request denied", Refused),
        ("Invalid input: state=bogus\nRequest aborted\nValid states are: DOWN", Refused),
        ("something nobody has seen", Transient),
        ("", Transient),
    ],
)
def test_a_complaint_is_sorted_by_who_must_act(text: str, kind: type[RefloatError]) -> None:
    error = sort_complaint(text)

    assert type(error) is kind
    assert str(error)


@pytest.mark.parametrize(
    ("errno", "kind"),
    [(1800, Transient), (5004, Transient), (1007, Transient), (2010, Refused), (2018, UnknownNode), (2028, Refused)],
)
def test_an_errno_that_is_known_decides(errno: int, kind: type[RefloatError]) -> None:
    assert type(sort_complaint("a text in another language", errno)) is kind


def test_an_errno_that_is_not_known_leaves_it_to_the_text() -> None:
    assert type(sort_complaint("Node 'n99' does not exist", -1)) is UnknownNode
    assert type(sort_complaint("a new error", 4711)) is Transient


def test_what_was_not_understood_is_shown_but_not_all_of_it() -> None:
    text = str(not_understood("sinfo", "x" * 100_000))

    assert "sinfo" in text
    assert len(text) < 300
