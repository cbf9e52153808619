# SPDX-License-Identifier: Apache-2.0
"""What happens to a node without a cycle, one sentence each."""

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from refloat_agent import in_service, machine
from refloat_agent.actions import (
    AskPermit,
    DrainForHealth,
    Mount,
    ReleasePermit,
    Resume,
    RunChecks,
    StartServices,
    WriteReason,
)
from refloat_agent.moves import Decision
from refloat_agent.observation import (
    ActionOutcome,
    GateFacts,
    HealthFacts,
    Observation,
    PermitFacts,
    ServiceFacts,
    SlurmFacts,
    StorageFacts,
)
from refloat_agent.recipes import Recipe, short_form
from refloat_agent.state import Cycle, Policy, State, initial
from refloat_contract import reasons
from refloat_contract.messages import Failure
from refloat_contract.words import EventKind, Outcome, Phase, Verdict
from refloat_slurm.gateway import NodeView

BOOT = "aaaaaaaa-0000-4000-8000-000000000000"
RECIPES = MappingProxyType(
    {
        "reboot": Recipe("reboot", short_form(reboot=True)),
        "reconfigure": Recipe("reconfigure", short_form(run=(("apply-config",),))),
    }
)
POLICY = Policy("n1", RECIPES)
STATE = initial(BOOT, "nonce0")
FAILURE = Failure(check="labd", message="not running")
SICK = HealthFacts(Verdict.UNHEALTHY, (FAILURE,), oldest_s=999.0, raw_failing=(FAILURE,))
WELL = HealthFacts(Verdict.HEALTHY, oldest_s=999.0)
STATE_DRAINED = replace(STATE, health_drained=True, health_since_s=900.0)
UP: dict[str, Any] = {
    "storage": (StorageFacts("s", mounted=True, right=True),),
    "services": (ServiceFacts("a", active=True),),
    "registered": True,
}


def _seen(flags: str, reason: str = "", *, fresh: bool = True, **facts: Any) -> Observation:
    view = NodeView("n1", frozenset(flags.split("+")), reason, "alice", 1)
    facts = {"now_s": 1000.0, "wall_ns": 10**18, "boot_id": BOOT, **facts}
    return Observation(slurm=SlurmFacts(view, fresh), **facts)


def _decide(seen: Observation, state: State = STATE, policy: Policy = POLICY) -> Decision:
    return in_service.decide(state, seen, policy)


@pytest.mark.parametrize(
    ("reason", "phase"),
    [
        ("reboot", Phase.DRAINING),
        ("rebooting", Phase.MOUNTING),
        ("rebooting refloat=c9 boot=aaaaaaaa", Phase.STOPPING),
        ("rebooting refloat=c9 boot=bbbbbbbb", Phase.MOUNTING),
        ("gpfs-restarting refloat=c9 boot=aaaaaaaa", Phase.STOPPING),
        ("gpfs-restarting refloat=c9 boot=bbbbbbbb", Phase.STOPPING),
        ("refloat-hold: it failed refloat=c9", Phase.HELD),
    ],
)
def test_a_cycle_is_rebuilt_from_the_reason_alone(reason: str, phase: Phase) -> None:
    decision = _decide(_seen("DOWN+DRAIN", reason))

    assert decision.state.cycle is not None
    assert (decision.state.cycle.phase, decision.actions) == (phase, ())
    if "c9" in reason:
        assert decision.state.cycle.id == "c9"


@pytest.mark.parametrize("reason", ["reboot", "rebooting refloat=c9 boot=aaaaaaaa", "refloat-hold: x refloat=c9"])
@pytest.mark.parametrize("flags", ["IDLE+DRAIN+REBOOT_REQUESTED", "DOWN+DRAIN+REBOOT_ISSUED", "IDLE+DRAIN+POWER_DOWN"])
def test_it_stands_back_while_slurm_itself_is_at_work(flags: str, reason: str) -> None:
    decision = _decide(_seen(flags, reason))

    assert (decision.state.cycle, decision.actions) == (None, ())


