# SPDX-License-Identifier: Apache-2.0
"""The small world with a rough road to slurmctld and the coordinator: late, lost, doubled, out of order."""

from dataclasses import dataclass, field

from fakes import FakeSlurm, World

from refloat_agent.observation import SlurmFacts
from refloat_contract.errors import Transient
from refloat_slurm.gateway import Change, NodeView


@dataclass
class RoughWorld(World):
    """A world whose messages take their time, or never come, or come again."""

    writes_time_out_until_s: float = 0.0
    """Until this age every write times out, and is applied afterwards all the same."""
    late_s: float = 12.0
    """How long after its time-out a write is applied."""
    late: list[tuple[float, Change, str | None]] = field(default_factory=list)
    views: list[NodeView] = field(default_factory=list)
    feeds: bool = False
    """Whether a feed shows views: whichever of the last ones, for it loses, doubles and reorders."""
    is_rough: bool = True
    shuffle: int = 1

    def slurm(self) -> "RoughSlurm":
        return RoughSlurm(self)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        if not self.slurm_down:
            self.views = [*self.views[-3:], NodeView("n1", self.flags, self.reason, self.reason_user, self.reason_at)]
        while self.late and self.late[0][0] <= self.age_s:
            _, change, reason = self.late.pop(0)
            self.apply_late(change, reason)

    def cut(self) -> None:
        """The power is lost: no job survives that, and it is nobody's fault."""
        before, self.job_until_s, self.goes_softly = list(self.violations), 0.0, False
        self.power_cycle()
        self.violations = before

    def apply_late(self, change: Change, reason: str | None) -> None:
        """What slurmctld was told once, and does only now: no fault of who told it, unless it harms."""
        if change is Change.RESUME:
            if self.drain or self.base == "DOWN":
                self.drain, self.base = False, "IDLE"
                self.resumes += 1
            return
        self.drain = True
        self.base = "DOWN" if change is Change.DOWN else self.base
        self.reason, self.reason_user, self.reason_at = reason or self.reason, "root", int(self.wall_s)


@dataclass
class RoughSlurm(FakeSlurm):
    """Slurm behind such a road. Own reads are true; what the feed shows may be a moment old."""

    world: RoughWorld

    def latest(self) -> SlurmFacts | None:
        world = self.world
        if not world.feeds or not world.views:
            return super().latest()
        if not world.is_rough:
            return SlurmFacts(world.views[-1], fresh=False, from_feed=True)
        world.shuffle = world.shuffle * 48271 % 0x7FFFFFFF
        return SlurmFacts(world.views[-1 - world.shuffle % len(world.views)], fresh=False, from_feed=True)

    async def update(self, change: Change, reason: str | None = None) -> None:
        world = self.world
        if world.age_s < world.writes_time_out_until_s:
            with world.act(f"late slurm {change} {reason}"):
                world.late.append((world.age_s + world.late_s, change, reason))
                raise Transient("Socket timed out on send/recv operation")
        await super().update(change, reason)
