# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_checks.nhc.conf import Line, check_lines, lines
from refloat_contract.errors import Misconfigured


@pytest.mark.parametrize(
    ("text", "checks"),
    [
        ("* || a\n* || b", ["a"]),  # no line's end, no line
        ("* || a || b\n", ["a || b"]),
        ("* || a \\\n  b\n", ["a   b"]),
        ("* || a\\\\\n", ["a\\"]),
        ("* || a\r\n", ["a\r"]),
        ("* || a \\ \n", ["a"]),
        ("  \t* ||\t a  \t\n", ["a"]),
        ("n1\n", ["n1"]),
        ("\\#n1 || a\n", []),
        ("* || a # b\n", ["a # b"]),
        ("* ||\n||a\n\n  \n", []),
        ("* || a\0b\n", ["ab"]),
        ("!n2 || a\n!{login} || b\n", ["a", "b"]),
        ("/[/ || a\n!/[/ || b\n", ["b"]),
    ],
)
def test_lines_are_read_as_nhc_reads_them(text: str, checks: list[str]) -> None:
    assert check_lines(text, "n1") == checks


def test_a_line_knows_where_it_begins() -> None:
    assert list(lines("# c\n\nn1 || a \\\nb\n* || c\n")) == [Line(3, "n1", "a b"), Line(5, "*", "c")]


@pytest.mark.parametrize("target", ["/", "!/"])
def test_a_lone_slash_is_an_error_because_nhc_would_run_no_check_at_all(target: str) -> None:
    with pytest.raises(Misconfigured, match=rf"line 2: column {len(target)} of the target '{target}'"):
        check_lines(f"* || a\n{target} || b\n", "n1")


def test_a_target_that_means_nothing_is_an_error_if_asked_for() -> None:
    with pytest.raises(Misconfigured, match=r"line 3: column 2 of the target '\{login\}': 'login' is no node"):
        check_lines("* || a\n\n{login} || b\n", "n1", strict=True)
