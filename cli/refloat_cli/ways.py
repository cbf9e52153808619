# SPDX-License-Identifier: Apache-2.0
"""The ways to a daemon: its control socket, and to the coordinator also the broker. The same is asked on both."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from refloat_cli import following
from refloat_service import control


class Way(Protocol):
    """All that a command asks of a daemon."""

    async def call(self, command: str, deadline_s: float = 10.0, **arguments: Any) -> Any:
        """Ask one thing.

        Raises:
            Transient: no answer came; the sentence says what to do.
            RefloatError: what the daemon answered.
        """
        ...

    def watch(self, wave: str) -> AsyncGenerator[dict[str, Any], None]:
        """A wave as ``wave_show`` tells it, at each change until it has ended; raises as `call` does."""
        ...

    def follow(self, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """What ``events`` answers to ``asked``, and then every new event; raises as `call` does."""
        ...


@dataclass(frozen=True, slots=True)
class SocketWay:
    """A daemon on this machine."""

    path: Path

    async def call(self, command: str, deadline_s: float = 10.0, **arguments: Any) -> Any:
        """Ask one thing."""
        return await control.call(self.path, command, deadline_s, **arguments)

    def watch(self, wave: str) -> AsyncGenerator[dict[str, Any], None]:
        """A wave until it has ended."""
        return control.stream(self.path, "wave_watch", id=wave)

    def follow(self, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Past and new events."""
        return following.events(self.path, asked)
