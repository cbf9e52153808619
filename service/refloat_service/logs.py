# SPDX-License-Identifier: Apache-2.0
"""Logs: to journald with one field per fact, as JSON lines, or for eyes; those of libraries go the same way."""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final, Literal, TextIO, TypeAlias

import structlog
from structlog.typing import Processor

from refloat_contract.errors import Misconfigured

Format: TypeAlias = Literal["auto", "console", "json", "journal"]
Send: TypeAlias = Callable[..., None]

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
# Fields that journald or systemd-python give a meaning of their own: systemd.journal-fields(7).
_TAKEN: Final = frozenset({"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "ERRNO", "UNIT", "USER_UNIT"})
_TAKEN_PREFIXES: Final = ("CODE_", "OBJECT_", "SYSLOG_", "COREDUMP_", "INVOCATION_", "DOCUMENTATION", "TID")
_FIELD_CAP: Final = 64


def configure(fmt: Format, level: str, stream: TextIO | None = None) -> None:
    """Set up logging of this process, for structlog and for libraries that use ``logging``.

    ``auto`` is the console on a terminal, journald under systemd where systemd-python is installed, else JSON; what is
    not for the journal goes to ``stream``, or to standard error.

    Raises:
        Misconfigured: no such level, or ``journal`` without systemd-python.
    """
    if level.lower() not in _LEVELS:
        raise Misconfigured(f"log level {level!r} is unknown: use one of {', '.join(_LEVELS)}")
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, *_output(fmt)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level.lower()]),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(logging.WARNING)


def _output(fmt: Format) -> list[Processor]:
    on_terminal = sys.stderr.isatty()
    if fmt == "journal" or (fmt == "auto" and not on_terminal and "JOURNAL_STREAM" in os.environ):
        send = _journal_send()
        if send is not None:
            return [structlog.processors.format_exc_info, JournalRenderer(send, Path(sys.argv[0]).name or "refloat")]
        if fmt == "journal":
            raise Misconfigured(
                "log format 'journal' needs the Python module systemd.journal: install python3-systemd"
                " (or systemd-python from PyPI), or use 'auto'"
            )
    if fmt == "console" or (fmt == "auto" and on_terminal):
        plain = structlog.dev.plain_traceback
        stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        return [stamp, structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=plain)]
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return [stamp, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def _journal_send() -> Send | None:
    try:
        from systemd.journal import send  # noqa: PLC0415 - an optional library; `systemd` alone would be our own folder
    except ImportError:
        return None
    return send


class JournalRenderer:
    """The last processor: hands an event to journald.

    MESSAGE is what ``journalctl`` shows, so it has the facts as well; each fact is a field of its own, too, to search
    by: ``journalctl EVENT=phase_entered PHASE=REBOOTING``.
    """

    def __init__(self, send: Send, identifier: str) -> None:
        self._send = send
        self._identifier = identifier

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        """Send it; where journald does not take it, return the line for standard error."""
        name, level = str(event.pop("event", "")), str(event.pop("level", "info"))
        facts = {key: _text(value) for key, value in event.items()}
        message = _message(name, facts)
        fields = {_field(key): value for key, value in facts.items()}
        try:
            self._send(
                message,
                **fields,
                EVENT=name,
                PRIORITY=str(_PRIORITIES.get(level, 6)),
                SYSLOG_IDENTIFIER=self._identifier,
            )
        except OSError as error:
            return f"{message} (journald did not take it: {error})"
        raise structlog.DropEvent


def _message(name: str, facts: Mapping[str, str]) -> str:
    words = [name, *(f"{key}={_quoted(value)}" for key, value in facts.items() if key != "exception")]
    trace = f"\n{facts['exception']}" if "exception" in facts else ""
    return " ".join(words) + trace


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[^\s\"=]+", text) else json.dumps(text, ensure_ascii=False)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)


def _field(key: str) -> str:
    # journald drops a field whose name has other characters, or starts with "_" or a digit.
    name = re.sub(r"[^A-Z0-9_]", "_", key.upper())[:_FIELD_CAP]
    is_taken = name in _TAKEN or name == "EVENT" or name.startswith(_TAKEN_PREFIXES)
    return f"REFLOAT_{name}"[:_FIELD_CAP] if is_taken or not name[:1].isalpha() else name


class _Forward(logging.Handler):
    """Sends what libraries log through structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on, with its traceback."""
        event = structlog.get_logger()
        facts: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            facts["exc_info"] = record.exc_info
        try:
            event.log(min(max(record.levelno // 10, 1), 5) * 10, record.getMessage(), **facts)
        except Exception:  # noqa: BLE001 - what logging.Handler asks for: a bad record must not harm who wrote it
            self.handleError(record)
