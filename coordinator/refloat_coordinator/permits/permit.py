# SPDX-License-Identifier: Apache-2.0
"""One permit as it is kept on disk. Who gets one is in `grants`."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from refloat_contract.words import Purpose


class Permit(BaseModel):
    """The leave that a node has to be out of service.

    ``report_at`` is the time, by the node's own clock, of the request or of the agent's last report before the grant:
    a report that is not later is from before, however late the broker delivers it. ``boots`` says that the cycle
    reboots the node; ``boot_id`` and ``boot_time`` are of the boot before, by the agent's word and by Slurm's.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    node: str
    cycle: str
    purpose: Purpose
    wave: str = ""
    recipe: str = ""
    cause: str = ""
    granted_at: float
    report_at: float = 0.0
    boots: bool = False
    boot_id: str = ""
    boot_time: int = 0


Permits: TypeAlias = Mapping[str, Permit]
