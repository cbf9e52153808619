# SPDX-License-Identifier: Apache-2.0
"""The agent, made to die: at the boundaries that the file /lab/die-at names it kills itself, or stands still.

The crash campaign puts this in the place of the agent's command. A boundary is the moment before and after each save of
the journal, and before and after each action. Their count goes on through lives and boots: it is the number of lines of
/lab/boundaries. "kill 7 19" is SIGKILL at the seventh and the nineteenth, "freeze 7" SIGSTOP: then the power is cut.
"""

import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from refloat_agent import daemon, main
from refloat_agent.actions import Action
from refloat_agent.journal import Journal
from refloat_agent.performer import Performer
from refloat_agent.state import State

ORDER: Final = Path("/lab/die-at")
PASSED: Final = Path("/lab/boundaries")


def boundary(name: str) -> None:
    """Note that it is passed; die there if that is the order."""
    if not ORDER.exists():
        return
    how, *points = ORDER.read_text().split()
    with PASSED.open("a+") as passed:
        passed.seek(0)
        number = len(passed.readlines()) + 1
        passed.write(f"{number} {name}\n")
    if str(number) in points:
        os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)


class DyingJournal(Journal):
    """The journal, with a boundary before and after each save."""

    async def save(self, state: State) -> None:
        what = f"save {state.cycle.phase if state.cycle else 'IN_SERVICE'}"
        boundary(f"before {what}")
        await super().save(state)
        boundary(f"after {what}")


class DyingPerformer(Performer):
    """The performer, with a boundary before and after each action."""

    def _dispatch(self, action: Action) -> Coroutine[Any, Any, None]:
        return _between(type(action).__name__, super()._dispatch(action))


async def _between(what: str, action: Coroutine[Any, Any, None]) -> None:
    boundary(f"before {what}")
    try:
        await action
    finally:
        boundary(f"after {what}")


if __name__ == "__main__":
    vars(daemon).update(Journal=DyingJournal, Performer=DyingPerformer)
    main.main()
