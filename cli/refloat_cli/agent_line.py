# SPDX-License-Identifier: Apache-2.0
"""One question to the agent of this node, with as few imports as it takes: for what runs before jobs and at boot."""

from __future__ import annotations

import json
import os
import socket

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Any, Final

SOCKET: Final = "/run/refloat/agent.sock"
_VARIABLE: Final = "REFLOAT_AGENT_SOCKET"
_BLOCK_BYTES: Final = 1 << 16


def path() -> str:
    """Where the agent listens."""
    return os.environ.get(_VARIABLE, SOCKET)


def ask(command: str, arguments: dict[str, Any], deadline_s: float) -> dict[str, Any] | None:
    """What the agent says; None where none answers, or it does not know such a question."""
    question = {"command": command, "arguments": arguments}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(deadline_s)
            line.connect(path())
            line.sendall(json.dumps(question).encode() + b"\n")
            blocks = []
            while block := line.recv(_BLOCK_BYTES):
                blocks.append(block)
                if block.endswith(b"\n"):
                    break
        said = json.loads(b"".join(blocks))
    except (OSError, ValueError):
        return None
    result = said.get("result") if isinstance(said, dict) else None
    return result if isinstance(result, dict) else None
