# SPDX-License-Identifier: Apache-2.0
"""How a pass waits: what an event loop and a straight line do each in their own way, and nothing else does."""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Protocol, Self

    from refloat_service.completed import Completed

    class Deadline(Protocol):
        """What is within must be done by then: a TimeoutError comes out of it else."""

        async def __aenter__(self) -> Self:
            """Begin."""
            ...

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
        ) -> bool | None:
            """Turn the end of the time into a TimeoutError."""

        def expired(self) -> bool:
            """Tell whether it was this one that passed."""
            ...

    class Engine(Protocol):
        """Waits for a pass."""

        def now_s(self) -> float:
            """Tell the time, of a clock that only goes forward."""
            ...

        def deadline(self, seconds: float | None) -> Deadline:
            """Bound what is waited for within; None: do not."""
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


class NeedsLoop(Exception):
    """What is to be done next takes an event loop; all that was done before stands."""