def test_a_view_that_is_not_fresh_starts_nothing() -> None:
    assert _decide(_seen("IDLE+DRAIN", "reboot", fresh=False)).state.cycle is None


@pytest.mark.parametrize("reason", ["rebooting refloat=c9 boot=aaaaaaaa", "gpfs-restarting refloat=c9 boot=aaaaaaaa"])
def test_a_cycle_whose_journal_was_lost_in_this_boot_is_held(reason: str) -> None:
    cycle = _decide(_seen("DOWN+DRAIN", reason), replace(STATE, distrust=True)).state.cycle

    assert cycle is not None
    assert (cycle.phase, "journal" in cycle.hold) == (Phase.HELD, True)


def test_a_failed_check_drains_a_node_that_no_job_has_to_leave() -> None:
    assert _decide(_seen("MIXED", health=SICK)).actions == (DrainForHealth("refloat: labd: not running"),)


@pytest.mark.parametrize("flags", ["DOWN", "IDLE+FAIL", "IDLE+REBOOT_REQUESTED", "IDLE+POWERING_DOWN"])
def test_a_node_that_is_out_already_is_not_drained_for_health(flags: str) -> None:
    assert _decide(_seen(flags, health=SICK)).actions == ()


def _denied(permit: str, *, rests: bool) -> PermitFacts:
    return PermitFacts(coordinator=True, denied=permit, denied_why="no room", rests=rests, again_s=1060.0 * rests)


def test_a_node_that_was_denied_its_drain_leaves_slurm_alone_until_it_asks_again() -> None:
    policy = replace(POLICY, has_coordinator=True)
    asked = _decide(_seen("IDLE", health=SICK, permit=PermitFacts(coordinator=True)), policy=policy)
    (ask,) = asked.actions
    assert isinstance(ask, AskPermit)
    hint = replace(_seen("IDLE").slurm, fresh=False, from_feed=True)  # type: ignore[type-var]

    for rests in (True, False):
        permit = _denied(ask.permit, rests=rests)
        wanted = in_service.wants(asked.state, hint, SICK, policy, permit=permit)
        seen = _seen("IDLE", health=SICK, fresh=wanted.slurm, permit=permit)
        decision = in_service.decide(asked.state, seen, policy)

        assert wanted.slurm is not rests
        assert decision.actions == (() if rests else (ask,))
        assert decision.again_s == (1060.0 if rests else 1000.0 + policy.retry_s)
        assert decision.why == "unhealthy (refloat: labd: not running); permit: no room"


def test_a_health_drain_is_lifted_when_all_is_proven() -> None:
    state = replace(STATE, health_drained=True, health_since_s=900.0)

    assert _decide(_seen("IDLE+DRAIN", "refloat: labd: x", health=WELL, **UP), state).actions == (Resume(),)


@pytest.mark.parametrize(
    "facts",
    [
        {"health": HealthFacts(Verdict.HEALTHY, oldest_s=899.0)},
        {"health": HealthFacts(Verdict.HEALTHY, oldest_s=None)},
        {"health": HealthFacts(Verdict.UNKNOWN, oldest_s=999.0, unknown=(FAILURE,))},
        {"health": HealthFacts(Verdict.HEALTHY, oldest_s=999.0, raw_failing=(FAILURE,))},
        {"storage": (StorageFacts("s", mounted=True, right=False),)},
        {"storage": None},
        {"services": (ServiceFacts("a", active=False),)},
        {"registered": False},
        {"registered": None},
        {"fresh": False},
    ],
    ids=str,
)
def test_a_health_drain_stands_while_anything_is_unproven(facts: dict[str, Any]) -> None:
    state = replace(STATE, health_drained=True, health_since_s=900.0)
    facts = {"health": WELL, **UP, **facts}

    assert Resume() not in _decide(_seen("IDLE+DRAIN", "refloat: labd: x", **facts), state).actions


