# SPDX-License-Identifier: Apache-2.0
"""The ports: all of the outside world that the loop may touch, as small Protocols.

Adapters stand in `effects` (real) and in the demo (simulated). Each is idempotent, has its own deadline, reports
failure by raising a RefloatError, and knows nothing of phases.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from refloat_agent.observation import HealthFacts, PermitFacts, ServiceFacts, SlurmFacts, StepProcess, StorageFacts
from refloat_agent.recipes import Argv, Way
from refloat_contract.messages import Event, NodeReport
from refloat_contract.words import Purpose
from refloat_slurm.gateway import Change, Job, NodeView


class Clock(Protocol):
    """Time: of this boot for deadlines, of the wall for the record."""

    def boottime_s(self) -> float:
        """Seconds since boot, time asleep included; never jumps."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        ...


class SlurmNode(Protocol):
    """This node in Slurm."""

    def latest(self) -> SlurmFacts | None:
        """The newest view at hand, from the feed or an own read; None before the first."""
        ...

    async def read(self) -> NodeView:
        """Read it from slurmctld now."""
        ...

    async def jobs(self) -> tuple[Job, ...]:
        """The jobs that hold the node."""
        ...

    async def is_registered(self) -> bool:
        """Whether the slurmd of this boot has registered with slurmctld."""
        ...

    async def update(self, change: Change, reason: str | None = None) -> None:
        """Write state and reason."""
        ...


class Mounts(Protocol):
    """The configured storage."""

    async def state(self) -> tuple[StorageFacts, ...]:
        """What is mounted, from the mount table alone: the filesystems themselves are not touched."""
        ...

    async def mount(self) -> None:
        """Mount what is missing, in order."""
        ...

    async def unmount(self, cycle: str, *, reboots: bool, still: Callable[[], bool]) -> None:
        """Unmount what is mounted, in reverse order; returns when all is gone, or left as the configuration says.

        It may wait long for what is busy. Before each thing that it does it asks whether that is ``still`` to be:
        whether the latest look, too, proved the node empty.

        Raises GivenUp when something stayed busy and a human must look.
        """
        ...


class Services(Protocol):
    """The configured services."""

    async def state(self) -> tuple[ServiceFacts, ...]:
        """Which of them are active."""
        ...

    async def stop(self, *, keep_going: bool) -> None:
        """Stop them in order, up to the first that fails; with ``keep_going`` all, whatever fails."""
        ...

    async def start(self) -> None:
        """Start them in reverse order."""
        ...


class Power(Protocol):
    """This machine."""

    def boot_id(self) -> str:
        """The kernel's id of this boot, and ``.n`` after n soft reboots within it."""
        ...

    def image(self) -> str:
        """The id of the image that the node runs; empty where it names none."""
        ...

    async def reboot(self, way: Way) -> None:
        """Ask for a reboot; returns when the request is accepted."""
        ...


class Processes(Protocol):
    """The process table."""

    async def steps(self) -> tuple[StepProcess, ...]:
        """The slurmstepd processes that serve a job."""
        ...

    def started_at(self, name: str) -> list[float]:
        """When the processes of this name started, in seconds since 1970 by this machine's clock."""
        ...


class Commands(Protocol):
    """The recipes' commands, and their hooks."""

    async def run(self, argvs: Sequence[Argv], deadline_s: float, *, keep_going: bool) -> None:
        """Run them in order, up to the first that fails; with ``keep_going`` all, whatever fails."""
        ...


class Health(Protocol):
    """The checks of this node."""

    def facts(self) -> HealthFacts:
        """The verdict as it stands."""
        ...

    async def run_all(self) -> None:
        """Run every check now."""
        ...


class IdleLeave(Protocol):
    """Those who count on how many nodes checks for an idle node run at once."""

    async def take(self, check: str) -> str | None:
        """Ask to begin such a check now; why it may not, or None when it may."""
        ...

    async def give_back(self, check: str) -> None:
        """It has ended."""
        ...


class Reporter(Protocol):
    """Those who want to know: the coordinator, and through it the record."""

    def permit(self) -> PermitFacts:
        """What the coordinator said of permits."""
        ...

    async def ask(self, permit: str, purpose: Purpose, recipe: str, wave: str, cause: str) -> None:
        """Ask for a permit; the answer shows in `permit`."""
        ...

    async def release(self, permit: str) -> None:
        """Give a permit back."""
        ...

    async def deliver(self, events: Sequence[Event]) -> None:
        """Take responsibility for these events: once this returns they are on disk, or told."""
        ...

    def report(self, report: NodeReport) -> None:
        """Publish the node's status when there is a way."""
        ...

    async def flush(self) -> None:
        """Wait, for a bounded time, until everything delivered has been told."""
        ...
