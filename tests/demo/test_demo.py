# SPDX-License-Identifier: Apache-2.0
"""`refloat demo` keeps what it promises: run as a user runs it, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(180)
def test_the_demo_updates_holds_and_harms_nobody(tmp_path: Path) -> None:
    argv = [str(Path(sys.executable).parent / "refloat"), "demo", "--json", "--keep", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=170, check=False)

    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["nodes"], outcome["updated"], outcome["jobs_harmed"]) == (24, 22, 0)
    assert sorted(outcome["held"]) == ["n11", "n17"]
    assert "did not come back" in outcome["held"]["n11"]
    assert "nvidia-persiste" in outcome["held"]["n17"]
    assert 1 <= outcome["max_out"] <= outcome["budget"] == 6
    assert outcome["jobs_run"] > 24
    assert outcome["reboots"] == 24
    assert outcome["seconds"] <= 90
    assert "Traceback" not in (tmp_path / "log.json").read_text()