@pytest.mark.parametrize("flags", ["IDLE+DRAIN+FROBNICATING", "UNKNOWN+DRAIN"])
def test_a_state_that_is_not_understood_is_not_resumed(flags: str) -> None:
    assert _decide(_seen(flags, "refloat: labd: x", health=WELL, **UP), STATE_DRAINED).actions == ()


def test_checks_are_run_anew_for_a_health_drain_but_once_a_minute() -> None:
    stale = HealthFacts(Verdict.HEALTHY, oldest_s=1.0)
    first = _decide(_seen("IDLE+DRAIN", "refloat: labd: x", health=stale, **UP))
    second = _decide(_seen("IDLE+DRAIN", "refloat: labd: x", health=stale, now_s=1059.0, **UP), first.state)
    third = _decide(_seen("IDLE+DRAIN", "refloat: labd: x", health=stale, now_s=1061.0, **UP), first.state)

    assert (first.actions, second.actions, third.actions) == ((RunChecks(),), (), (RunChecks(),))


def test_a_health_reason_is_kept_true_but_once_a_minute() -> None:
    first = _decide(_seen("IDLE+DRAIN", "refloat: fan: slow", health=SICK))
    second = _decide(_seen("IDLE+DRAIN", "refloat: fan: slow", health=SICK, now_s=1030.0), first.state)

    assert first.actions == (WriteReason("refloat: labd: not running"),)
    assert second.actions == ()


def test_a_health_reason_that_slurm_has_extended_is_not_written_again() -> None:
    assert _decide(_seen("DOWN+DRAIN", "refloat: labd: not running : Not responding", health=SICK)).actions == ()


def test_a_node_whose_check_flaps_is_resumed_once_a_minute_at_most() -> None:
    drained = replace(STATE, health_drained=True, health_since_s=900.0)
    resumed = _decide(_seen("IDLE+DRAIN", "refloat: labd: x", health=WELL, **UP), drained)
    again = replace(resumed.state, health_drained=True, health_since_s=900.0)
    early = _decide(_seen("IDLE+DRAIN", "refloat: labd: x", health=WELL, now_s=1059.0, **UP), again)
    late = _decide(_seen("IDLE+DRAIN", "refloat: labd: x", health=WELL, now_s=1061.0, **UP), again)

    assert (resumed.actions, early.actions, late.actions) == ((Resume(),), (), (Resume(),))
    assert early.again_s == 1060.0


def test_the_record_says_for_which_check_a_node_was_drained_and_for_how_long() -> None:
    drained = _decide(_seen("IDLE+DRAIN", "refloat: labd: not running", health=SICK)).state
    resumed = _decide(_seen("IDLE", health=WELL, now_s=1090.0, wall_ns=10**18 + 90 * 10**9), drained).state

    told = {event.kind: (event.check, event.duration_s) for event in resumed.outbox}
    assert told[EventKind.HEALTH_DRAINED] == ("labd", None)
    assert told[EventKind.HEALTH_RESUMED] == ("labd", 90.0)


def test_a_node_that_fails_again_right_after_its_resume_is_drained_at_once() -> None:
    drained = replace(STATE, health_drained=True, health_since_s=900.0, health_retry_s=1050.0)
    resumed = _decide(_seen("IDLE", health=WELL), drained)

    again = _decide(_seen("IDLE", health=SICK, now_s=1001.0), resumed.state)

    assert again.actions == (DrainForHealth("refloat: labd: not running"),)


def test_the_permit_of_a_health_drain_is_given_back_when_a_cycle_takes_over() -> None:
    state = replace(STATE, health_permit="health-1", health_drained=True)

    assert _decide(_seen("IDLE+DRAIN", "reboot"), state).actions == (ReleasePermit("health-1"),)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_foreign_drain_is_remembered_and_handed_to_the_next_cycle(*, fresh: bool) -> None:
    state = _decide(_seen("IDLE+DRAIN", "bad dimm", fresh=fresh)).state
    cycle = _decide(_seen("IDLE+DRAIN", "reboot"), state).state.cycle

    assert cycle is not None
    assert cycle.prior == "bad dimm"


