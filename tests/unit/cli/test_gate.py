# SPDX-License-Identifier: Apache-2.0
"""`refloat gate`: it waits for the agent's word, and never for ever."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import FakeDaemon

from refloat_cli import gate

WAIT = {"opens": False, "why": "waiting: nothing is mounted on /scratch"}
OPEN = {"opens": True, "why": "storage is mounted"}


class Minutes:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def _wait(answers: list[dict[str, Any] | None], patience_s: float = 60.0) -> tuple[int, float, list[float]]:
    clock, asked = Minutes(), list[float]()

    def ask(waited_s: float) -> dict[str, Any] | None:
        asked.append(waited_s)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    status = gate.wait(patience_s, ask=ask, now=clock.now, sleep=clock.sleep)
    return status, clock.now_s - 100.0, asked


def test_it_waits_for_the_agents_word_and_says_what_for(capsys: pytest.CaptureFixture[str]) -> None:
    status, waited_s, asked = _wait([WAIT, WAIT, OPEN])

    assert (status, waited_s, asked) == (0, 2.0, [0.0, 1.0, 2.0])
    assert capsys.readouterr().out.splitlines() == [WAIT["why"], "slurmd may start: storage is mounted"]


def test_what_lasts_is_told_again_each_minute(capsys: pytest.CaptureFixture[str]) -> None:
    _wait([*[WAIT] * 130, OPEN])

    assert capsys.readouterr().out.count("waiting: ") == 3


@pytest.mark.parametrize(("answers", "waited_s"), [([None], 60.0), ([*[WAIT] * 31, None], 90.0)])
def test_slurmd_starts_where_no_agent_answers(
    answers: list[Any], waited_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    status, waited, _ = _wait(answers)

    assert (status, waited) == (0, waited_s)
    assert "UNGUARDED: no agent answers at /run/refloat/agent.sock" in capsys.readouterr().out


def test_an_agent_that_comes_back_in_time_is_waited_for() -> None:
    assert _wait([None] * 50 + [WAIT] + [None] * 50 + [OPEN])[:2] == (0, 101.0)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    asked: list[dict[str, Any]] = []

    async def answer(arguments: dict[str, Any]) -> dict[str, Any]:
        asked.append(arguments)
        return OPEN

    monkeypatch.setenv("REFLOAT_AGENT_SOCKET", str(tmp_path / "agent.sock"))
    daemon = FakeDaemon(tmp_path / "agent.sock", {"gate": answer}).start()
    yield asked
    daemon.stop()


def test_it_asks_the_agent_and_tells_systemd(
    agent: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        status = gate.quick([])

        assert (status, systemd.recv(1000)) == (0, b"STATUS=slurmd may start: storage is mounted")
    assert list(agent[0]) == ["waited_s"]


def test_words_that_it_does_not_know_are_left_to_the_whole_command() -> None:
    assert gate.quick(["--help"]) is None
    assert gate.quick(["--patience", "soon"]) is None
