# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import FakeDaemon, Refloat

from refloat_cli import profile, whoami

FAILED = {"check": "scratch", "status": "FAILED", "severity": "drain", "message": "not mounted"}
WARNS = {"check": "fan", "status": "FAILED", "severity": "warn", "message": "slow"}
UNKNOWN = {"check": "gpu", "status": "UNKNOWN", "severity": "drain", "message": "no answer"}


class FakeAgent:
    """An agent that says what it is told to, and keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bad: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.daemon = FakeDaemon(
            path, {"profile": self.profile, "check_clear": self.told, "check_switch": self.told}
        ).start()

    async def profile(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(arguments)
        return {"node": "n1", "good": 3, "bad": self.bad}

    async def told(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(arguments)
        return {"told": f"{arguments['check']}: done"}


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    monkeypatch.setenv("REFLOAT_AGENT_SOCKET", str(tmp_path / "agent.sock"))
    made = FakeAgent(tmp_path / "agent.sock")
    yield made
    made.daemon.stop()


@pytest.mark.parametrize(
    ("bad", "status", "out"),
    [
        ([], 0, "prolog: 3 good, 0 not\n"),
        ([WARNS], 0, "FAILED  fan: slow (only warns)\nprolog: 3 good, 1 not\n"),
        ([UNKNOWN], 3, "UNKNOWN  gpu: no answer\nprolog: 3 good, 1 not\n"),
        ([UNKNOWN, FAILED], 1, "UNKNOWN  gpu: no answer\nFAILED  scratch: not mounted\nprolog: 3 good, 2 not\n"),
    ],
)
def test_the_agents_answer_is_the_exit_status(
    bad: list[dict[str, Any]], status: int, out: str, agent: FakeAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    agent.bad = bad

    assert profile.quick(["--profile", "prolog", "--max-age=5"]) == status
    assert capsys.readouterr().out == out
    assert agent.asked == [{"profile": "prolog", "max_age_s": 5.0}]


def test_it_is_told_as_json(agent: FakeAgent, capsys: pytest.CaptureFixture[str]) -> None:
    agent.bad = [FAILED]

    assert profile.quick(["--json", "--profile=boot"]) == 1
    assert json.loads(capsys.readouterr().out) == {"node": "n1", "good": 3, "bad": [FAILED]}


@pytest.mark.parametrize(
    "words",
    [["--profile"], ["--profile", "image", "--root", "/x"], ["--profile", "p", "--max-age", "soon"], ["--list"]],
)
def test_all_other_words_are_left_to_the_whole_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(profile, "ask", ask)

    assert profile.quick(words) is None


@pytest.mark.parametrize("said", [b"", b"{\n", b'{"error": {"kind": "refused", "message": "x"}}\n'])
def test_without_an_answer_the_whole_command_goes_on(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOAT_AGENT_SOCKET", str(tmp_path / "s"))
    script = (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint(flush=True)\n"
        f"c=s.accept()[0]\nc.recv(1000)\nc.sendall({said!r})\nc.close()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "s")], stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        listener.stdout.readline()

        assert profile.quick(["--profile", "prolog"]) is None


def test_the_question_is_asked_without_loading_what_answers_others() -> None:
    script = (
        "import sys\nsys.argv = ['refloat', 'check', '--profile', 'prolog', '--json', '--help']\n"
        "from refloat_cli import entry, profile\n"
        "profile.quick = lambda words: 0\n"
        "try:\n    entry.main()\nexcept SystemExit as ended:\n    assert ended.code == 0\n"
        "print(*sorted({'asyncio', 'pydantic', 'rich', 'typer', 'structlog'} & sys.modules.keys()))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "\n"


def test_the_whole_command_asks_the_agent_too(agent: FakeAgent, refloat: Refloat) -> None:
    agent.bad = [FAILED]

    assert refloat("check", "--profile", "prolog").status == 1
    assert agent.asked == [{"profile": "prolog", "max_age_s": None}]


def test_an_administrator_clears_and_switches_under_his_name(agent: FakeAgent, refloat: Refloat) -> None:
    for words in (("clear",), ("off",), ("on",)):
        assert refloat("check", *words, "n1/check_hw_eth:a/b").out == "check_hw_eth:a/b: done\n"

    who = {"node": "n1", "check": "check_hw_eth:a/b", "by": whoami.name()}
    assert agent.asked == [who, {**who, "on": False}, {**who, "on": True}]
    assert refloat("check", "clear", "scratch").status == 2


def test_who_logged_in_is_named_behind_sudo_too(tmp_path: Path) -> None:
    (tmp_path / "loginuid").write_text("0")
    (tmp_path / "nobody").write_text("4294967295")

    assert whoami.name({"SUDO_USER": "alice"}, tmp_path / "loginuid") == "root"
    assert whoami.name({"SUDO_USER": "alice"}, tmp_path / "nobody") == "alice"
    assert whoami.name({}, tmp_path / "not there") != ""
