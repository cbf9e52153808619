# SPDX-License-Identifier: Apache-2.0
"""SECURITY.md names tests that there are."""

import re
from pathlib import Path

TOP = Path(__file__).parents[2]
LINK = re.compile(r"\[(test_\w+)\]\(([\w/.]+)\)")


def test_every_test_that_the_page_names_is_where_it_says() -> None:
    named = LINK.findall((TOP / "SECURITY.md").read_text())

    assert len(named) > 15
    for name, place in named:
        assert f"def {name}" in (TOP / place).read_text(), name
