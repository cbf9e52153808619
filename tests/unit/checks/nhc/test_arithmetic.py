# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_checks.nhc.arithmetic import evaluate


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("010", 8),
        ("0x1F", 31),
        ("10#08", 8),
        ("2#101", 5),
        ("10#5-4", 1),
        ("10#5--4", 9),
        ("10#5-name", 5),
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("-7/2", -3),
        ("-7%2", -1),
        ("", 0),
        ("9223372036854775807+1", -(1 << 63)),
        ("10#99999999999999999999", 7766279631452241919),
        ("08", None),
        ("10#", None),
        ("10#-5", None),
        ("10#5-", None),
        ("10#5_", None),
        ("10#3.x", None),
        ("2#3", None),
        ("1#1", None),
        ("1 2", None),
        ("(1", None),
        ("1/0", None),
        ("$(date)", None),
        ("a[0]", None),
        ("*3", None),
    ],
)
def test_numbers_are_what_the_shell_makes_of_them(text: str, value: int | None) -> None:
    assert evaluate(text) == value
