# SPDX-License-Identifier: Apache-2.0
"""What `make test` says of itself."""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]


def _list(**env: str) -> str:
    argv = [sys.executable, str(TOP / "tests" / "run.py"), "--list"]
    return subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, **env}).stdout


def test_every_kind_of_check_is_a_step() -> None:
    listed = _list()

    for word in ("ruff format", "ruff check", "mypy", "pyright", "lint-imports", "pytest", "generate.py"):
        assert f"/{word}" in listed


def test_what_is_left_out_is_said_with_its_reason() -> None:
    assert "lab: left out: REFLOAT_NO_LAB is set" in _list(REFLOAT_NO_LAB="1")


def test_the_broker_is_tried_where_there_is_one() -> None:
    assert "-m broker" in _list() or "broker: left out: there is no mosquitto here" in _list()


def test_continuous_integration_runs_make_test_and_nothing_else() -> None:
    lines = [line for line in (TOP / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]

    assert lines == ["set -eu", 'cd "$(dirname "$0")/.."', "exec make test"]
