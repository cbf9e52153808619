# SPDX-License-Identifier: Apache-2.0
"""Whatever administrators, jobs, outages and kills come together, in any order: every promise is watched at every step.

More and longer stories with REFLOAT_CRASH=all (`make crash`).
"""

from dataclasses import replace
from typing import Final

import pytest
from harness import ALL, POLICY, Driver
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rough_world import RoughWorld

from refloat_contract import reasons
from refloat_contract.words import Phase

TRIGGERS: Final = ("reboot", "reboot image=compute-1 wave=w1", "gpfs-restart", "firmware", "soft")
FOREIGN: Final = ("bad dimm, alice", "bad cable, bob")
ENDS_S: Final = 1500
"""Longer than all deadlines of a cycle together."""


class AnyStory(RuleBasedStateMachine):
    """One node, and everybody who may have to do with it."""

    @initialize(stateless=st.booleans(), coordinator=st.booleans(), feeds=st.booleans())
    def begin(self, *, stateless: bool, coordinator: bool, feeds: bool) -> None:
        self.world = RoughWorld(stateless=stateless, coordinator=coordinator, feeds=feeds)
        self.driver = Driver(self.world, replace(POLICY, has_coordinator=coordinator))
        self.foreign = ""
        self.driver.tick()

    def _write(self, *, drain: bool, reason: str, foreign: str = "") -> None:
        self.world.admin(drain=drain, reason=reason, user="alice")
        # What slurmctld was told before, and does only after this, is written over it by slurmctld alone.
        self.foreign = "" if self.world.late else foreign

    @precondition(lambda self: not self.world.slurm_down)
    @rule(reason=st.sampled_from(TRIGGERS))
    def trigger(self, reason: str) -> None:
        self._write(drain=True, reason=reason)

    @precondition(lambda self: not self.world.slurm_down)
    @rule(reason=st.sampled_from(FOREIGN))
    def drain_for_something_else(self, reason: str) -> None:
        self._write(drain=True, reason=reason, foreign=reason)

    @precondition(lambda self: not self.world.slurm_down)
    @rule()
    def resume(self) -> None:
        self._write(drain=False, reason="")

    @precondition(lambda self: not self.world.slurm_down)
    @rule()
    def set_down(self) -> None:
        self._write(drain=False, reason="down, alice")
        self.world.base = "DOWN"

    @precondition(lambda self: not self.world.slurm_down and self.world.drain and self.world.reason.startswith("reb"))
    @rule()
    def call_off(self) -> None:
        self._write(drain=True, reason=reasons.write_release("alice: by mistake", ""))

    @precondition(lambda self: not self.world.busy and not self.world.drain and self.world.base == "IDLE")
    @rule(seconds=st.integers(1, 60))
    def start_a_job(self, seconds: int) -> None:
        if not self.world.slurm_down:
            self.world.job_until_s = self.world.now_s + seconds

    @rule(ahead=st.integers(1, 12))
    def kill_soon(self, ahead: int) -> None:
        self.world.kills = self.world.kills | {self.world.boundaries + ahead}

    @rule()
    def cut_the_power(self) -> None:
        self.world.cut()
        self.driver.die()

    @rule(down=st.booleans())
    def slurmctld(self, *, down: bool) -> None:
        self.world.slurm_down = down

    @rule(lasts_s=st.integers(1, 30), late_s=st.integers(1, 40))
    def slurmctld_is_slow(self, lasts_s: int, late_s: int) -> None:
        self.world.writes_time_out_until_s, self.world.late_s = self.world.age_s + lasts_s, float(late_s)

    @rule(full=st.booleans())
    def disk(self, *, full: bool) -> None:
        self.world.disk_full = full

    @rule(seconds=st.sampled_from((-86_400.0, -5.0, 5.0, 86_400.0)))
    def clock_jumps(self, seconds: float) -> None:
        self.world.wall_s += seconds

    @rule(grants=st.booleans())
    def coordinator(self, *, grants: bool) -> None:
        self.world.grants = grants

    @rule(fails=st.sampled_from(("", "labd is not running")))
    def check(self, fails: str) -> None:
        self.world.check_fails = fails

    @rule(seconds=st.integers(1, 40))
    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.driver.tick()
            self.kept()

    @invariant()
    def kept(self) -> None:
        world = self.world
        assert world.violations == [], world.trace
        assert not self.foreign or (world.drain and world.reason == self.foreign), (self.foreign, world.trace)

    def _ended(self) -> bool:
        world, loop = self.world, self.driver.loop
        if loop is None or world.late or world.going_down or loop.state.restore or loop.state.outbox:
            return False
        cycle = loop.state.cycle
        if cycle is None:
            parsed = reasons.parse(world.reason, POLICY.dialect)
            asks = world.drain and isinstance(parsed, reasons.Trigger | reasons.Progress | reasons.Release)
            return not asks and (world.drain or (world.mounted and world.service))
        return cycle.phase is Phase.HELD and cycle.hold_shown and world.reason.startswith("refloat-hold:")

    def teardown(self) -> None:
        """All outages end; then every cycle does, too."""
        if not hasattr(self, "driver"):
            return
        world = self.world
        world.slurm_down = world.disk_full = world.is_rough = False
        world.check_fails = world.fails_after_boot = ""
        world.grants, world.kills, world.writes_time_out_until_s = True, frozenset(), 0.0
        try:
            for _ in range(ENDS_S):
                self.driver.tick()
                self.kept()
                if self._ended():
                    return
            raise AssertionError(f"not ended: {self.driver.loop and self.driver.loop.state} {world.trace}")
        finally:
            self.driver.close()


SETTINGS: Final = settings(
    max_examples=400 if ALL else 40,
    stateful_step_count=60 if ALL else 30,
    deadline=None,
    derandomize=not ALL,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.timeout(1800 if ALL else 60)
def test_in_any_story_every_promise_is_kept() -> None:
    run_state_machine_as_test(AnyStory, settings=SETTINGS)
