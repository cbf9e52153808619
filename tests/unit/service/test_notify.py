# SPDX-License-Identifier: Apache-2.0
import os
import sys
from types import ModuleType

import pytest

from refloat_contract.errors import Misconfigured
from refloat_service import notify


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is told to systemd."""
    said: list[str] = []
    package, daemon = ModuleType("systemd"), ModuleType("systemd.daemon")
    daemon.notify = said.append  # type: ignore[attr-defined]
    package.daemon = daemon  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemd", package)
    monkeypatch.setitem(sys.modules, "systemd.daemon", daemon)
    return said


def test_nobody_is_told_where_nobody_listens(sent: list[str]) -> None:
    notifier = notify.from_environment({})

    notifier.ready("up")
    notifier.watchdog()

    assert sent == []
    assert notifier.watchdog_interval_s is None


def test_systemd_is_told_in_its_own_words(sent: list[str]) -> None:
    notifier = notify.from_environment({"NOTIFY_SOCKET": "/run/x"})

    notifier.ready("in service")
    notifier.status("two\nlines")
    notifier.watchdog()
    notifier.stopping("SIGTERM")

    assert sent == ["READY=1\nSTATUS=in service", "STATUS=two lines", "WATCHDOG=1", "STOPPING=1\nSTATUS=SIGTERM"]


@pytest.mark.parametrize(
    ("env", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time_if_it_watches_us(
    env: dict[str, str], interval_s: float | None, sent: list[str]
) -> None:
    assert notify.from_environment({"NOTIFY_SOCKET": "/run/x", **env}).watchdog_interval_s == interval_s


def test_a_watchdog_time_that_is_no_number_is_misconfigured(sent: list[str]) -> None:
    with pytest.raises(Misconfigured, match="WATCHDOG_USEC='soon'"):
        notify.from_environment({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"})


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd.daemon", None)

    with pytest.raises(Misconfigured, match="install python3-systemd"):
        notify.from_environment({"NOTIFY_SOCKET": "/run/x"})
