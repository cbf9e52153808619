# SPDX-License-Identifier: Apache-2.0
"""The recipes' own commands, run one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from refloat_contract.errors import Refused
from refloat_service import commands

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RecipeCommands:
    """Each recipe's argv lists; they must be idempotent, for a crash in between runs them again."""

    argvs: Mapping[str, Sequence[Sequence[str]]]
    deadline_s: float

    async def run(self, recipe: str) -> None:
        """Run the recipe's commands in order; the first that fails ends it.

        Raises:
            Refused: a command failed, or cannot be run.
            Transient: a command did not end in time.
        """
        for argv in self.argvs.get(recipe, ()):
            log.info("recipe_command", recipe=recipe, argv=list(argv))
            done = await commands.run(argv, deadline_s=self.deadline_s)
            if done.returncode != 0:
                raise Refused(f"{' '.join(argv)}: {done.complaint}")
