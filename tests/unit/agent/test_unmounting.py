# SPDX-License-Identifier: Apache-2.0
"""What a cycle does about storage that does not let go."""

from dataclasses import replace

from refloat_agent import actions, machine
from refloat_agent.config import AgentSettings
from refloat_agent.observation import ActionOutcome, Observation, SlurmFacts, StorageFacts
from refloat_agent.state import Cycle, State
from refloat_contract.words import Phase
from refloat_slurm.gateway import NodeView

POLICY = AgentSettings.model_validate({"mode": "act", "node": "n1", "recipes": {"tune": {"run": [["tune"]]}}}).policy()
BUSY = StorageFacts("scratch", mounted=True, right=True, note="unmount /scratch busy: pid 991 python uid 1000")


def _state(recipe: str = "reboot") -> State:
    return State("n1", "b1", Cycle("c1", recipe, recipe, Phase.UNMOUNTING, 10.0, 1.0))


def _seen(*storage: StorageFacts, outcomes: tuple[ActionOutcome, ...] = (), trigger: str = "reboot") -> Observation:
    view = NodeView("n1", frozenset({"IDLE", "DRAIN"}), trigger, "alice", 1)
    return Observation(
        20.0, 1, "b1", SlurmFacts(view, fresh=True), jobs=(), steps=(), storage=storage, services=(), outcomes=outcomes
    )


def test_who_keeps_storage_busy_is_what_is_waited_for() -> None:
    decision = machine.decide(_state(), _seen(BUSY), POLICY)

    assert decision.why == "unmount /scratch busy: pid 991 python uid 1000"


def test_only_a_recipe_that_reboots_may_detach_lazily() -> None:
    rebooting = machine.decide(_state(), _seen(BUSY), POLICY)
    tuning = machine.decide(_state("tune"), _seen(BUSY, trigger="tune"), POLICY)

    assert rebooting.actions == (actions.Unmount("c1", reboots=True),)
    assert tuning.actions == (actions.Unmount("c1", reboots=False),)


def test_storage_that_stayed_busy_as_long_as_configured_holds_the_cycle_at_once() -> None:
    given_up = ActionOutcome(actions.Unmount("c1", reboots=True), "unmount /scratch busy: pid 991 python", final=True)

    decision = machine.decide(_state(), _seen(BUSY, outcomes=(given_up,)), POLICY)

    assert decision.state.cycle is not None
    assert (decision.state.cycle.phase, decision.state.cycle.hold) == (
        Phase.HELD,
        "unmount /scratch busy: pid 991 python",
    )


def test_storage_left_mounted_for_this_very_cycle_does_not_stop_it_and_for_another_does() -> None:
    here = machine.decide(_state(), _seen(replace(BUSY, skipped="c1")), POLICY)
    elsewhere = machine.decide(_state(), _seen(replace(BUSY, skipped="c0")), POLICY)

    assert here.state.cycle is not None
    assert here.state.cycle.phase is Phase.REBOOTING
    assert elsewhere.actions == (actions.Unmount("c1", reboots=True),)
