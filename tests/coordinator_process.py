# SPDX-License-Identifier: Apache-2.0
"""A real coordinator in a process of its own, whose Slurm is played by the test that started it.

Arguments: the settings as JSON, and the control socket of that Slurm.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refloat_contract.errors import Refused
from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.daemon import Coordinator
from refloat_service import control
from refloat_slurm.gateway import AdminLevel, Change, Job, JobEnd, NodeView, Registration


class FarSlurm:
    """A gateway to the Slurm of another process."""

    backend = "far"

    def __init__(self, path: Path) -> None:
        self._path = path

    async def node(self, name: str) -> NodeView:
        """One node."""
        return _view(await control.call(self._path, "node", name=name))

    async def node_in_full(self, name: str) -> NodeView:
        """One node."""
        return await self.node(name)

    async def nodes(self) -> Mapping[str, NodeView]:
        """All nodes."""
        return {row["name"]: _view(row) for row in await control.call(self._path, "nodes")}

    async def jobs(self, name: str) -> tuple[Job, ...]:
        """None are asked for."""
        raise Refused(name)

    async def all_jobs(self) -> tuple[Job, ...]:
        """There are none."""
        return ()

    async def end_job(self, job: str, how: JobEnd) -> None:
        """None is ended."""
        raise Refused(job)

    async def admin_level(self, user: str) -> AdminLevel:
        """Nobody is anybody here."""
        return AdminLevel.NONE

    async def partitions(self) -> Mapping[str, str]:
        """There are none."""
        return {}

    async def update(self, name: str, change: Change | None, reason: str | None = None) -> None:
        """Change a node."""
        await control.call(self._path, "update", pid=os.getpid(), name=name, change=change, reason=reason)

    async def aclose(self) -> None:
        """Nothing to end."""


def _view(row: dict[str, Any]) -> NodeView:
    return NodeView(
        row["name"],
        frozenset(row["flags"]),
        row["reason"],
        row["reason_user"],
        row["reason_at"],
        Registration(**row["registration"]) if row["registration"] else None,
    )


async def main() -> None:
    """Run until SIGTERM."""
    settings = CoordinatorSettings.model_validate(json.loads(sys.argv[1]))
    coordinator = Coordinator(settings, gateway=FarSlurm(Path(sys.argv[2])))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, coordinator.stop)
    await coordinator.run()


if __name__ == "__main__":
    asyncio.run(main())
