# SPDX-License-Identifier: Apache-2.0
"""What may be asked of the coordinator, and which of it does more than tell: the one place that says so; pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class Effect(StrEnum):
    """What an operation does."""

    LOOK = "look"
    CHANGE = "change"


EFFECTS: Final[Mapping[str, Effect]] = {
    "expand": Effect.LOOK,
    "status": Effect.LOOK,
    "summary": Effect.LOOK,
    "why": Effect.LOOK,
    "events": Effect.LOOK,
    "events_follow": Effect.LOOK,
    "budget": Effect.LOOK,
    "breaker_list": Effect.LOOK,
    "breaker_close": Effect.CHANGE,
    "wave_plan": Effect.LOOK,
    "wave_list": Effect.LOOK,
    "wave_show": Effect.LOOK,
    "wave_watch": Effect.LOOK,
    "wave_start": Effect.CHANGE,
    "wave_pause": Effect.CHANGE,
    "wave_resume": Effect.CHANGE,
    "wave_abort": Effect.CHANGE,
    "wave_retry": Effect.CHANGE,
    "wave_skip": Effect.CHANGE,
}


def is_look(operation: str) -> bool:
    """Whether an operation only tells. One that stands in no line above may do anything, and so does more."""
    return EFFECTS.get(operation) is Effect.LOOK


def changing(operations: Iterable[str]) -> frozenset[str]:
    """Those that do more than tell."""
    return frozenset(name for name in operations if not is_look(name))
