# SPDX-License-Identifier: Apache-2.0
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon

from refloat_cli import completing, completions

SHIPPED = Path(__file__).parents[3] / "packaging" / "completions"


@pytest.mark.parametrize("shell", completions.FILES)
def test_the_shipped_scripts_are_those_that_the_command_shows(shell: str) -> None:
    assert (SHIPPED / completions.FILES[shell]).read_text() == completions.script(shell)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("wave", "pl"), ["plan"]),
        (("wave", "start", "--on-d"), ["--on-deadline"]),
        (("wave", "start", "n1", "--order", ""), ["name", "idle-first", "soonest-free"]),
    ],
)
def test_bash_completes_commands_options_and_values(
    words: tuple[str, ...], expected: list[str], tmp_path: Path
) -> None:
    refloat = tmp_path / "refloat"
    refloat.write_text(f"#!{sys.executable}\nfrom refloat_cli.entry import main\nmain()\n")
    refloat.chmod(0o755)
    asked = " ".join(f"'{word}'" for word in ("refloat", *words))
    asking = f"COMP_WORDS=({asked}); COMP_CWORD={len(words)}; _refloat_completion refloat"
    script = f'PATH={tmp_path}:$PATH; source "$0"; {asking}; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", script, str(SHIPPED / "refloat.bash")], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == expected


def test_the_ids_of_waves_are_completed_newest_first(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wave_list(_arguments: dict[str, Any]) -> list[dict[str, str]]:
        return [{"id": "w1-a"}, {"id": "x9"}, {"id": "w2-b"}]

    monkeypatch.setenv("REFLOAT_COORDINATOR_SOCKET", str(daemon({"wave_list": wave_list}).path))

    assert completing.waves("w") == ["w2-b", "w1-a"]


def test_nobody_who_types_is_disturbed_by_a_coordinator_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOAT_COORDINATOR_SOCKET", str(tmp_path / "none"))

    assert completing.waves("") == []
