# SPDX-License-Identifier: Apache-2.0
import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon, FakeDaemon, Refloat

from refloat_cli import watching
from refloat_cli.ways import SocketWay
from refloat_contract.errors import Refused, Transient
from refloat_contract.messages import WaveNode, WaveReport, WaveSpec
from refloat_contract.words import Phase, Turn, WaveState
from refloat_service.control import Handler

SPEC = WaveSpec(nodes="n[1-2]")


def shown(state: WaveState, *turns: Turn, why: str = "") -> dict[str, Any]:
    nodes = [
        WaveNode(node=f"n{number}", turn=turn, phase=Phase.REBOOTING if turn is Turn.MARKED else Phase.IN_SERVICE)
        for number, turn in enumerate(turns, 1)
    ]
    counts = {turn: turns.count(turn) for turn in turns}
    ended_at = 0.0 if state in {WaveState.RUNNING, WaveState.PAUSED} else 1060.0
    report = WaveReport(id="w1", spec=SPEC, state=state, why=why, started_at=1000, ended_at=ended_at, counts=counts)
    return {"report": report, "nodes": nodes}


BEGUN = shown(WaveState.RUNNING, Turn.MARKED, Turn.WAITING)
HALF = shown(WaveState.RUNNING, Turn.DONE, Turn.MARKED)
DONE = shown(WaveState.DONE, Turn.DONE, Turn.DONE)
FAILED = shown(WaveState.FAILED, Turn.DONE, Turn.HELD, why="1 node is held")


