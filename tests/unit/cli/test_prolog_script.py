# SPDX-License-Identifier: Apache-2.0
"""The example of a Prolog: only a check that failed keeps a job from its node."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "packaging" / "examples" / "prolog.sh"
GOOD = "prolog: 3 good, 1 not"


@pytest.mark.parametrize(
    ("context", "status", "said", "ends", "tells"),
    [
        ("prolog_slurmd", 0, GOOD, 0, ""),
        ("prolog_slurmd", 1, f"UNKNOWN  gpu: slow\nFAILED  ib0: is down\n{GOOD}", 1, "refloat: FAILED  ib0: is down"),
        ("prolog_slurmd", 1, f"FAILED  fan: x (only warns)\nFAILED  ib0: is down\n{GOOD}", 1, "FAILED  ib0: is down"),
        ("epilog_slurmd", 1, f"FAILED  ib0: is down\n{GOOD}", 1, "refloat: FAILED  ib0: is down"),
        ("prolog_slurmd", 3, f"UNKNOWN  gpu: no answer\n{GOOD}", 0, ""),
        ("prolog_slurmd", 3, "refloat: refloat-agent does not listen", 0, ""),
        ("prolog_slurmd", 1, "Traceback (most recent call last):", 0, ""),
        ("prolog_slurmd", 127, "", 0, ""),
    ],
)
def test_only_a_failed_check_keeps_a_job_away(
    context: str, status: int, said: str, ends: int, tells: str, tmp_path: Path
) -> None:
    refloat = f'echo "$*" >{tmp_path}/asked\ncat {tmp_path}/said\nexit {status}\n'
    for name, text in {"refloat": refloat, "logger": ""}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "said").write_text(f"{said}\n")
    script = SCRIPT.read_text().replace("/usr/bin/refloat", str(tmp_path / "refloat"))

    done = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SCRIPT_CONTEXT": context},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == ends, done.stderr
    assert tells in done.stdout
    assert bool(done.stdout) == bool(tells)
    assert (tmp_path / "asked").read_text() == f"check --profile {context.partition('_')[0]}\n"
