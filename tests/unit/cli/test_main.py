# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from pathlib import Path

import pytest
from daemons import Refloat

from refloat_cli.main import exit_status
from refloat_contract.errors import BadMessage, Corrupt, Misconfigured, RefloatError, Refused, Transient, UnknownNode

HEAVY = (
    "refloat_checks",
    "refloat_agent",
    "refloat_coordinator",
    "amqtt",
    "aiomqtt",
    "influxdb_client",
    "ClusterShell",
)
RUN = """
import sys
from refloat_cli.main import main
sys.argv = ["refloat", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words", [["--help"], ["status", "--socket", "/none"], ["wave", "watch", "--help"], ["version"]]
)
def test_nothing_is_imported_that_is_not_run(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, check=True)

    imported = set(done.stderr.splitlines()[-1].split())
    assert "refloat_cli" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Misconfigured, 2),
        (Transient, 3),
        (Refused, 1),
        (UnknownNode, 1),
        (BadMessage, 3),
        (Corrupt, 3),
        (RefloatError, 3),
    ],
)
def test_the_exit_status_tells_who_must_act(error: type[RefloatError], status: int) -> None:
    assert exit_status(error("x")) == status


def test_a_daemon_that_is_away_is_one_line_and_3(refloat: Refloat, tmp_path: Path) -> None:
    ended = refloat("status", "--socket", tmp_path / "coordinator.sock")

    assert ended.status == 3
    assert ended.out == ""
    assert ended.err == (
        f"refloat: refloat-coordinator does not listen at {tmp_path}/coordinator.sock (no such socket):"
        " start it (systemctl start refloat-coordinator) or name another socket\n"
    )


def test_the_socket_can_be_named_in_the_environment(
    refloat: Refloat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOAT_COORDINATOR_SOCKET", str(tmp_path / "agent.sock"))

    assert f"refloat-agent does not listen at {tmp_path}/agent.sock" in refloat("status").err


def test_a_wrong_command_is_2(refloat: Refloat) -> None:
    ended = refloat("wave", "lst")

    assert ended.status == 2
    assert "Did you mean 'list'?" in ended.err


def test_the_version_is_printed(refloat: Refloat) -> None:
    assert refloat("version").out.startswith("refloat 0.")
    assert json.loads(refloat("version", "--json").out).keys() == {"refloat", "python"}


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["wave", name]
            for name in ("plan", "start", "list", "show", "watch", "pause", "resume", "abort", "retry", "skip")
        ),
        *([name] for name in ("status", "why", "events", "check", "version")),
        ["config", "check"],
        ["config", "reference"],
    ],
    ids=" ".join,
)
def test_help_teaches_by_an_example(words: list[str], refloat: Refloat) -> None:
    ended = refloat(*words, "--help")

    assert ended.status == 0
    assert f"Example: refloat {' '.join(words)}" in ended.out


def test_the_demo_without_its_broker_says_where_there_is_one() -> None:
    hidden = "import sys; sys.modules['amqtt'] = None\n" + RUN.replace(
        "except SystemExit:\n    pass\n", "finally:\n    pass\n"
    )
    done = subprocess.run([sys.executable, "-c", hidden, "demo"], capture_output=True, text=True, check=False)

    assert (done.returncode, "run `make demo` in a checkout" in done.stderr) == (2, True)


WITHOUT = """
import sys
sys.modules["cryptography"] = None
from refloat_cli.main import main
sys.argv = ["refloat", "pki", "list"]
main()
"""


def test_a_library_that_only_the_coordinators_host_has_is_named_with_its_package() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith("refloat: cryptography is not installed here")
    assert "refloat-coordinator" in done.stderr
    assert "Traceback" not in done.stderr
