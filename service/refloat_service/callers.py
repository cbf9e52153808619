# SPDX-License-Identifier: Apache-2.0
"""Who asked: the person behind a command that came over a socket or MQTT, for the record.

Over a socket the kernel says who connected, over MQTT the broker, by their certificate. Behind sudo that is root for
everybody, so the login that the process belongs to is looked up as well, which no process can change.
"""

import asyncio
import contextlib
import pwd
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from refloat_service.peers import Peer


@dataclass(frozen=True, slots=True)
class Caller:
    """Who gave a command, and whether they may do more than read: a ``peer`` on the socket, or an ``operator``."""

    peer: Peer | None
    may_act: bool
    operator: str = ""

    def is_at_home(self, own_uid: int) -> bool:
        """Whether they could run any program as this daemon anyhow: root, or its own user, on this machine."""
        return self.peer is not None and self.peer.uid in {0, own_uid}


CALLER: Final[ContextVar[Caller | None]] = ContextVar("caller", default=None)
"""Who gave the command that is being carried out in this task; None where nobody did."""

# proc(5): what the kernel shows for a process of no login session.
_NOBODY_LOGGED_IN: Final = 4294967295
_LOOK_UP_S: Final = 2.0


async def name() -> str:
    """The caller in words: ``alice as root``, ``uid 1004``, ``alice over MQTT``; empty where nobody asked."""
    caller = CALLER.get()
    if caller is None:
        return ""
    if caller.peer is None:
        return f"{caller.operator} over MQTT"
    peer = caller.peer
    # The name service may be a directory server that is down: it is not waited for.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_UP_S):
            return await asyncio.to_thread(_name, peer)
    return f"uid {peer.uid}"


def _name(peer: Peer, proc: Path = Path("/proc")) -> str:
    user, login = user_of(peer.uid), login_of(peer.pid, proc)
    return user if login is None or login == peer.uid else f"{user_of(login)} as {user}"


def login_of(pid: int, proc: Path = Path("/proc")) -> int | None:
    """The user who logged in to the session of a process; None where it has none, or is gone."""
    try:
        uid = int((proc / str(pid) / "loginuid").read_text())
    except (OSError, ValueError):
        return None
    return None if uid == _NOBODY_LOGGED_IN else uid


def user_of(uid: int) -> str:
    """The name of a user; a number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
