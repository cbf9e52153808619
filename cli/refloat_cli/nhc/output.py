# SPDX-License-Identifier: Apache-2.0
"""Where `nhc` writes: its log as far as it can be written, standard output, and syslog; none of them stops it."""

# ruff: noqa: PTH123 - pathlib would be a tenth of what the command may cost

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO, Final, TextIO

_OPERATORS: Final = frozenset({"", ">", ">>", "&>", "&>>", ">>&"})
DEFAULT: Final = ">>/var/log/{name}.log 2>&1"


class Output:
    """Writes NHC's lines. Its switches (SILENT, VERBOSE, DEBUG, TS) are variables, which a configuration may set."""

    def __init__(self, variables: Mapping[str, str], stdout: TextIO | None = None) -> None:
        self.variables = variables
        self._stdout = stdout or sys.stdout
        self._log: IO[str] | None = None
        self._for_syslog: list[str] = []
        self._debug_is_toggled = False

    @property
    def name(self) -> str:
        """The program's name."""
        return self.variables.get("NAME", "nhc")

    def open_log(self) -> None:
        """Open the log; where it cannot be written, say so and go on: a read-only root must still drain the node."""
        spec = self.variables.get("LOGFILE") or DEFAULT.format(name=self.name)
        if spec == "-":
            return
        path = _path(spec)
        if not path:
            self._complain(f"ERROR:  {self.name}:  cannot log to {spec} (not a path); going on without")
            return
        mode = "a" if spec.lstrip().startswith("/") or ">>" in spec else "w"
        try:
            # Open until close().
            self._log = open(path, mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        except OSError as error:
            self._complain(f"ERROR:  {self.name}:  cannot log to {spec} ({error.strerror}); going on without")

    def log(self, text: str) -> None:
        """Write a line into the log."""
        self._write(self._log or self._stdout, text)

    def verbose(self, text: str) -> None:
        """Write a line into the log if it is to be verbose."""
        if self.variables.get("VERBOSE") == "1":
            self.log(text)

    def debug(self, text: str) -> None:
        """Write a line into the log if it is to tell what it does."""
        if (self.variables.get("DEBUG") == "1") is not self._debug_is_toggled:
            self.log(f"DEBUG:  {text}")

    def toggle_debug(self) -> None:
        """Tell what is done from now on, or no more, as NHC does at SIGUSR2."""
        self._debug_is_toggled = not self._debug_is_toggled
        self.debug("NHC DEBUG mode turned on via SIGUSR2.")

    def both(self, text: str) -> None:
        """Write a line into the log and on standard output."""
        self.log(text)
        if self._log is not None:
            self._write(self._stdout, text)

    def syslog(self, text: str) -> None:
        """Keep a line for syslog."""
        self._for_syslog.append(text)

    def failed(self, message: str) -> None:
        """Tell of a failed check, everywhere."""
        self.both(f"ERROR:  {self.name}:  Health check failed:  {message}")
        self.syslog(f"Health check failed:  {message}")

    def close(self) -> None:
        """Send what is for syslog, and close the log."""
        if self._for_syslog:
            import syslog  # noqa: PLC0415 - all is well, mostly

            syslog.openlog(self.name, syslog.LOG_PID, syslog.LOG_DAEMON)
            for text in self._for_syslog:
                syslog.syslog(syslog.LOG_ERR, text)
            self._for_syslog.clear()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _complain(self, text: str) -> None:
        self._write(self._stdout, text)
        self.syslog(text)

    def _write(self, stream: IO[str], text: str) -> None:
        if self.variables.get("SILENT", "0") != "0":
            return
        stamp = self.variables.get("TS") or self.variables.get("DEBUG", "0")
        prefix = f"[{int(time.time())}] - " if stamp != "0" else ""
        try:
            stream.write(f"{prefix}{text}\n")
            stream.flush()
        except OSError as error:
            if stream is self._log:
                self._log = None
                self._complain(f"ERROR:  {self.name}:  the log cannot be written ({error.strerror}); going on without")


def _path(spec: str) -> str:
    """Give the path of a redirection such as `>>/var/log/nhc.log 2>&1`, or a path alone; nothing for all else."""
    text = spec.strip()
    rest = text.lstrip("&>")
    path, *more = rest.replace("\t", " ").split() or [""]
    operator = text[: len(text) - len(rest)]
    is_one = operator in _OPERATORS and path.startswith("/") and path != "/" and not set(path) & set(";|&<>")
    return path if is_one and more in ([], ["2>&1"]) else ""
