# SPDX-License-Identifier: Apache-2.0
"""How often a woken check is looked at: soon after the first event, seldom in a storm, and once more after it."""

from dataclasses import dataclass, field
from typing import Final

DEBOUNCE_S: Final = 0.05
BURST: Final = 3
EVERY_S: Final = 1.0


@dataclass(slots=True)
class Pace:
    """Events of one check within `debounce_s` make one look; `burst` looks are free, then one each `every_s`.

    What was wanted stays wanted until it is taken, so that each event is followed by a look. Time is given, not asked.
    """

    debounce_s: float = DEBOUNCE_S
    burst: int = BURST
    every_s: float = EVERY_S
    _wanted: dict[str, float] = field(default_factory=dict)
    _paid_until: dict[str, float] = field(default_factory=dict)

    def want(self, name: str, now_s: float) -> bool:
        """Want a look at this check; False if one is wanted already, which will see this change too."""
        if name in self._wanted:
            return False
        # The bucket as one number: each look pays for `every_s`, and `burst` of them may be paid for in advance.
        free_s = self._paid_until.get(name, 0.0) - (self.burst - 1) * self.every_s
        self._wanted[name] = max(now_s + self.debounce_s, free_s)
        return True

    def take(self, now_s: float) -> tuple[str, ...]:
        """Give the checks to be looked at now."""
        due = tuple(name for name, at_s in self._wanted.items() if at_s <= now_s)
        for name in due:
            del self._wanted[name]
            self._paid_until[name] = max(self._paid_until.get(name, 0.0), now_s) + self.every_s
        return due

    def pause_s(self, now_s: float) -> float | None:
        """How long nothing is to be taken; None while nothing is wanted."""
        return max(0.0, min(self._wanted.values()) - now_s) if self._wanted else None
