# SPDX-License-Identifier: Apache-2.0
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import structlog

from refloat_contract.errors import Misconfigured
from refloat_service import logs


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Reads what went to standard error, which is no terminal and no journal here."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    return lambda: capsys.readouterr().err


def fail() -> None:
    raise ValueError("boom")


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What journald gets."""
    entries: list[dict[str, Any]] = []
    package, module = ModuleType("systemd"), ModuleType("systemd.journal")

    def send(message: str, **fields: object) -> None:
        entries.append({"MESSAGE": message, **fields})

    module.send = send  # type: ignore[attr-defined]
    package.journal = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemd", package)
    monkeypatch.setitem(sys.modules, "systemd.journal", module)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/refloat-agent"])
    return entries


def test_journald_gets_a_field_for_each_fact(
    stderr: Callable[[], str], journal: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    logs.configure("auto", "info")

    structlog.get_logger().warning("phase_entered", phase="DRAINING", after_s=1.5, message="a b", _odd=True)

    assert journal == [
        {
            "MESSAGE": 'phase_entered phase=DRAINING after_s=1.5 message="a b" _odd=true',
            "EVENT": "phase_entered",
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "refloat-agent",
            "PHASE": "DRAINING",
            "AFTER_S": "1.5",
            "REFLOAT_MESSAGE": "a b",
            "REFLOAT__ODD": "true",
        }
    ]
    assert stderr() == ""


def test_a_traceback_reaches_the_journal(stderr: Callable[[], str], journal: list[dict[str, Any]]) -> None:
    logs.configure("journal", "info")

    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("it_failed")

    assert "ValueError: boom" in journal[0]["EXCEPTION"]
    assert journal[0]["MESSAGE"].startswith("it_failed\nTraceback")
    assert journal[0]["PRIORITY"] == "3"


def test_what_journald_does_not_take_goes_to_standard_error(
    stderr: Callable[[], str], journal: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(message: str, **fields: object) -> None:
        raise OSError("no journald")

    monkeypatch.setattr(sys.modules["systemd.journal"], "send", send)
    logs.configure("journal", "info")

    structlog.get_logger().info("started", n=1)

    assert stderr() == "started n=1 (journald did not take it: no journald)\n"


def test_without_terminal_and_journal_a_line_is_json(stderr: Callable[[], str]) -> None:
    logs.configure("auto", "info")

    structlog.get_logger().info("started", n=1)
    structlog.get_logger().debug("too_quiet")

    (line,) = stderr().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["n"], entry["level"]) == ("started", 1, "info")


def test_systemd_without_its_library_gets_json(stderr: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    logs.configure("auto", "info")

    structlog.get_logger().info("started")

    assert json.loads(stderr())["event"] == "started"


@pytest.mark.parametrize(("stream", "coloured"), [(Terminal(), True), (io.StringIO(), False)])
def test_there_are_colours_only_on_a_terminal(
    stream: io.StringIO,
    coloured: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("console", "info")

    structlog.get_logger().info("started")

    assert "started" in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) is coloured


def test_a_traceback_reaches_the_console(stderr: Callable[[], str]) -> None:
    logs.configure("console", "info")

    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("it_failed")

    assert "ValueError: boom" in stderr()


def test_libraries_are_heard_from_warning_on_with_their_tracebacks(stderr: Callable[[], str]) -> None:
    logs.configure("json", "debug")
    library = logging.getLogger("some.library")

    library.info("too quiet")
    library.log(35, "odd level %d", 35)
    try:
        fail()
    except ValueError:
        library.exception("broken")

    odd, broken = (json.loads(line) for line in stderr().splitlines())
    assert (odd["event"], odd["level"], odd["logger"]) == ("odd level 35", "warning", "some.library")
    assert "ValueError: boom" in broken["exception"]


def test_an_unknown_level_is_misconfigured() -> None:
    with pytest.raises(Misconfigured, match="log level 'loud' is unknown"):
        logs.configure("json", "loud")


def test_journal_without_its_library_says_what_to_install(
    stderr: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "systemd.journal", None)

    with pytest.raises(Misconfigured, match="install python3-systemd"):
        logs.configure("journal", "info")
