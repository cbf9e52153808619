# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_contract.images import image_id, is_image


@pytest.mark.parametrize(
    ("release", "image"),
    [
        ("compute 3f2a1c0d9e\n", "compute-3f2a1c0d9e"),
        ("compute-7\nbuilt on Monday\n", "compute-7"),
        ("  ", ""),
        ("", ""),
    ],
)
def test_the_image_id_is_the_first_line_joined_by_dashes(release: str, image: str) -> None:
    assert image_id(release) == image


@pytest.mark.parametrize(
    ("wanted", "booted", "same"),
    [
        ("compute-2", "compute-2", True),
        ("compute-3f2a1c0", "compute-3f2a1c0d9e", True),
        ("compute-1", "compute-10", False),
        ("compute-3f2a1c", "compute-3f2a1c0d9e", False),
        ("login-3f2a1c0", "compute-3f2a1c0d9e", False),
        ("compute-3f2a1c0d9e", "compute-3f2a1c0", False),
        ("compute-2", "", False),
        ("compute-3f2a1c0", "compute-3f2a1c0-dirty", False),
    ],
)
def test_a_commit_may_be_abbreviated_and_nothing_else(wanted: str, booted: str, *, same: bool) -> None:
    assert is_image(wanted, booted) is same
