# SPDX-License-Identifier: Apache-2.0
"""The small world with a slurmctld that lives by its own rules: it appends to reasons, times out, returns nodes."""

from dataclasses import dataclass, field

from fakes import FakeSlurm, World

from refloat_contract.errors import Transient, UnknownNode
from refloat_slurm.gateway import Change, Job, NodeView
from refloat_slurm.simulated import Rules, SimulatedSlurmctld

NODE = "n1"


@dataclass
class SlurmWorld(World):
    """One node of a simulated slurmctld; what the world says of Slurm is copied from there."""

    rules: Rules = field(default_factory=Rules)
    boot_s: float = 60.0
    is_renamed: bool = False
    ctld: SimulatedSlurmctld = field(init=False)
    shown: NodeView = field(init=False)
    _registers_at: float | None = None

    def __post_init__(self) -> None:
        self.ctld = SimulatedSlurmctld(
            [NODE], rules=self.rules, now=self.wall_s, on_reboot=lambda _: self._lose_power()
        )
        self.ctld.register(NODE, self.wall_s - 100)
        self.sync()

    def _lose_power(self) -> None:
        self.going_down = True

    def slurm(self) -> FakeSlurm:
        return SimulatedSlurm(self)

    def sync(self) -> None:
        """Take over what slurmctld shows; while it does not answer, what it last showed."""
        try:
            self.shown = self.ctld.view(NODE)
        except Transient:
            return
        self.base = "DOWN" if "DOWN" in self.shown.flags else "IDLE"
        self.drain = "DRAIN" in self.shown.flags
        self.reason, self.reason_user, self.reason_at = self.shown.reason, self.shown.reason_user, self.shown.reason_at

    @property
    def flags(self) -> frozenset[str]:
        return self.shown.flags

    @property
    def busy(self) -> bool:
        return bool({"MIXED", "ALLOCATED"} & self.shown.flags)

    def admin(self, *, drain: bool, reason: str, user: str = "root") -> None:
        self.ctld.update(NODE, Change.DRAIN if drain else Change.RESUME, reason or None, user)
        self.sync()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.ctld.tick(self.wall_s)
        if self._registers_at is not None and self.wall_s >= self._registers_at:
            self.ctld.register(NODE, self._registers_at - 10)
            self._registers_at = None
        self.sync()

    def power_cycle(self) -> None:
        self.ctld.node_down(NODE)
        self.wall_s += self.boot_s
        self.ctld.tick(self.wall_s)
        super().power_cycle()
        self._registers_at = self.wall_s + 14.0
        self.ctld.tick(self.wall_s)
        self.sync()


class SimulatedSlurm(FakeSlurm):
    """The node as that slurmctld has it, each write of the agent judged first."""

    world: SlurmWorld

    async def read(self) -> NodeView:
        if self.world.is_renamed:
            raise UnknownNode("Invalid node name specified")
        self.seen, self.seen_s = self.world.ctld.view(NODE), self.world.now_s
        self.world.sync()
        return self.seen

    async def jobs(self) -> tuple[Job, ...]:
        return self.world.ctld.jobs_on(NODE)

    async def is_registered(self) -> bool:
        view = self.world.ctld.view(NODE)
        return self.world._registers_at is None and "NOT_RESPONDING" not in view.flags

    async def update(self, change: Change, reason: str | None = None) -> None:
        try:
            await super().update(change, reason)
            self.world.ctld.update(NODE, change, reason)
        finally:
            self.world.sync()
