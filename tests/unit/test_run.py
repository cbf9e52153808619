# SPDX-License-Identifier: Apache-2.0
"""What `make test` says of itself."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from run import Lane, Step

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


def test_a_failed_step_does_not_keep_the_next_from_running() -> None:
    said = Step("said", (sys.executable, "-c", "print('heard')"))
    lane = Lane([Step("failed", (sys.executable, "-c", "raise SystemExit(3)")), Step("none", (), "no lab"), said])
    with tempfile.TemporaryFile("w+") as out:
        lane.run(out)
        out.seek(0)
        assert out.read().splitlines() == ["==> failed", "==> none: left out: no lab", "==> said", "heard"]

    assert [(name, how.split(" after")[0].split(" in")[0]) for name, how in lane.outcomes] == [
        ("failed", "FAILED (status 3)"),
        ("none", "left out: no lab"),
        ("said", "passed"),
    ]


def test_a_lane_that_is_stopped_lets_its_step_clean_up_and_starts_no_other(tmp_path: Path) -> None:
    waits = f"""
import pathlib, time
try:
    pathlib.Path({str(tmp_path / "began")!r}).touch()
    time.sleep(25)
finally:
    pathlib.Path({str(tmp_path / "cleaned")!r}).touch()
"""
    after = Step("after", (sys.executable, "-c", f"open({str(tmp_path / 'after')!r}, 'w')"))
    lane = Lane([Step("waits", (sys.executable, "-c", waits)), after])
    with tempfile.TemporaryFile("w+") as out:
        running = threading.Thread(target=lane.run, args=(out,))
        running.start()
        while not (tmp_path / "began").exists():
            pass
        lane.stop()
        running.join()

    assert (tmp_path / "cleaned").exists()
    assert not (tmp_path / "after").exists()


def test_continuous_integration_runs_make_test_and_nothing_else() -> None:
    lines = [line for line in (TOP / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]

    assert lines == ["set -eu", 'cd "$(dirname "$0")/.."', "exec make test"]