def test_a_foreign_drain_that_was_lifted_in_between_is_forgotten() -> None:
    state = _decide(_seen("IDLE+DRAIN", "bad dimm")).state
    state = _decide(_seen("IDLE"), state).state

    assert state.prior == ""


def test_storage_is_brought_up_after_a_boot_but_never_by_an_observer() -> None:
    state = replace(STATE, restore=True)
    down: dict[str, Any] = {
        "storage": (StorageFacts("s", mounted=False, right=False),),
        "services": (ServiceFacts("a", active=False),),
    }

    assert _decide(_seen("IDLE", **down), state).actions == (Mount(), StartServices())
    assert _decide(_seen("IDLE", **down), state, replace(POLICY, acts=False)).actions == ()


# Cycles that end by other hands.


def _in_cycle(phase: Phase, seen: Observation, **values: Any) -> Decision:
    state = replace(STATE, cycle=Cycle("c1", "reboot", "reboot", phase, 990.0, 1.0, **values))
    return machine.decide(state, seen, POLICY)


WORKING = [phase for phase in Phase if phase not in {Phase.IN_SERVICE, Phase.RUNNING}]


@pytest.mark.parametrize(
    "reason", ["bad dimm", "", "refloat: labd: x", "reboot : reboot issued", "rebooting refloat=c2"]
)
@pytest.mark.parametrize("phase", WORKING)
def test_a_reason_that_somebody_changed_ends_the_cycle(phase: Phase, reason: str) -> None:
    decision = _in_cycle(phase, _seen("IDLE+DRAIN", reason))

    assert decision.state.cycle is None
    assert decision.actions == (ReleasePermit("c1"),)
    assert decision.state.last is not None
    assert decision.state.last.outcome is Outcome.CANCELLED
    assert decision.state.restore == (phase is not Phase.DRAINING)


@pytest.mark.parametrize("phase", [phase for phase in WORKING if phase is not Phase.RESUMING])
def test_a_node_that_somebody_resumed_ends_the_cycle(phase: Phase) -> None:
    assert _in_cycle(phase, _seen("IDLE", "rebooting refloat=c1")).state.cycle is None


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.STOPPING, Phase.UNMOUNTING, Phase.REBOOTING])
def test_the_bare_word_of_the_old_script_is_not_taken_for_our_own_work(phase: Phase) -> None:
    assert _in_cycle(phase, _seen("IDLE+DRAIN", "rebooting")).state.cycle is None


def test_another_trigger_after_a_hold_starts_another_cycle_and_keeps_the_foreign_drain_beneath() -> None:
    ended = _in_cycle(Phase.HELD, _seen("DOWN+DRAIN", "reboot"), hold="it failed", hold_shown=True, prior="bad dimm")
    cycle = _decide(_seen("DOWN+DRAIN", "reboot"), ended.state).state.cycle

    assert ended.state.cycle is None
    assert cycle is not None
    assert (cycle.phase, cycle.prior, cycle.id != "c1") == (Phase.DRAINING, "bad dimm", True)


def test_a_hold_is_written_over_our_own_words_only() -> None:
    written = _in_cycle(Phase.HELD, _seen("DOWN+DRAIN", "rebooting refloat=c1 boot=aaaaaaaa"), hold="it failed")

    assert written.actions == (WriteReason("refloat-hold: it failed refloat=c1"),)


def test_a_hold_that_was_not_taken_is_not_written_at_every_look() -> None:
    action = WriteReason("refloat-hold: it failed refloat=c1")
    seen = replace(_seen("DOWN+DRAIN", "rebooting refloat=c1"), outcomes=(ActionOutcome(action),))

    assert _in_cycle(Phase.HELD, seen, hold="it failed").actions == ()