def streams(*updates: dict[str, Any]) -> Handler:
    async def wave_watch(arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        assert arguments == {"id": "w1"}
        for update in updates:
            yield update

    return wave_watch


class Answers:
    """Handlers that note what they were asked and answer as told."""

    def __init__(self, **answers: Any) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.handlers = {command: self._handler(command, answer) for command, answer in answers.items()}

    def _handler(self, command: str, answer: Any) -> Handler:
        async def handle(arguments: dict[str, Any]) -> Any:
            self.asked.append((command, arguments))
            if isinstance(answer, Exception):
                raise answer
            return answer

        return handle


def test_start_sends_only_what_was_given(refloat: Refloat, daemon: Daemon) -> None:
    answers = Answers(wave_start=BEGUN["report"])
    socket = daemon(answers.handlers).path

    ended = refloat(
        "wave",
        "start",
        "n[1-2]",
        "--socket",
        socket,
        "--max-unavailable",
        "2",
        "--soak",
        "10m",
        "--node-deadline",
        "1h",
    )

    spec = {"nodes": "n[1-2]", "max_unavailable": 2, "soak_s": 600.0, "node_deadline_s": 3600.0}
    assert answers.asked == [("wave_start", {"spec": spec})]
    assert ended.status == 0
    assert ended.out == "wave w1 started; see it with: refloat wave watch w1\n"


PLAN: dict[str, Any] = {
    "spec": SPEC,
    "reason": "reboot wave=plan",
    "canary": "n1",
    "first": "n1",
    "why": "",
    "conflict": "",
    "blocker": "",
    "blocks": [{"turn": "skipped", "why": "drained: bad DIMM", "nodes": "n2", "count": 1}],
    "batches": [
        {"nodes": "n1", "count": 1, "begins_s": 0, "ends_s": 600, "canary": True},
        {"nodes": "n[2-3]", "count": 2, "begins_s": 1500, "ends_s": 100_000, "canary": False},
    ],
    "estimate": {"duration_s": 100_000, "lost_node_hours": 1.5, "overdue": "", "left": "", "stuck": ""},
    "notes": ["a node is taken to be out for 10m00s"],
    "nodes": BEGUN["nodes"],
}
OPTIONS = {
    "--recipe": "reconfigure",
    "--image": "i2",
    "--reason": "kernel update",
    "--max-unavailable": "3%",
    "--per-group": "rack=1",
    "--canary": "1",
    "--soak": "5",
    "--max-failures": "2",
    "--order": "soonest-free",
    "--window": "Sat 00:00-24:00 UTC",
    "--deadline": "4h",
    "--on-deadline": "requeue",
    "--blocker": "/usr/local/sbin/may-i --now",
    "--node-deadline": "60",
}


def test_every_option_of_a_wave_is_a_field_of_its_spec(refloat: Refloat, daemon: Daemon) -> None:
    answers = Answers(wave_plan=PLAN)
    socket = daemon(answers.handlers).path
    ended = refloat("wave", "plan", "n1", "--socket", socket, *(w for pair in OPTIONS.items() for w in pair))

    assert ended.status == 0
    assert answers.asked[0][1]["spec"].keys() == WaveSpec.model_fields.keys()
    spec = WaveSpec.model_validate(answers.asked[0][1]["spec"])
    assert (spec.soak_s, spec.max_unavailable, spec.per_group) == (5, "3%", {"rack": 1})


def test_a_plan_shows_the_batches_what_stands_in_the_way_and_what_it_costs(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("wave", "plan", "n1", "--socket", daemon(Answers(wave_plan=PLAN).handlers).path)

    lines = [line.split() for line in ended.out.splitlines()]
    assert ["with", "the", "reason", "reboot", "wave=plan"] in lines
    assert any(line[:3] == ["1", "(canary)", "1"] and line[-1] == "n1" for line in lines)
    assert any(line[:2] == ["2", "2"] and line[-1] == "n[2-3]" for line in lines)
    assert ["1", "skipped", "n2:", "drained:", "bad", "DIMM"] in lines
    assert "About 1d03h, until " in ended.out
    assert "1.5 node-hours of service lost" in ended.out
    assert "a node is taken to be out for 10m00s" in ended.out


def test_a_plan_of_nodes_that_another_wave_has_is_1(refloat: Refloat, daemon: Daemon) -> None:
    answers = Answers(wave_plan=PLAN | {"conflict": "wave w0 is about n1 already"})
    ended = refloat("wave", "start", "n1", "--dry-run", "--socket", daemon(answers.handlers).path)

    assert (ended.status, [command for command, _ in answers.asked]) == (1, ["wave_plan"])
    assert "wave w0 is about n1 already" in ended.out


def test_a_file_says_the_same_as_options_do_and_options_override_it(
    refloat: Refloat, daemon: Daemon, tmp_path: Path
) -> None:
    file = tmp_path / "wave.toml"
    file.write_text(
        'nodes = "n[1-4]"\nrecipe = "reconfigure"\nimage = "i2"\nreason = "kernel update"\nmax-unavailable = "3%"\n'
        'canary = 1\nsoak = "5s"\nmax-failures = 2\norder = "soonest-free"\nwindow = ["Sat 00:00-24:00 UTC"]\n'
        'deadline = "4h"\non-deadline = "requeue"\nblocker = "/usr/local/sbin/may-i --now"\nnode_deadline = 60\n'
        "[per-group]\nrack = 1\n"
    )
    answers = Answers(wave_plan=PLAN)
    socket = daemon(answers.handlers).path
    refloat("wave", "plan", "n[1-4]", "--socket", socket, *(w for pair in OPTIONS.items() for w in pair))
    refloat("wave", "plan", "--spec", str(file), "--socket", socket)
    refloat("wave", "plan", "n9", "--spec", str(file), "--canary", "2", "--socket", socket)
    by_options, by_file, both = (WaveSpec.model_validate(asked["spec"]) for _, asked in answers.asked)

    assert by_file == by_options
    assert both == by_file.model_copy(update={"nodes": "n9", "canary": 2})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('nodes = "n1"\ncanaries = 1\n', "a wave has no 'canaries'; did you mean 'canary'?"),
        ("canary = 1\n", "say which nodes"),
        ("nodes = n1\n", "is no TOML"),
        ('nodes = "n1"\nsoak = "long"\n', "'long' is no duration"),
    ],
)
def test_a_file_that_is_wrong_is_2_and_says_what(refloat: Refloat, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "wave.toml"
    file.write_text(text)
    ended = refloat("wave", "start", "--spec", str(file))

    assert ended.status == 2
    assert says in ended.err


def test_a_group_without_a_number_is_2(refloat: Refloat) -> None:
    ended = refloat("wave", "plan", "n1", "--per-group", "rack")

    assert (ended.status, "is not a kind of group and a number: rack=1" in ended.err) == (2, True)


def test_a_soak_that_is_no_duration_is_2_and_nothing_is_asked(refloat: Refloat) -> None:
    ended = refloat("wave", "start", "n1", "--soak", "long")

    assert (ended.status, ended.err) == (2, "refloat: 'long' is no duration: write 90, 90s, 10m, 2h or 1d\n")


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["pause", "w1"], ("wave_pause", {"id": "w1"})),
        (["resume", "w1"], ("wave_resume", {"id": "w1"})),
        (["abort", "w1"], ("wave_abort", {"id": "w1"})),
        (["retry", "w1"], ("wave_retry", {"id": "w1"})),
        (["retry", "w1", "n[1-2]"], ("wave_retry", {"id": "w1", "nodes": "n[1-2]"})),
        (["skip", "w1", "n1"], ("wave_skip", {"id": "w1", "nodes": "n1"})),
    ],
)
def test_a_wave_is_steered(
    words: list[str], asked: tuple[str, dict[str, Any]], refloat: Refloat, daemon: Daemon
) -> None:
    answers = Answers(**{asked[0]: shown(WaveState.PAUSED, Turn.WAITING, why="by root")["report"]})

    ended = refloat("wave", *words, "--socket", daemon(answers.handlers).path)

    assert answers.asked == [asked]
    assert (ended.status, ended.out) == (0, "wave w1 paused: by root\n")


