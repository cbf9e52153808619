# SPDX-License-Identifier: Apache-2.0
"""`refloat gate`: waits until the agent of this node lets slurmd start; the oneshot unit before slurmd runs it.

It ends with 0 whatever happens: a node without slurmd is one that nobody can drain, look at or resume.
"""

import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from refloat_cli import agent_line

PATIENCE_S: Final = 60.0
"""How long no agent may answer, from the start or the last answer on."""
_EVERY_S: Final = 1.0
_ANSWER_S: Final = 20.0
_AGAIN_S: Final = 60.0
"""What has not changed is logged again this often."""

Ask: TypeAlias = Callable[[float], dict[str, Any] | None]


@dataclass(slots=True)
class Telling:
    """What is waited for, to the log and to `systemctl status`: when it changes, and now and then."""

    now: Callable[[], float]
    _said: str = ""
    _said_s: float = field(default=0.0)

    def say(self, text: str) -> None:
        """Say it, unless it was said just before."""
        if text == self._said and self.now() - self._said_s < _AGAIN_S:
            return
        self._said, self._said_s = text, self.now()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        notify(f"STATUS={' '.join(text.split())}")


def ask(waited_s: float) -> dict[str, Any] | None:
    """Ask the agent."""
    return agent_line.ask("gate", {"waited_s": waited_s}, _ANSWER_S)


def wait(
    patience_s: float = PATIENCE_S,
    *,
    ask: Ask = ask,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Wait until the agent says that slurmd may start, or has not answered for too long."""
    telling, began_s = Telling(now), now()
    answered_s = began_s
    while True:
        said = ask(now() - began_s)
        if said is not None:
            answered_s = now()
            telling.say(f"slurmd may start: {said['why']}" if said["opens"] else str(said["why"]))
            if said["opens"]:
                return 0
        elif now() - answered_s >= patience_s:
            telling.say(f"slurmd may start UNGUARDED: no agent answers at {agent_line.path()}")
            return 0
        else:
            telling.say(f"no agent answers at {agent_line.path()}: waiting for {patience_s:g} s at most")
        sleep(_EVERY_S)


def quick(words: list[str]) -> int | None:
    """Wait; None: other words than `--patience SECONDS`, which are left to the whole command line."""
    match words:
        case []:
            return wait()
        case ["--patience", seconds] if seconds.isdecimal() and seconds.isascii():
            return wait(float(seconds))
    return None


def notify(state: str) -> None:
    """Tell systemd, if it wants to hear (sd_notify(3)); no library, for this must start in no time."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place:
        return
    address = "\0" + place[1:] if place.startswith("@") else place
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        try:
            line.sendto(state.encode(), address)
        except OSError as error:
            sys.stderr.write(f"systemd was not told: {error.strerror}\n")
