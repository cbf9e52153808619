# SPDX-License-Identifier: Apache-2.0
"""A wave's blocker: a command of the site's that may keep nodes from being taken out now; pure.

It is asked before a batch is marked, never by the decision itself: the decision says what is to be asked, and the
answer comes in with the next look.
"""

import json
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

FRESH_S: Final = 60.0
"""So long an answer stands; then the blocker is asked again."""

_BLOCKED: Final = 1
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class AskBlocker:
    """Run the blocker of a wave for these nodes."""

    wave: str
    command: str
    nodes: tuple[str, ...]
    recipe: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class BlockerAnswer:
    """What a blocker said about these nodes; ``why`` is empty where it lets them go."""

    nodes: frozenset[str]
    at: float
    why: str = ""

    @property
    def is_free(self) -> bool:
        """Whether the nodes may be taken out."""
        return not self.why

    def is_stale(self, nodes: Collection[str], now: float) -> bool:
        """Whether the blocker is to be asked again: the answer is old, or says nothing of any of these nodes."""
        return now - self.at > FRESH_S or (self.is_free and self.nodes.isdisjoint(nodes))


def split(command: str) -> tuple[str, ...]:
    """The command as an argv list, split as a shell would and run by none.

    Raises:
        ValueError: quotes are not closed, or it is empty.
    """
    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise ValueError(f"blocker {command!r}: {error}") from error
    if not argv:
        raise ValueError("an empty blocker")
    return argv


def argv_of(question: AskBlocker) -> tuple[str, ...]:
    """The command with the nodes behind it."""
    return (*split(question.command), *question.nodes)


def stdin_of(question: AskBlocker) -> bytes:
    """What the command may read: the same and more, as JSON."""
    told = {"wave": question.wave, "nodes": question.nodes, "recipe": question.recipe, "image": question.image}
    return json.dumps(told).encode() + b"\n"


def judge(question: AskBlocker, status: int, output: str, now: float) -> BlockerAnswer:
    """What an exit status means: 0 lets the nodes go, 1 does not and says why, another says nothing and so does not."""
    if status == 0:
        return BlockerAnswer(frozenset(question.nodes), now)
    first = next((line.strip() for line in output.splitlines() if line.strip()), "")[:_SHOWN]
    if status == _BLOCKED:
        why = f"blocked by {_name(question)}: {first or 'it does not say why'}"
    else:
        why = (
            f"blocked: {_name(question)} ended with status {status}{f' ({first})' if first else ''}, which says nothing"
        )
    return BlockerAnswer(frozenset(question.nodes), now, why)


def unanswered(question: AskBlocker, error: str, now: float) -> BlockerAnswer:
    """Where it could not be run, or did not end: nobody said that the nodes may go."""
    return BlockerAnswer(frozenset(question.nodes), now, f"blocked: {_name(question)} gave no answer: {error}")


def _name(question: AskBlocker) -> str:
    return split(question.command)[0].rpartition("/")[2]
