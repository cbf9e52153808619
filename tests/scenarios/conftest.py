# SPDX-License-Identifier: Apache-2.0
"""The flag that rewrites the transcripts: pytest tests/scenarios --update-scenarios."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-scenarios", action="store_true", help="rewrite tests/scenarios/*.txt")
