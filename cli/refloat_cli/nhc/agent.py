# SPDX-License-Identifier: Apache-2.0
"""Asks the agent of this node what the lines of its nhc.conf found; one question, so without an event loop."""

# ruff: noqa: PTH116 - pathlib would be a tenth of what the command may cost

from __future__ import annotations

import os
import stat
import time

from refloat_checks.nhc import variables
from refloat_checks.nhc.findings import LineFinding, PassResult, verdict
from refloat_contract.errors import Transient
from refloat_contract.records import record
from refloat_contract.status import Status

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812 - the class
    from collections.abc import Mapping
    from typing import Final

SOCKET: Final = "/run/refloat/agent.sock"
# Settings with which the agent's answer is still the answer.
HARMLESS: Final = frozenset({"NHC_CHECK_ALL", "NHC_CHECK_FORKED", "SILENT", "VERBOSE", "LOGFILE", "MARK_OFFLINE", "TS"})
_BLOCK_BYTES: Final = 1 << 16


@record
class Answer:
    """What the agent says: its findings, the file they are of, and whether it drains and resumes the node by itself."""

    acts: bool
    conf: str | None
    findings: tuple[LineFinding, ...]
    variables: Mapping[str, str]

    def settings(self) -> dict[str, str]:
        """NHC's variables that the file's lines set, as NHC has them when it comes to tell and to mark."""
        host = variables.of_host(os.uname().nodename)
        said = self.variables
        return {name: said[name] for name in variables.SETTINGS if name in said and said[name] != host.get(name)}

    def result(self, *, check_all: bool) -> PassResult:
        """The findings as a pass."""
        looked = self.findings
        if not check_all:
            first = next((i for i, each in enumerate(looked) if each.status is Status.FAILED), len(looked))
            looked = looked[: first + 1]
        return PassResult(looked, verdict(looked, check_all=check_all, whole=True), self.variables)


def is_there(path: str = SOCKET) -> bool:
    """Tell whether there is a socket of an agent."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def ask(*, fresh: bool, deadline_s: float, path: str = SOCKET) -> Answer:
    """Ask the agent. Raises Transient where it gives no answer that can be understood."""
    from _socket import AF_UNIX, SOCK_STREAM  # noqa: PLC0415 - without an agent none of them is needed
    from _socket import socket as open_socket  # noqa: PLC0415 - socket itself loads selectors, enums and arrays

    from refloat_service import quick_json  # noqa: PLC0415 - the same

    question = f'{{"command": "nhc", "arguments": {quick_json.flat({"fresh": fresh})}}}\n'
    line = open_socket(AF_UNIX, SOCK_STREAM)
    try:
        line.settimeout(deadline_s)
        line.connect(path)
        line.sendall(question.encode())
        said = quick_json.loads(_line(line, time.monotonic() + deadline_s))["result"]
        found = tuple(LineFinding.from_dict(each) for each in said["findings"])
        return Answer(said["acts"], said["conf"], found, said["variables"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Transient(f"{path}: {error}") from error
    finally:
        line.close()


def _line(connection: Socket, until_s: float) -> bytes:
    blocks = []
    while block := connection.recv(_BLOCK_BYTES):
        blocks.append(block)
        if block.endswith(b"\n"):
            break
        connection.settimeout(max(0.01, until_s - time.monotonic()))
    return b"".join(blocks)
