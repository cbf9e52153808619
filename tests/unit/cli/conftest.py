# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import structlog
from daemons import Daemon, Ended, FakeDaemon, Refloat

from refloat_cli.main import main
from refloat_service.control import Handler


@pytest.fixture
def refloat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refloat:
    """Run `refloat` with these words."""

    def run(*words: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["refloat", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, said.out, said.err)

    return run


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        patch.setenv("COLUMNS", "100")
        patch.delenv("REFLOAT_COORDINATOR_SOCKET", raising=False)
        time.tzset()
        root = logging.getLogger()
        handlers, level = root.handlers, root.level
        yield
        structlog.reset_defaults()
        root.handlers = handlers
        root.setLevel(level)
    time.tzset()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Start a daemon that answers as told; at ``coordinator.sock``."""
    started: list[FakeDaemon] = []

    def start(handlers: Mapping[str, Handler]) -> FakeDaemon:
        started.append(FakeDaemon(tmp_path / "coordinator.sock", handlers).start())
        return started[-1]

    yield start
    for one in started:
        one.stop()
