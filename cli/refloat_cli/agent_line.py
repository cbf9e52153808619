# SPDX-License-Identifier: Apache-2.0
"""One question to the agent of this node, with as few imports as it takes: for what runs before jobs and at boot."""

from __future__ import annotations

import os

# socket itself loads selectors, enums and arrays.
from _socket import AF_UNIX, SOCK_STREAM
from _socket import socket as open_socket

from refloat_service import quick_json

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

SOCKET: Final = "/run/refloat/agent.sock"
_VARIABLE: Final = "REFLOAT_AGENT_SOCKET"
_BLOCK_BYTES: Final = 1 << 16


def path() -> str:
    """Where the agent listens."""
    return os.environ.get(_VARIABLE, SOCKET)


def ask(command: str, arguments: Mapping[str, str | float | None], deadline_s: float) -> dict[str, Any] | None:
    """What the agent says; None where none answers, or it does not know such a question."""
    question = f'{{"command": "{command}", "arguments": {quick_json.flat(arguments)}}}\n'
    line = open_socket(AF_UNIX, SOCK_STREAM)
    try:
        line.settimeout(deadline_s)
        line.connect(path())
        line.sendall(question.encode())
        blocks = []
        while block := line.recv(_BLOCK_BYTES):
            blocks.append(block)
            if block.endswith(b"\n"):
                break
        said = quick_json.loads(b"".join(blocks))
    except (OSError, ValueError):
        return None
    finally:
        line.close()
    result = said.get("result") if isinstance(said, dict) else None
    return result if isinstance(result, dict) else None
