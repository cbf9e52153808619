# SPDX-License-Identifier: Apache-2.0
"""The commands of a recipe, run one after the other."""

from collections.abc import Sequence

import structlog

from refloat_agent.recipes import Argv
from refloat_contract.errors import RefloatError, Refused
from refloat_service import commands

log = structlog.get_logger(__name__)


class RecipeCommands:
    """Runs argv lists; they must be idempotent, for a crash in between runs them again."""

    async def run(self, argvs: Sequence[Argv], deadline_s: float, *, keep_going: bool) -> None:
        """Run commands in order; the first that fails ends it, unless ``keep_going``: then all failures are told.

        Raises:
            Refused: a command failed, or cannot be run.
            Transient: a command did not end within its ``deadline_s``, and was killed.
        """
        failures: list[RefloatError] = []
        for argv in argvs:
            log.info("recipe_command", argv=list(argv))
            try:
                await _run(argv, deadline_s)
            except RefloatError as error:
                if not keep_going:
                    raise
                failures.append(error)
        if failures:
            raise Refused("; ".join(map(str, failures)))


async def _run(argv: Argv, deadline_s: float) -> None:
    # It may start a daemon, which must not inherit the processors that we keep to.
    done = await commands.run(argv, deadline_s=deadline_s, pinned=False)
    if done.returncode != 0:
        raise Refused(f"{' '.join(argv)}: {done.complaint}")