def test_what_the_coordinator_refuses_is_one_line_and_1(refloat: Refloat, daemon: Daemon) -> None:
    answers = Answers(wave_pause=Refused("wave w1 has ended: done"))

    ended = refloat("wave", "pause", "w1", "--socket", daemon(answers.handlers).path)

    assert (ended.status, ended.out, ended.err) == (1, "", "refloat: wave w1 has ended: done\n")


def test_waves_are_listed(refloat: Refloat, daemon: Daemon) -> None:
    socket = daemon(Answers(wave_list=[HALF["report"], FAILED["report"]]).handlers).path

    assert "w1 failed 1/2 1 1970-01-01 00:16:40 1m00s reboot n[1-2] · 1 out at once" in [
        " ".join(line.split()) for line in refloat("wave", "list", "--socket", socket).out.splitlines()
    ]
    assert [report["state"] for report in json.loads(refloat("wave", "list", "--socket", socket, "--json").out)] == [
        "running",
        "failed",
    ]


def test_a_wave_is_shown_with_all_its_nodes(refloat: Refloat, daemon: Daemon) -> None:
    socket = daemon(Answers(wave_show=HALF).handlers).path

    ended = refloat("wave", "show", "w1", "--socket", socket)

    assert "1 of 2 done · 1 under way" in ended.out
    assert [line.split()[:2] for line in ended.out.splitlines()[-3:-1]] == [["n1", "done"], ["n2", "marked"]]


@pytest.mark.parametrize(("last", "status"), [(DONE, 0), (FAILED, 1), (shown(WaveState.ABORTED, Turn.WAITING), 1)])
def test_watch_ends_with_the_wave_and_tells_how(
    last: dict[str, Any], status: int, refloat: Refloat, daemon: Daemon
) -> None:
    socket = daemon({"wave_watch": streams(BEGUN, HALF, last)}).path

    ended = refloat("wave", "watch", "w1", "--socket", socket)

    assert ended.status == status
    lines = [line.partition(" ")[2] for line in ended.out.splitlines()]
    assert lines[:4] == ["wave w1 running: reboot n[1-2] · 1 out at once", "n1 REBOOTING", "n1 done", "n2 REBOOTING"]
    assert f"wave w1 {last['report'].state.value} after 1m00s:" in ended.out


def test_watch_without_a_name_takes_the_one_that_runs(refloat: Refloat, daemon: Daemon) -> None:
    handlers = {"wave_watch": streams(DONE), **Answers(wave_list=[{**dump(FAILED), "id": "w0"}, dump(BEGUN)]).handlers}

    assert refloat("wave", "watch", "--socket", daemon(handlers).path).status == 0


