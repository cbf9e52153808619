# SPDX-License-Identifier: Apache-2.0
"""The journal: the agent's state in one JSON file, written before anything is done (write, fsync, rename, fsync)."""

import asyncio
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from refloat_agent.recipes import Part
from refloat_agent.state import State, after_boot, initial
from refloat_contract.errors import Corrupt
from refloat_contract.words import Phase
from refloat_service import atomic

VERSION: Final = 2
log = structlog.get_logger(__name__)


class Page(BaseModel):
    """The file: a version, the node it belongs to, and the state."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1, 2] = VERSION
    node: str
    state: State

    @model_validator(mode="before")
    @classmethod
    def _as_of_now(cls, page: Any) -> Any:
        """Read what the release before wrote: it knew phases only, and one ``ran`` for a recipe's commands.

        A cycle without the number of its step finds it by its phase.
        """
        if not isinstance(page, dict) or page.get("version") != 1:
            return page
        state = page.get("state")
        cycle = state.get("cycle") if isinstance(state, dict) else None
        if not isinstance(state, dict) or not isinstance(cycle, dict) or "ran" not in cycle:
            return page
        ran = cycle["ran"] is True and cycle.get("phase") == Phase.RUNNING
        kept = {key: value for key, value in cycle.items() if key != "ran"} | {"part": Part.POST if ran else Part.MAIN}
        return {**page, "state": {**state, "cycle": kept}}


_PAGE: Final = TypeAdapter(Page)


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of one node."""

    path: Path
    node: str

    async def load(self, boot_id: str) -> State:
        """The state to start from in this boot.

        An absent journal gives an empty state; one of another boot is history. One that cannot be read is set aside,
        and the state distrusts what it may have held.

        Raises:
            Transient: the file may exist, but the disk did not answer.
        """
        nonce = secrets.token_hex(3)
        data = await asyncio.to_thread(atomic.read, self.path)
        if data is None:
            return initial(boot_id, nonce)
        try:
            state = self._parse(data)
        except Corrupt as error:
            aside = self.path.with_suffix(f".corrupt-{nonce}")
            log.error("journal_corrupt", error=str(error), kept_as=str(aside))  # noqa: TRY400 - the sentence says it all
            await asyncio.to_thread(self.path.rename, aside)
            return replace(initial(boot_id, nonce), distrust=True)
        # A full disk may have kept events from the journal that were told all the same: another life never counts on
        # from the same number under the same name.
        return replace(state, nonce=nonce) if state.boot_id == boot_id else after_boot(state, boot_id, nonce)

    @staticmethod
    def is_new(state: State) -> bool:
        """Whether nothing of this boot has been saved before: the first start of the agent since the boot."""
        return state.seq == 0 and state.cycle is None

    def _parse(self, data: bytes) -> State:
        try:
            page = _PAGE.validate_json(data)
        except ValidationError as error:
            raise Corrupt(f"{self.path}: {error.error_count()} fields cannot be read") from error
        if page.node != self.node:
            raise Corrupt(f"{self.path} is the journal of node {page.node}, this is {self.node}")
        return page.state

    async def save(self, state: State) -> None:
        """Make the state durable.

        Raises:
            Transient: the disk is full, read-only or broken.
        """
        data = Page(node=self.node, state=state).model_dump_json().encode()
        await asyncio.to_thread(atomic.write, self.path, data)
