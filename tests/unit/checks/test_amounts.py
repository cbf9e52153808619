# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_checks.amounts import least_count, least_size_kb, size_text


@pytest.mark.parametrize(
    ("text", "kb"),
    [
        ("2048", 2),
        ("10k", 10),
        ("10kB", 10),
        ("10KiB", 10),
        ("1.5M", 1536),
        ("2G", 2 << 20),
        ("1 TiB", 1 << 30),
        ("50%", 500),
    ],
)
def test_sizes_are_binary_and_bare_numbers_are_bytes(text: str, kb: float) -> None:
    assert least_size_kb(text, 1000) == kb


@pytest.mark.parametrize("text", ["", "G", "10X", "-1", "101%", "1GiBs", "1e3", "ten"])
def test_a_size_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|whole"):
        least_size_kb(text, 1000)


@pytest.mark.parametrize(("text", "count"), [("500", 500), ("2k", 2000), ("1.5M", 1_500_000), ("10%", 100)])
def test_counts_are_decimal(text: str, count: float) -> None:
    assert least_count(text, 1000) == count


def test_a_count_with_bytes_is_an_error() -> None:
    with pytest.raises(ValueError, match="count"):
        least_count("10kB", 1000)


@pytest.mark.parametrize(
    ("kb", "text"), [(0, "0 kB"), (1023, "1023 kB"), (1536, "1.5 MB"), (1 << 30, "1 TB"), (1 << 50, "1 EB")]
)
def test_sizes_are_spelled_for_humans(kb: int, text: str) -> None:
    assert size_text(kb) == text
