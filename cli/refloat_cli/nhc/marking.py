# SPDX-License-Identifier: Apache-2.0
"""Drain and resume the node in Slurm as NHC's helpers do, each question with a deadline: no answer, nothing done."""

from __future__ import annotations

from refloat_checks.nhc import slurm_marking, words
from refloat_contract.errors import RefloatError
from refloat_contract.records import record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Final

    from refloat_checks.nhc.engine import Engine
    from refloat_service.completed import Completed

DEADLINE_S: Final = 5.0
_IN_SERVICE: Final = ("alloc", "comp", "idle", "mix", "resume", "resv", "undrain")
_UPDATE_WORDS: Final = 2  # `update State=...`, which SLURM_SC_..._ARGS replace


@record
class State:
    """The node as sinfo shows it, by the name that Slurm knows it by."""

    node: str
    state: str
    reason: str


class Marking:
    """Marks one node. `names` are the names that Slurm may know it by, the likeliest first."""

    def __init__(
        self, variables: Mapping[str, str], names: Sequence[str], log: Callable[[str], None], engine: Engine
    ) -> None:
        self._variables = variables
        self._names = names
        self._log = log
        self._engine = engine

    async def offline(self, message: str, *, strict: bool) -> None:
        """Drain the node with this message, unless its state or its reason says to leave it."""
        found = await self._state()
        if found is None:
            return
        reason = found.reason
        if not strict and found.state.startswith(_IN_SERVICE):
            reason = slurm_marking.NO_REASON  # what lingers on a node in service says nothing of it any more
        leader = reason.split()[:1]
        if not strict and leader and leader[0] not in {slurm_marking.NO_REASON, slurm_marking.LEADER}:
            self._log(f"Not offlining {found.node}:  {found.state} for another reason ({reason})")
            return
        if not strict and reason.split() == [slurm_marking.LEADER, *message.split()]:
            # NHC drains again with the same words, at every run.
            self._log(f"Not changing state {found.state} of {found.node}:  it stands so ({reason})")
            return
        arguments = slurm_marking.offline(
            found.state, reason, message, node=found.node, ignore_empty_note=self._is_set("IGNORE_EMPTY_NOTE")
        )
        await self._apply(found, arguments, "SLURM_SC_OFFLINE_ARGS", f"offline:  {slurm_marking.LEADER} {message}")

    async def online(self) -> None:
        """Resume the node if it was drained by NHC."""
        found = await self._state()
        if found is None:
            return
        arguments = slurm_marking.online(
            found.state, found.reason, node=found.node, ignore_empty_note=self._is_set("IGNORE_EMPTY_NOTE")
        )
        if arguments is not None:
            await self._apply(found, arguments, "SLURM_SC_ONLINE_ARGS", "online")

    async def _apply(self, found: State, arguments: list[str] | None, variable: str, what: str) -> None:
        if arguments is None:
            self._log(f"Not changing state {found.state} of {found.node} ({found.reason})")
            return
        if self._variables.get(variable):
            arguments = [*self._argv(variable, ""), *arguments[_UPDATE_WORDS:]]
        self._log(f"Marking {found.state} {found.node} {what}")
        done = await self._asked([*self._argv("SLURM_SCONTROL", "scontrol"), *arguments])
        if done is not None and done.returncode != 0:
            self._log(f"{found.node} could not be marked:  {done.complaint}")

    async def _state(self) -> State | None:
        for name in [*self._names, None]:
            node = name if name is not None else await self._name_by_slurmd()
            if not node:
                continue
            done = await self._asked([*self._argv("SLURM_SINFO", "sinfo"), "-o", "%t %E", "-hn", node])
            if done is None:
                return None
            state, _, reason = (done.stdout.splitlines() or [""])[0].strip().partition(" ")
            if done.returncode == 0 and state:
                return State(node, state, reason.strip())
        self._log(f"Slurm does not know this node as {', '.join(self._names)}:  its state is left as it is")
        return None

    async def _name_by_slurmd(self) -> str:
        done = await self._asked(["slurmd", "-C"])
        found = [word[9:] for word in done.stdout.split() if word.startswith("NodeName=")] if done is not None else []
        return found[0] if found and found[0] not in self._names else ""

    async def _asked(self, argv: Sequence[str]) -> Completed | None:
        try:
            return await self._execute(argv)
        except RefloatError as error:
            self._log(f"The node's state is left as it is:  {error}")
            return None

    async def _execute(self, argv: Sequence[str]) -> Completed:
        env = {"PATH": self._variables.get("PATH", ""), "LC_ALL": "C"}
        env |= {name: value for name, value in self._variables.items() if name.startswith("SLURM_CONF")}
        return await self._engine.command(("/usr/bin/env", "--", *argv), deadline_s=DEADLINE_S, env=env)

    def _argv(self, variable: str, default: str) -> list[str]:
        command = words.parse(self._variables.get(variable) or default)
        found = [words.expand(word, self._variables.get) or [] for word in command.words] if command is not None else []
        return [word for each in found for word in each] or [default]

    def _is_set(self, variable: str) -> bool:
        return self._variables.get(variable) == "1"
