# SPDX-License-Identifier: Apache-2.0
"""The coordinator of `make bench-scale`: the real daemon in a process of its own, on the simulated slurmctld."""

import logging
from pathlib import Path
from typing import Any

import structlog
from scaleslurm import RemoteGateway
from scalewire import Wire

from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.daemon import Coordinator


async def run(slurm: Path, settings: dict[str, Any]) -> None:
    """Serve until killed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    wire = await Wire().open(slurm)
    gateway = RemoteGateway(wire, "coordinator")
    await Coordinator(CoordinatorSettings.model_validate(settings), gateway=gateway).run()
