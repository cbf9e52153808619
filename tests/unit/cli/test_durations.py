# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_cli import durations
from refloat_contract.errors import Misconfigured


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("2h", 7200), ("1d", 86400), (" 5 m ", 300)]
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert durations.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5", "5 weeks", "1h30m"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(Misconfigured, match="write 90, 90s, 10m"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (59.9, "59s"),
        (65, "1m05s"),
        (7380, "2h03m"),
        (3 * 86400 + 4 * 3600, "3d04h"),
        (900 * 86400, "900d00h"),
    ],
)
def test_a_duration_is_short(seconds: float, text: str) -> None:
    assert durations.short(seconds) == text


@pytest.mark.parametrize(
    ("text", "at"), [("2h", 1e9 - 7200), ("2001-09-09", 999993600), ("2001-09-09T01:46", 999999960)]
)
def test_a_moment_is_an_age_or_a_date(text: str, at: float) -> None:
    assert durations.moment(text, 1e9) == at


def test_what_is_no_moment_is_refused_with_examples() -> None:
    with pytest.raises(Misconfigured, match="write 2h"):
        durations.moment("yesterday", 1e9)
