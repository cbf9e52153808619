# SPDX-License-Identifier: Apache-2.0
"""What of the checks outlasts the agent within a boot: failures that stick, and checks that somebody switched off."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from refloat_contract.errors import Transient
from refloat_service import atomic

VERSION: Final = 1
log = structlog.get_logger(__name__)


class Stuck(BaseModel):
    """A sticky failure that is believed; ``since_s`` is CLOCK_BOOTTIME."""

    model_config = ConfigDict(frozen=True)

    message: str
    since_s: float


class Standing(BaseModel):
    """The file: by check, what stands in this boot; ``off`` names who switched a check off."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = VERSION
    boot_id: str
    stuck: Mapping[str, Stuck] = {}
    off: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class StandingFile:
    """Keeps it on disk, for this boot."""

    path: Path
    boot_id: str

    async def load(self) -> Standing:
        """What stands; nothing of another boot does, nor what cannot be read, which is logged."""
        nothing = Standing(boot_id=self.boot_id)
        try:
            data = await asyncio.to_thread(atomic.read, self.path)
            found = Standing.model_validate_json(data) if data is not None else nothing
        except (Transient, ValidationError) as error:
            log.error("standing_not_read", path=str(self.path), error=str(error).splitlines()[0])  # noqa: TRY400 - one line says it
            return nothing
        return found if found.boot_id == self.boot_id else nothing

    async def save(self, stuck: Mapping[str, Stuck], off: Mapping[str, str]) -> None:
        """Keep it. On a disk that refuses it stands in memory only, which is logged."""
        standing = Standing(boot_id=self.boot_id, stuck=stuck, off=off)
        try:
            await asyncio.to_thread(atomic.write, self.path, standing.model_dump_json().encode())
        except Transient as error:
            log.warning("standing_not_kept", error=str(error))