def test_a_boot_whose_cycle_is_called_off_before_it_unmounts_has_its_storage_mounted_all_the_same() -> None:
    bare = {**UP, "storage": (StorageFacts("s", mounted=False, right=False),)}
    begun = _decide(_seen("IDLE+DRAIN", "reboot", **bare), replace(STATE, restore=True))
    assert begun.state.cycle is not None
    assert Mount() not in begun.actions

    ended = machine.decide(begun.state, _seen("IDLE", **bare), POLICY)
    assert ended.state.cycle is None
    assert Mount() in _decide(_seen("IDLE", **bare), ended.state).actions


def test_a_cycle_that_is_done_leaves_nothing_to_mount() -> None:
    state = replace(STATE, restore=True, cycle=Cycle("c1", "reboot", "reboot", Phase.RESUMING, 990.0, 1.0))

    assert not machine.decide(state, _seen("IDLE", health=WELL, **UP), POLICY).state.restore
    assert machine.decide(state, _seen("IDLE", health=WELL), POLICY).state.restore  # it cannot be seen to be up


def test_a_drained_node_that_was_denied_leaves_slurm_alone_until_it_asks_again() -> None:
    policy = replace(POLICY, has_coordinator=True)
    state = replace(STATE, cycle=Cycle("c1", "reboot", "reboot", Phase.DRAINING, 990.0, 1.0))
    hint = replace(_seen("IDLE+DRAIN", "reboot").slurm, fresh=False, from_feed=True)  # type: ignore[type-var]

    resting = _denied("c1", rests=True)
    wanted = machine.wants(state, hint, policy, resting)
    assert (wanted.slurm, wanted.jobs) == (False, False)
    seen = _seen("IDLE+DRAIN", "reboot", fresh=False, permit=resting)
    decision = machine.decide(state, seen, policy)
    assert (decision.actions, decision.why, decision.again_s) == ((), "permit: no room", 1060.0)
    assert [event.kind for event in decision.state.outbox] == [EventKind.PERMIT_DENIED]

    for other in (_denied("c1", rests=False), _denied("another", rests=True), replace(resting, granted="c1")):
        wanted = machine.wants(state, hint, policy, other)
        assert wanted.slurm
        assert wanted.jobs
        # Without the proofs that were asked for nothing is done, whatever the coordinator says.
        assert machine.decide(state, replace(seen, permit=other), policy).actions == ()


def test_services_that_do_not_start_are_not_started_at_every_look() -> None:
    down = {**UP, "services": (ServiceFacts("slurmd", active=False),)}
    first = _in_cycle(Phase.RESUMING, _seen("DOWN+DRAIN", "rebooting refloat=c1", health=WELL, **down))
    assert first.actions == (StartServices(),)

    failed = _seen("DOWN+DRAIN", "rebooting refloat=c1", health=WELL, **down)
    failed = replace(failed, outcomes=(ActionOutcome(StartServices(), "Job for slurmd.service failed"),))
    second = machine.decide(first.state, failed, POLICY)

    assert second.actions == ()
    assert second.state.cycle is not None
    assert second.state.cycle.retry_s == 1000.0 + POLICY.retry_s


def test_a_resume_that_slurm_undid_is_tried_again_once_the_node_has_registered() -> None:
    seen = _seen("DOWN", "Node unexpectedly rebooted", health=WELL, **UP)

    assert _in_cycle(Phase.RESUMING, seen).actions == (Resume(),)
    assert _in_cycle(Phase.RESUMING, replace(seen, registered=False)).actions == ()


def test_a_node_that_an_administrator_set_down_while_it_was_resumed_is_left_alone() -> None:
    assert _in_cycle(Phase.RESUMING, _seen("DOWN", "bad dimm", health=WELL, **UP)).state.cycle is None


def test_a_resume_that_never_shows_is_held_and_drains_the_node_again() -> None:
    policy = replace(POLICY, deadlines_s={Phase.RESUMING: 5.0})
    state = replace(STATE, cycle=Cycle("c1", "reboot", "reboot", Phase.RESUMING, 990.0, 1.0))
    seen = _seen("IDLE+NOT_RESPONDING", "rebooting refloat=c1 boot=aaaaaaaa")

    held = machine.decide(state, seen, policy)
    written = machine.decide(held.state, seen, policy)
    back = machine.decide(held.state, _seen("IDLE"), policy)

    assert isinstance(written.actions[0], WriteReason)
    assert back.state.cycle is None


