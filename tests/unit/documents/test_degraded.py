# SPDX-License-Identifier: Apache-2.0
"""docs/degraded.md names tests that are there."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_test_that_the_page_names_is_there() -> None:
    named = _TEST.findall((CHECKOUT / "docs/degraded.md").read_text())
    missing = [f"{path}::{test}" for path, test in named if f"def {test}(" not in (CHECKOUT / path).read_text()]

    assert missing == []
    assert len(named) > 10