def test_watch_without_a_name_wants_one_when_none_runs(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("wave", "watch", "--socket", daemon(Answers(wave_list=[dump(FAILED)]).handlers).path)

    assert ended.status == 2
    assert "say which wave: none is under way" in ended.err


def dump(update: dict[str, Any]) -> dict[str, Any]:
    report: dict[str, Any] = update["report"].model_dump(mode="json")
    return report


def test_start_can_watch_as_json(refloat: Refloat, daemon: Daemon) -> None:
    handlers = {**Answers(wave_start=BEGUN["report"]).handlers, "wave_watch": streams(BEGUN, DONE)}

    ended = refloat("wave", "start", "n[1-2]", "--watch", "--json", "--socket", daemon(handlers).path)

    assert [json.loads(line)["report"]["state"] for line in ended.out.splitlines()] == ["running", "done"]


def test_watch_survives_a_restart_of_the_coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_AGAIN_S", 0.01)
    socket = tmp_path / "coordinator.sock"

    async def hang(_: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield BEGUN
        await asyncio.Event().wait()

    first = FakeDaemon(socket, {"wave_watch": hang}).start()
    second = FakeDaemon(socket, {"wave_watch": streams(HALF, DONE)})

    async def watch() -> list[str]:
        told: list[str] = []
        async for view in watching.views(SocketWay(socket), "w1"):
            told.append("lost" if view.notice else view.report.state.value + str(view.counts[Turn.DONE]))
            if told == ["running0"]:
                await asyncio.to_thread(first.stop)
            if view.notice and told.count("lost") == 2:
                await asyncio.to_thread(second.start)
        return list(dict.fromkeys(told))

    try:
        assert asyncio.run(watch()) == ["running0", "lost", "running1", "done2"]
    finally:
        second.stop()


def test_watch_gives_up_when_the_coordinator_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_AGAIN_S", 0.01)
    daemon = FakeDaemon(tmp_path / "coordinator.sock", {"wave_watch": streams(BEGUN)}).start()

    async def watch() -> None:
        async for view in watching.views(SocketWay(daemon.path), "w1", lost_after_s=0.05):
            if not view.notice:
                await asyncio.to_thread(daemon.stop)

    with pytest.raises(Transient, match="refloat-coordinator does not listen"):
        asyncio.run(watch())


def in_terminal(words: Iterable[str | Path], *, interrupt: bool = False) -> tuple[int, str]:
    """Run `refloat` in a terminal of 80 columns, and say how it ended and all that it wrote."""
    leader, follower = pty.openpty()
    env = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"}
    argv = [sys.executable, "-c", "from refloat_cli.main import main; main()", *map(str, words)]
    process = subprocess.Popen(argv, stdin=follower, stdout=follower, stderr=follower, env=env, start_new_session=True)
    os.close(follower)
    written: list[bytes] = []

    def read() -> None:
        try:
            while block := os.read(leader, 65536):
                written.append(block)
        except OSError:  # what a terminal says whose last program has ended
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        deadline = time.monotonic() + 30
        while interrupt and b"RUNNING" not in b"".join(written) and time.monotonic() < deadline:
            time.sleep(0.01)
        if interrupt:
            process.send_signal(signal.SIGINT)
        status = process.wait(20)
    finally:
        process.kill()
        process.wait()
        reader.join(5)
        os.close(leader)
    return status, b"".join(written).decode()


def test_in_a_terminal_it_is_live_and_coloured_and_ends_with_a_summary(daemon: Daemon) -> None:
    socket = daemon({"wave_watch": streams(BEGUN, FAILED)}).path

    status, written = in_terminal(["wave", "watch", "w1", "--socket", socket])

    assert status == 1
    assert "\x1b[1;31mFAILED" in written
    assert "held, and waiting for you" in written
    assert (
        "after 1m00s: 1 of 2 nodes done, 1 held" in written.splitlines()[-1].replace("\x1b[0m", "")
        or "1 held" in written
    )


def test_ctrl_c_ends_it_quietly(daemon: Daemon) -> None:
    async def hang(_: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield BEGUN
        await asyncio.Event().wait()

    status, written = in_terminal(
        ["wave", "watch", "w1", "--socket", daemon({"wave_watch": hang}).path], interrupt=True
    )

    assert status == 130
    assert "Traceback" not in written
    assert "Abort" not in written
