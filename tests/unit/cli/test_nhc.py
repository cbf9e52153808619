# SPDX-License-Identifier: Apache-2.0
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from daemons import FakeDaemon

from refloat_cli.nhc import helpers as nhc_helpers
from refloat_cli.nhc import main as nhc
from refloat_cli.nhc import options as nhc_options
from refloat_cli.nhc.output import Output
from refloat_cli.nhc.running import Run

BAD = "* || check_hw_eth nosuch\n"
MESSAGE = "check_hw_eth:  Ethernet device nosuch not detected."
GOOD = "* || check_hw_eth lo\n"


class Node:
    """A node in a Slurm of two small scripts; `calls` is what scontrol was asked to do."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "bin").mkdir()
        self.program("scontrol", f'printf "%s|" "$@" >> {place}/calls; echo >> {place}/calls')
        self.state("idle none")
        self.variables = {
            "CONFFILE": str(place / "nhc.conf"),
            "INCDIR": str(place / "scripts"),
            "LOGFILE": str(place / "nhc.log"),
            "PATH": f"{place}/bin:/usr/bin:/bin",
            "NHC_RM": "slurm",
        }

    def program(self, name: str, script: str) -> None:
        path = self.place / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def state(self, text: str, node: str = "*") -> None:
        self.program("sinfo", f'case "$4" in {node}) echo "{text}" ;; esac')

    @property
    def calls(self) -> list[str]:
        path = self.place / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def log(self) -> str:
        return (self.place / "nhc.log").read_text()

    def run(self, conf: str, *words: str, env: Mapping[str, str] | None = None, socket: str = "/nowhere") -> int:
        (self.place / "nhc.conf").write_text(conf)
        asked = nhc_options.parse(words)
        asked.variables = {**self.variables, **asked.variables}
        return Run(asked, {"SLURMD_NODENAME": "n1", **(env or {})}, socket=socket).status()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_failure_is_logged_printed_and_drains_the_node(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert node.run(BAD + "* || check_hw_eth nosuch2\n") == 1

    line = f"ERROR:  nhc:  Health check failed:  {MESSAGE}\n"
    assert capsys.readouterr().out == line
    assert node.log.startswith(line)
    assert node.calls == [f"update|State=DRAIN|NodeName=n1|Reason=NHC: {MESSAGE}|"]


def test_with_a_all_checks_are_run_and_counted(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert node.run(BAD + "* || check_hw_eth nosuch2\n", "-a") == 2

    assert capsys.readouterr().out.splitlines()[-1] == "ERROR:  nhc:  2 health checks failed."
    assert len(node.calls) == 1


@pytest.mark.parametrize(("reason", "compat", "calls"), [
    (f"NHC: {MESSAGE}", "safe", 0), (f"NHC: {MESSAGE}", "strict", 1), ("NHC: another failure", "safe", 1),
])  # fmt: skip
def test_a_node_is_drained_for_a_failure_once(node: Node, reason: str, compat: str, calls: int) -> None:
    node.state(f"drain {reason}")

    node.run(BAD, f"NHC_COMPAT={compat}")

    assert len(node.calls) == calls


def test_a_node_that_nhc_drained_is_resumed_when_all_is_well(node: Node) -> None:
    node.state("drain NHC: check_hw_eth:  bad")

    assert node.run(GOOD) == 0
    assert node.calls == ["update|State=RESUME|NodeName=n1|"]


@pytest.mark.parametrize("conf", [GOOD, BAD])
def test_an_admins_reason_is_never_replaced(node: Node, conf: str) -> None:
    node.state("drain bad memory, RMA 4711")

    node.run(conf)

    assert node.calls == []


def test_a_reason_that_lingers_on_a_node_in_service_does_not_hide_the_message(node: Node) -> None:
    node.state("idle Not responding")

    node.run(BAD)

    assert node.calls == [f"update|State=DRAIN|NodeName=n1|Reason=NHC: {MESSAGE}|"]


def test_a_slow_slurmctld_drains_nobody(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refloat_cli.nhc.marking.DEADLINE_S", 0.2)
    node.program("sinfo", "exec sleep 60")

    began_s = time.monotonic()
    assert node.run(GOOD) == 0
    assert node.run(BAD) == 1

    assert time.monotonic() - began_s < 10
    assert node.calls == []
    assert "The node's state is left as it is" in node.log


def test_an_apostrophe_in_a_message(node: Node) -> None:
    assert node.run("""* || die 3 "it's \\$(touch /tmp/x) \\`id\\`"\n""".replace("\\", "\\\\")) == 3

    assert node.calls == ["update|State=DRAIN|NodeName=n1|Reason=NHC: it's $(touch /tmp/x) `id`|"]


def test_a_read_only_root_drains(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert node.run(BAD, "-l", "/proc/nhc.log") == 1

    assert "cannot log to /proc/nhc.log" in capsys.readouterr().out
    assert len(node.calls) == 1


@pytest.mark.parametrize(("known_as", "env"), [("n1", {}), ("n7", {"SLURMD_NODENAME": "n7"})])
def test_a_node_known_by_another_name_than_its_hostname(node: Node, known_as: str, env: dict[str, str]) -> None:
    node.state("idle none", known_as)

    node.run(BAD, env=env)

    assert f"NodeName={known_as}|" in node.calls[0]


def test_slurmd_is_asked_for_the_name_last(node: Node) -> None:
    node.state("idle none", "compute9")
    node.program("slurmd", 'echo "NodeName=compute9 CPUs=4 Boards=1"')

    node.run(BAD, env={"SLURMD_NODENAME": ""})

    assert "NodeName=compute9|" in node.calls[0]


def test_a_configured_name_comes_before_the_hostname(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text('node = "c1"\n')
    host = {"HOSTNAME": "h.example", "HOSTNAME_S": "h"}

    assert nhc_helpers.names(host, {}, str(tmp_path / "agent.toml")) == ["c1", "h.example", "h"]


@pytest.mark.parametrize("words", [("MARK_OFFLINE=0",), ("-e", "check_hw_eth nosuch")])
def test_the_node_is_not_marked_when_told_so(node: Node, words: tuple[str, ...]) -> None:
    assert node.run(BAD, *words) == 1
    assert node.calls == []


def test_the_configuration_can_turn_marking_off(node: Node) -> None:
    assert node.run("* || export MARK_OFFLINE=0\n" + BAD) == 1
    assert node.calls == []


def test_a_sites_own_helper_gets_the_message_as_one_argument(node: Node) -> None:
    node.program("mark", f'printf "%s|" "$@" > {node.place}/marked')
    node.run("* || OFFLINE_NODE='mark -x'\n* || die 1 \"it's; reboot\"\n", env={})

    assert (node.place / "marked").read_text().split("|")[::2] == ["-x", "it's; reboot"]


def test_what_is_not_known_neither_drains_nor_resumes(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.state("drain NHC: check_hw_eth:  bad")

    assert node.run("* || /no/such/check\n") == 127
    assert node.calls == []
    assert "WARNING:  nhc:  Not known:  Check /no/such/check returned 127" in capsys.readouterr().out


def test_a_missing_configuration_is_said_and_resumes_nothing(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.variables["CONFFILE"] = "/no/such/nhc.conf"

    assert node.run(GOOD) == 0
    assert "nothing was checked" in capsys.readouterr().out
    assert node.calls == []


def agents_answer(
    node: Node, *, acts: bool, variables: Mapping[str, str] | None = None, failures: int = 1
) -> Callable[[dict[str, object]], object]:
    finding = {
        "line": 1, "name": "x", "check": "check_x", "status": "FAILED", "rc": 4, "message": "check_x:  bad", "deaths": 1
    }  # fmt: skip

    async def answer(_: dict[str, object]) -> dict[str, object]:
        findings = [finding] * failures
        return {
            "acts": acts, "conf": node.variables["CONFFILE"], "findings": findings, "variables": dict(variables or {})
        }  # fmt: skip

    return answer


def asked_of_agent(node: Node, *words: str, **answer: Any) -> int:
    handlers: Any = {"nhc": agents_answer(node, **answer)}
    daemon = FakeDaemon(node.place / "agent.sock", handlers).start()
    try:
        (node.place / "nhc.conf").write_text(GOOD)
        run = Run(nhc_options.parse(words), {"SLURMD_NODENAME": "n1"}, socket=str(node.place / "agent.sock"))
        run.variables.update(node.variables)
        return run.status()
    finally:
        daemon.stop()


@pytest.mark.parametrize(("acts", "calls"), [(True, 0), (False, 1)])
def test_with_the_agent_running_its_answer_is_given_and_only_one_of_both_drains(
    node: Node, capsys: pytest.CaptureFixture[str], *, acts: bool, calls: int
) -> None:
    assert asked_of_agent(node, "-q", acts=acts) == 4

    assert len(node.calls) == calls
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "variables", "status", "calls"),
    [
        ((), {"NHC_CHECK_ALL": "1"}, 3, ["update|State=DRAIN|NodeName=n1|Reason=NHC: check_x:  bad|"]),
        (("-a",), {"NHC_CHECK_ALL": "0"}, 4, ["update|State=DRAIN|NodeName=n1|Reason=NHC: check_x:  bad|"]),
        ((), {"MARK_OFFLINE": "0"}, 4, []),
        (("MARK_OFFLINE=0",), {}, 4, []),
        ((), {"SLURM_SC_OFFLINE_ARGS": "update State=FAIL"}, 4,
         ["update|State=FAIL|NodeName=n1|Reason=NHC: check_x:  bad|"]),
        ((), {"HW_CORES": "2", "SECRET": "x"}, 4, ["update|State=DRAIN|NodeName=n1|Reason=NHC: check_x:  bad|"]),
    ],
)  # fmt: skip
def test_what_the_file_sets_counts_also_where_the_agent_answers(
    node: Node, words: tuple[str, ...], variables: dict[str, str], status: int, calls: list[str]
) -> None:
    assert asked_of_agent(node, "-q", *words, acts=False, variables=variables, failures=3) == status

    assert node.calls == calls


def test_the_agents_answer_is_told_line_by_line_where_the_file_wants_it_verbose(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    asked_of_agent(node, acts=True, variables={"VERBOSE": "1"})

    assert 'Running check:  "check_x"' in node.log
    assert capsys.readouterr().out == "ERROR:  nhc:  Health check failed:  check_x:  bad\n"


def test_a_wrong_option_is_10_with_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["nhc", "-z"])

    with pytest.raises(SystemExit) as ended:
        nhc.main()

    assert ended.value.code == 10
    assert capsys.readouterr().err == "nhc:  ERROR:  Invalid option:  -z\n"


def test_all_of_nhcs_options_are_understood() -> None:
    line = "-a -d -f -q -v -x -c C -D D -e E -l L -n N -t 7 A='b NHC_RM=slurm"
    asked = nhc_options.parse(line.split())

    assert asked.variables == {
        "NHC_CHECK_ALL": "1", "DEBUG": "1", "NHC_CHECK_FORKED": "1", "SILENT": "1", "VERBOSE": "1", "CONFFILE": "C",
        "CONFDIR": "D", "LOGFILE": "L", "NAME": "N", "TIMEOUT": "7", "A": "'b", "NHC_RM": "slurm",
    }  # fmt: skip
    assert (asked.check, asked.trace) == ("E", True)


def test_whatever_hangs_the_program_answers(capsys: pytest.CaptureFixture[str]) -> None:
    def hang() -> int:
        time.sleep(60)
        return 0

    began_s = time.monotonic()
    assert nhc.guarded(hang, 0.2) == 142

    assert time.monotonic() - began_s < 5
    assert "state is left as it is" in capsys.readouterr().out


def test_the_childs_status_is_the_programs() -> None:
    assert nhc.guarded(lambda: 7, 10) == 7


def test_the_signals_that_toggle_reach_the_work_and_end_nothing() -> None:
    def work() -> int:
        got: list[int] = []
        signal.signal(signal.SIGUSR2, lambda number, _: got.append(number))
        until_s = time.monotonic() + 5
        while not got and time.monotonic() < until_s:
            os.kill(os.getppid(), signal.SIGUSR1)
            os.kill(os.getppid(), signal.SIGUSR2)
            time.sleep(0.01)
        return len(got) > 0

    assert nhc.guarded(work, 10) == 1


def test_debugging_is_toggled(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output({"DEBUG": "0"})
    for text in ("silent", "told", "silent again"):
        output.debug(text)
        output.toggle_debug()

    assert [line for line in capsys.readouterr().out.splitlines() if "SIGUSR2" not in line] == ["DEBUG:  told"]


def test_a_settings_file_is_read_without_a_shell_where_it_is_plain(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = node.place / "defaults"
    monkeypatch.setattr("refloat_checks.nhc.sysconfig.path", lambda _: str(settings))
    settings.write_text("# ours\nMARK_OFFLINE=0\n")
    node.run(BAD)
    settings.write_text("if true; then MARK_OFFLINE=0; fi\n")
    node.run(BAD)

    assert node.calls == []
    assert os.environ.get("MARK_OFFLINE") is None


def test_the_command_does_not_find_its_own_words_among_the_processes() -> None:
    argv = [sys.executable, "-c", "from refloat_cli.nhc.main import main; main()"]

    ended = subprocess.run(
        [*argv, "-e", "check_ps_blacklist nosuchdaemon"], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, "")