def test_a_cycle_of_a_recipe_that_the_configuration_lost_is_ended_and_says_so() -> None:
    state = replace(STATE, cycle=Cycle("c1", "firmware", "firmware", Phase.UNMOUNTING, 990.0, 1.0))

    decision = machine.decide(state, _seen("IDLE+DRAIN", "firmware"), POLICY)

    assert decision.state.cycle is None
    assert "no longer has the recipe" in decision.why
    assert decision.state.outbox[-1].kind is EventKind.CANCELLED


def test_a_cycle_stands_still_while_only_observing() -> None:
    state = replace(STATE, cycle=Cycle("c1", "reboot", "reboot", Phase.UNMOUNTING, 990.0, 1.0))
    seen = _seen("IDLE+DRAIN", "reboot", jobs=(), steps=(), **UP)

    assert machine.decide(state, seen, POLICY).actions != ()
    assert machine.decide(state, seen, replace(POLICY, acts=False)).actions == ()


def test_the_prior_reason_survives_a_stateless_reboot() -> None:
    line = reasons.write_progress(
        reasons.DEFAULT_WORDS[0], cycle="c1", boot_id="bbbbbbbb-0", prior='kaputt: "dimm" was: 3'
    )
    cycle = _decide(_seen("DOWN+DRAIN", line)).state.cycle

    assert cycle is not None
    assert cycle.prior == "kaputt: 'dimm' was: 3"


def test_the_record_has_what_a_check_measured_when_it_failed_and_when_it_passed() -> None:
    measures = {"labd": {"running": 0.0, "ratio": float("nan")}}
    failed = _decide(_seen("IDLE", health=replace(SICK, measures=measures)))
    passed = _decide(_seen("IDLE", health=replace(WELL, measures={"labd": {"running": 1.0}})), failed.state)

    told = {event.kind: (event.check, event.measures) for event in passed.state.outbox}
    assert told[EventKind.CHECK_FAILED] == ("labd", {"running": 0.0})
    assert told[EventKind.CHECK_PASSED] == ("labd", {"running": 1.0})


def test_the_record_says_who_took_a_failure_away() -> None:
    failed = _decide(_seen("IDLE", health=SICK))
    dismissed = (Failure(check="labd", message="cleared by alice"),)
    passed = _decide(_seen("IDLE", health=replace(WELL, dismissed=dismissed)), failed.state)

    assert passed.state.outbox[-1].message == "labd: cleared by alice"


DOWN_STORAGE: dict[str, Any] = {
    "storage": (StorageFacts("s", mounted=False, right=False),),
    "services": (ServiceFacts("a", active=True),),
}


def test_what_does_not_come_up_is_tried_again_after_ever_longer_pauses() -> None:
    state, tried = replace(STATE, restore=True), list[float]()
    outcomes: tuple[ActionOutcome, ...] = ()
    for second in range(200):
        decision = _decide(_seen("IDLE", now_s=1000.0 + second, outcomes=outcomes, **DOWN_STORAGE), state)
        state, outcomes = decision.state, ()
        if Mount() in decision.actions:
            tried.append(second)
            outcomes = (ActionOutcome(Mount(), "no answer"),)

    assert tried == [0, 6, 17, 38, 79, 140]
    assert state.restore


def test_it_is_given_up_after_many_tries_but_not_while_slurmd_is_held_back() -> None:
    state = replace(STATE, restore=True, restore_attempts=2 * POLICY.max_attempts)
    failed = {"outcomes": (ActionOutcome(Mount(), "no answer"),), **DOWN_STORAGE}

    assert not _decide(_seen("IDLE", **failed), state).state.restore
    assert _decide(_seen("IDLE", gate=GateFacts(holds=True), **failed), state).state.restore
