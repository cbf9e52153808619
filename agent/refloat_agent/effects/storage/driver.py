# SPDX-License-Identifier: Apache-2.0
"""What a storage driver is: how one kind of filesystem is mounted and unmounted, and what proves either."""

import asyncio
import os
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from refloat_agent.effects.storage import transport
from refloat_agent.effects.storage.table import Entry, Table
from refloat_agent.storage import Storage
from refloat_contract.errors import Refused
from refloat_service import commands
from refloat_service.completed import Completed

log = structlog.get_logger(__name__)

OUTPUT_CAP_BYTES: Final = 1 << 20
PROOF_S: Final = 10.0
"""How long one question to a tool may take; the loop waits for the answer."""


class Driver(Protocol):
    """One configured storage, in the hands of the tools of its kind.

    Each call may be repeated at any time. ``mount`` and ``unmount`` raise Refused or Transient with the tool's own
    complaint, which is no proof of anything: the mount table and the other two calls are. These raise, too, where they
    cannot tell.
    """

    async def mount(self, deadline_s: float) -> None:
        """Mount it; nothing is mounted there."""
        ...

    async def unmount(self, deadline_s: float) -> None:
        """Unmount what is mounted there, never by force."""
        ...

    async def unload(self, mounts: Table, deadline_s: float) -> None:
        """Stop what remains of its client, never beneath anything that is mounted."""
        ...

    async def remains(self, mounts: Table) -> str:
        """What is not gone yet although nothing is mounted on its path; empty: it is gone."""
        ...

    async def complaint(self, entry: Entry) -> str:
        """What its own tools have against the mount; empty: nothing."""
        ...

    async def transports(self, entry: Entry) -> frozenset[str]:
        """By which transports it is connected; empty: that cannot be told."""
        ...


class TableDriver:
    """What holds for a filesystem of which the mount table tells all that there is to tell."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    async def unload(self, mounts: Table, deadline_s: float) -> None:
        """There is nothing to stop."""

    async def remains(self, mounts: Table) -> str:  # noqa: ARG002 - a driver may need it
        """Nothing: what the table does not show is gone."""
        return ""

    async def complaint(self, entry: Entry) -> str:  # noqa: ARG002
        """Nothing: no tool knows more than the table."""
        return ""

    async def transports(self, entry: Entry) -> frozenset[str]:
        """What the table says."""
        return transport.of_mount(entry.mount)


async def order(storage: Storage, argv: Sequence[str], deadline_s: float) -> Completed:
    """Run a tool that must succeed.

    Raises:
        Refused: it failed, with its last line as the reason, or it cannot be run.
        Transient: it did not end in time.
    """
    log.info("storage_command", storage=storage.name, argv=list(argv))
    # mmstartup and the like start daemons, which must not inherit the processors that we keep to.
    done = await ask(argv, deadline_s, pinned=False)
    if done.returncode != 0:
        raise Refused(f"{storage.name}: {' '.join(argv)}: {done.complaint}")
    return done


async def ask(argv: Sequence[str], deadline_s: float = PROOF_S, *, pinned: bool = True) -> Completed:
    """Run a tool whose answer is read here, so it answers in English, whatever its exit status."""
    environment = {**os.environ, "LC_ALL": "C"}
    return await commands.run(argv, deadline_s=deadline_s, env=environment, cap_bytes=OUTPUT_CAP_BYTES, pinned=pinned)


class Budget:
    """What is left of a deadline, at least a second of it: a tool that is started gets a fair try."""

    def __init__(self, deadline_s: float) -> None:
        self._end_s = asyncio.get_running_loop().time() + deadline_s

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return max(1.0, self._end_s - asyncio.get_running_loop().time())

    @property
    def is_spent(self) -> bool:
        """Whether the deadline has passed."""
        return asyncio.get_running_loop().time() >= self._end_s
