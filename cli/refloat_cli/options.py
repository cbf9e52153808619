# SPDX-License-Identifier: Apache-2.0
"""Options that many commands have."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Socket: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        envvar="REFLOAT_COORDINATOR_SOCKET",
        help="Control socket of the daemon to ask; default /run/refloat/coordinator.sock.",
        show_default=False,
    ),
]
Broker: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Ask the coordinator over MQTT, as this file (operator.toml) says; also by REFLOAT_BROKER.",
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
