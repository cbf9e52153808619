# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat_checks.nhc import units
from refloat_checks.nhc.units import BadUnit


@pytest.mark.parametrize("text", ["", "b", "k", "G", "xm", "1.5G", "1GiB", "99%", "010", "08g", "0x10", "1g1", "ten"])
def test_a_size_of_which_nhc_makes_no_number_is_an_error(text: str) -> None:
    with pytest.raises(BadUnit):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "kb"), [("010m", 8192), ("0x10m", 16384), ("1 g", 1 << 20), ("-2k", -2), ("2*3m", 6144), ("9e", 9 << 50)]
)
def test_a_scaled_size_goes_through_the_shells_arithmetic(text: str, kb: int) -> None:
    assert units.parse_size(text) == kb


def test_a_count_too_large_for_the_shell_wraps_as_it_does_there() -> None:
    assert units.parse_count("10e") == -8446744073709551616


@pytest.mark.parametrize("text", ["", "1b", "1.5k", "k", "1kb"])
def test_a_count_of_which_nhc_makes_no_number_is_an_error(text: str) -> None:
    with pytest.raises(BadUnit):
        units.parse_count(text)


@settings(deadline=None)
@given(st.integers(0, 1 << 60))
def test_a_spelled_size_reads_back_within_ten_percent_of_a_step(kb: int) -> None:
    again = units.parse_size(units.unparse_size(kb))

    assert abs(again - kb) <= 0.2 * kb


@settings(deadline=None)
@given(st.integers(0, 10**18))
def test_a_spelled_count_reads_back_within_ten_percent_of_a_step(count: int) -> None:
    again = units.parse_count(units.unparse_count(count))

    assert abs(again - count) <= 0.2 * count


@pytest.mark.parametrize(
    ("text", "seconds"), [("1w2d3h4m5s", 788645), ("1H", 3600), ("010m", 480), ("08h30m", 1800), ("", 0), ("90", 90)]
)
def test_times_are_read_as_nhc_reads_them(text: str, seconds: int) -> None:
    assert units.parse_timespec(text) == seconds


@pytest.mark.parametrize("text", ["5x", "1h 5m", "h", "1.5h", "08h", "1h\n"])
def test_a_time_that_nhc_reads_in_part_is_an_error_if_asked_for(text: str) -> None:
    assert units.parse_timespec(text) >= 0
    with pytest.raises(BadUnit):
        units.parse_timespec(text, strict=True)


@pytest.mark.parametrize(("text", "seconds"), [("m", 0), ("m5", 5), ("1m2m3", 63), ("010", 8), ("1M30s", 90)])
def test_cpu_times_are_read_as_nhc_reads_them(text: str, seconds: int) -> None:
    assert units.parse_cputime(text) == seconds


@pytest.mark.parametrize("text", ["", "90S", "1m30S", "08m", "1h", "-1", "1m 2s"])
def test_a_cpu_time_of_which_nhc_makes_no_number_is_an_error(text: str) -> None:
    with pytest.raises(BadUnit):
        units.parse_cputime(text)
