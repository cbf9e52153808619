# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: started, told to stop, and given a bad configuration."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

AGENT = Path(sys.executable).parent / "refloat-agent"


def _config(folder: Path, extra: str = "") -> Path:
    path = folder / "agent.toml"
    path.write_text(
        f'node = "n1"\nstate_dir = "{folder}/state"\nsocket = "{folder}/agent.sock"\n{extra}\n'
        '[slurm]\nbackend = "scontrol"\n[log]\nformat = "json"\n'
    )
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen([AGENT, "--config", _config(tmp_path)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if '"agent_started"' in line:
                break
        process.send_signal(number)
        rest = process.stderr.read()
        status = process.wait(timeout=15)

    assert status == 0, rest
    assert "Traceback" not in rest


def _until(log: IO[str], word: str) -> None:
    assert any(f'"{word}"' in line for line in log)


def test_a_reload_takes_over_the_checks_and_a_wrong_configuration_changes_nothing(tmp_path: Path) -> None:
    config = _config(tmp_path)
    good = config.read_text()
    with subprocess.Popen([AGENT, "--config", config], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        _until(process.stderr, "agent_started")
        config.write_text(good + '[[check]]\nname = "tmp"\ntype = "file"\n')
        process.send_signal(signal.SIGHUP)
        _until(process.stderr, "checks_not_reloaded")
        config.write_text(good + '[[check]]\nname = "tmp"\ntype = "file"\npath = "/tmp"\n')
        process.send_signal(signal.SIGHUP)
        _until(process.stderr, "checks_reloaded")
        _until(process.stderr, "check")
        process.terminate()
        rest = process.stderr.read()
        status = process.wait(timeout=15)

    assert (status, "Traceback" in rest) == (0, False)


def test_a_bad_configuration_is_one_line_and_status_78(tmp_path: Path) -> None:
    done = subprocess.run(
        [AGENT, "--config", _config(tmp_path, 'mod = "act"')], capture_output=True, text=True, timeout=20, check=False
    )

    assert done.returncode == 78
    assert done.stderr.count("\n") == 1
    assert "unknown key; did you mean 'mode'?" in done.stderr


def test_a_second_agent_says_that_one_is_running(tmp_path: Path) -> None:
    config = _config(tmp_path)
    with subprocess.Popen([AGENT, "--config", config], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not (tmp_path / "agent.sock").exists():
            assert process.poll() is None
        second = subprocess.run([AGENT, "--config", config], capture_output=True, text=True, timeout=20, check=False)
        process.terminate()
        process.stderr.read()
        process.wait(timeout=15)

    assert second.returncode == 78
    assert "already running" in second.stderr


def test_a_dry_run_tells_what_a_cycle_would_do_and_does_nothing(tmp_path: Path) -> None:
    config = _config(tmp_path, '[[storage]]\nname = "proc"\npath = "/proc"\n')
    config.write_text('mode = "act"\n' + config.read_text())
    with subprocess.Popen([AGENT, "--config", config], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        _until(process.stderr, "agent_started")
        asked: list[str | Path] = [AGENT.with_name("refloat"), "cycle", "plan", "--socket", tmp_path / "agent.sock"]
        planned = subprocess.run([*asked, "--json"], capture_output=True, text=True, timeout=40, check=False)
        unknown = subprocess.run([*asked, "--recipe", "x"], capture_output=True, text=True, timeout=40, check=False)
        process.terminate()
        rest = process.stderr.read()

    answer = json.loads(planned.stdout)
    assert [step["step"] for step in answer["steps"]] == [
        "stop",
        "unmount",
        "reboot",
        "mount",
        "start",
        "check",
        "resume",
    ]
    assert answer["steps"][1]["does"][0].startswith("proc: umount /proc")
    assert (unknown.returncode, "no recipe 'x'" in unknown.stderr) == (1, True)
    assert '"action"' not in rest
