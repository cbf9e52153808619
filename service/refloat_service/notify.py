# SPDX-License-Identifier: Apache-2.0
"""What a daemon tells its service manager: ready, what it does, that it lives, that it stops."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from refloat_contract.errors import Misconfigured


class Notifier(Protocol):
    """Tells the service manager how the daemon is."""

    @property
    def watchdog_interval_s(self) -> float | None:
        """How often to call ``watchdog``: half of what the manager allows; None where it does not watch."""

    def ready(self, status: str) -> None:
        """Say that the daemon serves now."""

    def status(self, text: str) -> None:
        """Say in one line what the daemon does; ``systemctl status`` shows it."""

    def watchdog(self) -> None:
        """Say that the daemon makes progress."""

    def stopping(self, text: str) -> None:
        """Say that the daemon ends, and why."""


@dataclass(frozen=True, slots=True)
class SilentNotifier:
    """Nobody listens: the daemon was not started by a service manager."""

    @property
    def watchdog_interval_s(self) -> float | None:
        """Nobody watches."""
        return None

    def ready(self, status: str) -> None:
        """Say nothing."""

    def status(self, text: str) -> None:
        """Say nothing."""

    def watchdog(self) -> None:
        """Say nothing."""

    def stopping(self, text: str) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True)
class SystemdNotifier:
    """Speaks sd_notify(3) through systemd-python."""

    watchdog_interval_s: float | None = None

    def ready(self, status: str) -> None:
        """Say that the daemon serves now."""
        _notify(f"READY=1\nSTATUS={_line(status)}")

    def status(self, text: str) -> None:
        """Say in one line what the daemon does."""
        _notify(f"STATUS={_line(text)}")

    def watchdog(self) -> None:
        """Say that the daemon makes progress."""
        _notify("WATCHDOG=1")

    def stopping(self, text: str) -> None:
        """Say that the daemon ends, and why."""
        _notify(f"STOPPING=1\nSTATUS={_line(text)}")


def from_environment(env: Mapping[str, str] = os.environ) -> Notifier:
    """The notifier for the service manager that started this process; a silent one where none did.

    Raises:
        Misconfigured: the service manager waits for word, and the library to give it is not installed.
    """
    if not env.get("NOTIFY_SOCKET"):
        return SilentNotifier()
    try:
        import systemd.daemon  # noqa: F401, PLC0415 - an optional library; `systemd` alone would be our own folder
    except ImportError as error:
        raise Misconfigured(
            "NOTIFY_SOCKET is set, but the Python module systemd.daemon is missing: install python3-systemd"
            " (or systemd-python from PyPI), or set Type=exec and no WatchdogSec= in the unit"
        ) from error
    return SystemdNotifier(_watchdog_interval_s(env))


def _watchdog_interval_s(env: Mapping[str, str]) -> float | None:
    # sd_watchdog_enabled(3): WATCHDOG_PID names the process that is watched, so that children do not answer for it.
    text, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if not text or (pid and pid != str(os.getpid())):
        return None
    if not text.isdecimal() or int(text) == 0:
        raise Misconfigured(f"WATCHDOG_USEC={text!r} is not a number of microseconds: look at WatchdogSec= in the unit")
    return int(text) / 2e6


def _notify(state: str) -> None:
    import systemd.daemon  # noqa: PLC0415 - an optional library

    systemd.daemon.notify(state)


def _line(text: str) -> str:
    # A newline would start a new assignment.
    return " ".join(text.split())
