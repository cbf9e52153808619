# SPDX-License-Identifier: Apache-2.0
"""How a pass waits: what an event loop and a straight line do each in their own way, and nothing else does."""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from typing import Any, Protocol, TypeVar

    from refloat_service.completed import Completed

    T = TypeVar("T")

    class Engine(Protocol):
        """Waits for a pass."""

        def now_s(self) -> float:
            """Tell the time, of a clock that only goes forward."""
            ...

        async def within(self, seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
            """Do what must be done within so long (None: in its own time); raises Late when it is not."""
            ...

        async def command(
            self,
            argv: Sequence[str],
            *,
            deadline_s: float,
            env: Mapping[str, str] | None = None,
            cap_bytes: int | None = None,
        ) -> Completed:
            """Run a program to its end, as `refloat_service.commands.run` promises."""
            ...

        async def ends(self, handle: int, within_s: float) -> bool:
            """Wait for the end of the process of this pidfd, so long: whether it has ended."""
            ...

        def require_loop(self) -> None:
            """Raise NeedsLoop where there is no event loop."""


class Late(TimeoutError):
    """What was to be done was not done in its time."""


class NeedsLoop(Exception):
    """What is to be done next takes an event loop; all that was done before stands."""
