# SPDX-License-Identifier: Apache-2.0
"""Every combination of state flags, reason, phase, boot and freshness: what `decide` may never do, whatever it sees."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from types import MappingProxyType

import pytest

from refloat_agent import actions, in_service, machine
from refloat_agent.actions import Action
from refloat_agent.moves import Decision
from refloat_agent.observation import (
    ActionOutcome,
    HealthFacts,
    Observation,
    PermitFacts,
    ServiceFacts,
    SlurmFacts,
    StepProcess,
    StorageFacts,
)
from refloat_agent.recipes import (
    DEFAULT_LADDER,
    RETURN,
    OnFailure,
    Part,
    Recipe,
    Step,
    StepKind,
    short_form,
    why_refused,
)
from refloat_agent.state import Cycle, Policy, State, initial, move
from refloat_contract import reasons
from refloat_contract.messages import Failure
from refloat_contract.words import Phase, Purpose, Verdict
from refloat_slurm.gateway import Job, NodeView

BOOT, OTHER = "aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"
HOOK = (("site-hook",),)
FIRMWARE = (
    Step(StepKind.STOP, pre=HOOK),
    Step(StepKind.UNMOUNT),
    Step(StepKind.RUN, argv=(("fwupdate", "--apply"),), retries=2, on_failure=OnFailure.SKIP),
    Step(StepKind.RUN, argv=(("fwupdate", "--verify"),), retries=0, on_failure=OnFailure.CONTINUE),
    Step(StepKind.REBOOT, pre=HOOK),
    Step(StepKind.RUN, argv=(("fwupdate", "--show"),), post=HOOK),
    Step(StepKind.MOUNT, post=HOOK),
    Step(StepKind.START),
    Step(StepKind.CHECK, pre=HOOK),
    Step(StepKind.RESUME, pre=HOOK),
)
RECIPES = MappingProxyType(
    {
        "reboot": Recipe("reboot", short_form(reboot=True), image_retries=1),
        "reconfigure": Recipe("reconfigure", short_form(run=(("apply-config",),))),
        "firmware": Recipe("firmware", FIRMWARE),
    }
)
DIALECT = reasons.Dialect((*reasons.DEFAULT_WORDS, reasons.Word("firmware", "flashing", "firmware")), "refloat:")
DEADLINES = MappingProxyType(dict.fromkeys(Phase, 600.0))
POLICY = Policy("n1", RECIPES, DIALECT, DEADLINES)
assert not any(why_refused(recipe.steps) for recipe in RECIPES.values())
POLICIES = (
    POLICY,
    replace(POLICY, has_coordinator=True),
    replace(POLICY, has_coordinator=True, proceed_without_coordinator=False),
    replace(POLICY, drains=False),
    replace(POLICY, acts=False),
    replace(POLICY, ladder=DEFAULT_LADDER, remedies=MappingProxyType({"labd": "reboot"})),
    replace(
        POLICY,
        recipes=MappingProxyType({"reboot": Recipe("reboot", short_form(reboot=True, run=(("x",),)))}),
        dialect=reasons.Dialect(reasons.DEFAULT_WORDS[:1]),
    ),
)
FLAGS = tuple(
    frozenset(text.split("+"))
    for text in (
        "IDLE",
        "MIXED",
        "DOWN",
        "IDLE+DRAIN",
        "MIXED+DRAIN",
        "IDLE+COMPLETING+DRAIN",
        "DOWN+DRAIN",
        "DOWN+DRAIN+NOT_RESPONDING",
        "IDLE+NOT_RESPONDING",
        "UNKNOWN+DRAIN",
        "IDLE+DRAIN+REBOOT_REQUESTED",
        "DOWN+DRAIN+REBOOT_ISSUED",
        "IDLE+DRAIN+POWERING_DOWN",
        "IDLE+DRAIN+FROBNICATING",
        "DOWN+DRAIN+?",
        "ERROR+DRAIN",
    )
)
FOREIGN = ("bad dimm", "Reboot ASAP", "reboot : reboot issued", "NHC: check_fs", "Node unexpectedly rebooted", "")
OURS = (
    "reboot",
    "Reboot: kernel image=compute-1 wave=w1",
    "gpfs-restart",
    "rebooting",
    "rebooting refloat=c1 boot=aaaaaaaa image=compute-1",
    "rebooting refloat=c1 boot=bbbbbbbb",
    "rebooting refloat=c1 boot=bbbbbbbb was: bad dimm",
    "rebooting refloat=other boot=aaaaaaaa",
    "gpfs-restarting refloat=c1 boot=aaaaaaaa",
    "refloat-hold: MOUNTING failed refloat=c1",
    "refloat-hold: MOUNTING failed refloat=other",
    "refloat-hold: MOUNTING failed refloat=c1 was: bad dimm",
    "refloat-release: alice: by mistake refloat=c1",
    "refloat-release: alice: by mistake refloat=c1 was: bad dimm",
    "refloat-release: alice refloat=other",
    "refloat-release: by hand",
    "reboot was: bad dimm",
    "reboot cause=labd loop=1",
    "refloat: labd: not running",
    "flashing refloat=c1 boot=aaaaaaaa : Not responding",
    "flashing refloat=c1 boot=aaaaaaaa step=3",
    "flashing refloat=c1 boot=aaaaaaaa step=4 image=compute-1",
    "flashing refloat=c1 boot=bbbbbbbb step=3",
)
WRITES = (actions.TakeDown, actions.WriteReason, actions.DrainForHealth, actions.Resume)
PERMITS = (PermitFacts(coordinator=True, granted="c1"), PermitFacts(coordinator=True, denied="c1"))
RESTING = PermitFacts(coordinator=True, denied="c1", denied_why="no room", rests=True, again_s=1500.0)
HARMLESS = (actions.AskPermit, actions.ReleasePermit, actions.RunChecks)


def _cycles(*entered: float) -> Iterator[Cycle]:
    for recipe, trigger in (("reboot", "reboot"), ("reconfigure", "gpfs-restart"), ("firmware", "firmware")):
        for entered_s in entered:
            for phase in (Phase.DRAINING, Phase.HELD):
                yield Cycle("c1", recipe, trigger, phase, entered_s, 1.0)
            for number, step in enumerate(RECIPES[recipe].steps):
                for part in Part:
                    if part is Part.MAIN or (part is Part.PRE and step.pre) or (part is Part.POST and step.post):
                        yield Cycle("c1", recipe, trigger, step.phase, entered_s, 1.0, step=number, part=part)

    for entered_s in entered:
        yield Cycle("c1", RETURN.name, "", Phase.HELD, entered_s, 1.0)
        for number, step in enumerate(RETURN.steps):
            yield Cycle("c1", RETURN.name, "", step.phase, entered_s, 1.0, step=number)


def _other_facts(dice: random.Random) -> dict[str, object]:
    failure = (Failure(check="labd", message="not running"),)
    right, wrong = StorageFacts("s", mounted=True, right=True), StorageFacts("s", mounted=True, right=False, why="ro")
    gone = StorageFacts("s", mounted=False, right=False)
    left, foreign = replace(wrong, skipped="c1"), replace(wrong, skipped="c0")
    action: Action = dice.choice(
        (
            actions.Unmount(),
            actions.Mount(),
            actions.Resume(),
            actions.Reboot(),
            actions.RunCommands(
                HOOK, 9.0, dice.choice(("c1/3/main", "c1/4/main", "c1/1/pre", "c1/7/post", "c1/10/pre"))
            ),
        )
    )
    return {
        "jobs": dice.choice((None, (), (), (), (Job("7", "alice", "SUSPENDED"),))),
        "steps": dice.choice((None, (), (), (), (StepProcess(1, "slurmstepd: [7.0]"),))),
        "storage": dice.choice((None, (right,), (right,), (wrong,), (gone,), (gone, left), (gone, foreign))),
        "services": dice.choice((None, (), (ServiceFacts("a", active=True),), (ServiceFacts("a", active=False),))),
        "registered": dice.choice((None, True, True, False)),
        "health": dice.choice(
            (
                HealthFacts(),
                HealthFacts(Verdict.HEALTHY, oldest_s=999.0),
                HealthFacts(Verdict.HEALTHY, oldest_s=999.0, raw_failing=failure),
                HealthFacts(Verdict.HEALTHY, oldest_s=999.0, unknown=failure),
                HealthFacts(Verdict.UNHEALTHY, failure, oldest_s=999.0, raw_failing=failure),
            )
        ),
        "permit": dice.choice(
            (PermitFacts(), PermitFacts(coordinator=None), PermitFacts(coordinator=True), RESTING, *PERMITS)
        ),
        "outcomes": dice.choice(
            (
                (),
                (ActionOutcome(action),),
                (ActionOutcome(action, "it failed"),),
                (ActionOutcome(action, "busy", final=True),),
            )
        ),
        "image": dice.choice(("", "compute-1", "compute-2")),
        "slurm_error": dice.choice(("", "", "Unable to contact slurm controller")),
        "busy": dice.choice((frozenset[str](), frozenset({"storage"}))),
    }


def _observations(dice: random.Random) -> Iterator[Observation]:
    for flags, reason, fresh, boot in product(FLAGS, FOREIGN + OURS, (True, False), (BOOT, OTHER)):
        slurm = SlurmFacts(NodeView("n1", flags, reason, "alice", 1), fresh)
        facts = _other_facts(dice)
        yield Observation(1000.0, 10**18, boot, slurm, **facts)  # type: ignore[arg-type]
    yield Observation(1000.0, 10**18, BOOT, None, "no answer")


def _variants(dice: random.Random, cycle: Cycle | None) -> State:
    if cycle is not None:
        cycle = replace(
            cycle,
            image=dice.choice(("", "compute-1")),
            wave=dice.choice(("", "w1")),
            prior=dice.choice(("", "", "bad dimm")),
            attempts=dice.choice((0, 0, 4)),
            hold="it failed" if cycle.phase is Phase.HELD else "",
            hold_shown=cycle.phase is Phase.HELD and dice.random() < 0.5,
            undrained=dice.random() < 0.2,
            announced=dice.random() < 0.5,
            committed=dice.choice((-1, -1, 3)),
            rung=dice.choice((0, 0, 1)),
            reboot_try=dice.choice((1, 1, 2)),
        )
    return replace(
        initial(BOOT, "nonce0"),
        cycle=cycle,
        prior=dice.choice(("", "bad dimm")),
        restore=dice.random() < 0.3,
        distrust=dice.random() < 0.1,
        health_drained=dice.random() < 0.3,
        health_permit=dice.choice(("", "health-1")),
    )


def _decide(state: State, seen: Observation, policy: Policy) -> Decision:
    decide = machine.decide if state.cycle is not None else in_service.decide
    return decide(state, seen, policy)


def _has_its_step(cycle: Cycle, recipe: Recipe) -> bool:
    phases = [step.phase for step in recipe.steps]
    return cycle.phase in {Phase.DRAINING, Phase.HELD} or cycle.phase in phases[cycle.step : cycle.step + 1]


def _proven_empty(seen: Observation) -> bool:
    """Said anew here, in the words of the invariant, not in those of the code."""
    if seen.slurm is None or not seen.slurm.fresh or seen.jobs != () or seen.steps != ():
        return False
    return seen.slurm.view.flags in (
        {"IDLE", "DRAIN"},
        {"DOWN", "DRAIN"},
        {"DOWN", "DRAIN", "NOT_RESPONDING"},
    )


def _assert_allowed(state: State, seen: Observation, policy: Policy, decision: Decision) -> None:
    move(state.cycle, decision.state.cycle)
    done = decision.actions
    fresh = seen.slurm is not None and seen.slurm.fresh
    flags = seen.slurm.view.flags if seen.slurm else frozenset[str]()
    reason = seen.slurm.view.reason if seen.slurm else ""
    if any(isinstance(action, actions.UNSAFE) for action in done):
        assert _proven_empty(seen)
        assert reason in OURS
        assert state.cycle is not None
    if not fresh:
        assert not any(isinstance(action, WRITES) for action in done)
        assert (
            decision.state.cycle is not None
            or state.cycle is None
            or state.cycle.recipe not in policy.recipes
            or not _has_its_step(state.cycle, policy.recipes[state.cycle.recipe])
        )
    _assert_called_off(seen, policy, decision)
    if not policy.acts:
        assert all(isinstance(action, HARMLESS) for action in done)
    if "DRAIN" in flags and reason in FOREIGN and fresh:
        assert not any(isinstance(action, WRITES) for action in done)
        given_back = state.cycle is not None and state.cycle.prior == reason and state.cycle.phase is Phase.RESUMING
        assert decision.state.cycle is None or given_back
    was, now = (each.cycle.phase if each.cycle else None for each in (state, decision.state))
    if was is Phase.UNMOUNTING and now in {Phase.RUNNING, Phase.REBOOTING}:
        assert all(not storage.mounted or storage.skipped == "c1" for storage in seen.storage or ())
        assert seen.storage is not None
    for action in done:
        if isinstance(action, actions.Resume):
            _assert_proven(seen, prior=state.cycle.prior if state.cycle else "")
        if isinstance(action, actions.Reboot | actions.RunCommands):
            _assert_committed(action, state, seen)
        if isinstance(action, actions.DrainForHealth):
            assert "DRAIN" not in flags
            assert seen.health.verdict is Verdict.UNHEALTHY


def _assert_called_off(seen: Observation, policy: Policy, decision: Decision) -> None:
    """Once Slurm shows a release, nothing more is taken from the node, whatever its cycle was at."""
    if seen.slurm is None or not seen.slurm.fresh or "DRAIN" not in seen.slurm.view.flags:
        return
    if not isinstance(reasons.parse(seen.slurm.view.reason, policy.dialect), reasons.Release):
        return
    assert not any(isinstance(action, actions.UNSAFE) for action in decision.actions)
    assert decision.state.cycle is None or decision.state.cycle.recipe == RETURN.name


def _assert_committed(action: Action, state: State, seen: Observation) -> None:
    """Whatever cannot be undone comes after Slurm has said so."""
    assert seen.slurm is not None
    assert "DRAIN" in seen.slurm.view.flags
    assert state.cycle is not None
    reason = seen.slurm.view.reason
    if isinstance(action, actions.Reboot):
        assert seen.boot_id == BOOT
        assert "DOWN" in seen.slurm.view.flags
        assert "refloat=c1 boot=aaaaaaaa" in reason
    else:
        assert isinstance(reasons.parse(reason, DIALECT), reasons.Progress)


def _assert_proven(seen: Observation, *, prior: str) -> None:
    assert seen.storage is not None
    assert all(storage.right for storage in seen.storage)
    assert seen.services is not None
    assert all(service.active for service in seen.services)
    assert seen.registered
    assert not seen.health.raw_failing
    assert not prior
    assert seen.slurm is not None
    assert not {"REBOOT_REQUESTED", "REBOOT_ISSUED", "POWERING_DOWN", "FROBNICATING", "?"} & seen.slurm.view.flags


@pytest.mark.timeout(180)  # seconds on a machine of its own; some share theirs
@pytest.mark.parametrize("recipe", ["", *RECIPES, RETURN.name])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: f"{POLICIES.index(policy)}")
def test_no_combination_makes_the_agent_do_what_it_never_may(policy: Policy, recipe: str) -> None:
    dice = random.Random(7)  # noqa: S311 - the same on every run

    for cycle in [cycle for cycle in (None, *_cycles(990.0)) if (cycle.recipe if cycle else "") == recipe]:
        for seen in _observations(dice):
            state = _variants(dice, cycle)
            _assert_allowed(state, seen, policy, _decide(state, seen, policy))


def test_a_machine_that_takes_no_proof_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "unsafe", lambda seen: None)

    with pytest.raises(AssertionError):
        test_no_combination_makes_the_agent_do_what_it_never_may(POLICY, "reboot")


def test_every_phase_ends_when_its_deadline_has_passed_and_slurm_answers() -> None:
    dice = random.Random(8)  # noqa: S311 - the same on every run

    for cycle in _cycles(-1e6):
        if cycle.phase is Phase.HELD:
            continue
        for seen in _observations(dice):
            if seen.slurm is None or not seen.slurm.fresh or seen.slurm_error or "UNKNOWN" in seen.slurm.view.flags:
                continue
            after = _decide(
                replace(_variants(dice, cycle), cycle=cycle), replace(seen, outcomes=()), POLICY
            ).state.cycle
            here = (cycle.phase, cycle.step, cycle.part)
            assert after is None or (after.phase, after.step, after.part) != here, (cycle, seen)


def test_every_phase_waits_for_slurmctld_without_its_deadline_running_out() -> None:
    for cycle in _cycles(990.0):
        if cycle.phase in {Phase.HELD, Phase.MOUNTING, Phase.STARTING, Phase.CHECKING}:
            continue
        state = replace(initial(BOOT, "nonce0"), cycle=cycle)
        for now_s in (1000.0, 5000.0, 9000.0):
            decision = machine.decide(state, Observation(now_s, 1, BOOT, None, "no answer"), POLICY)
            assert decision.actions == ()
            state = decision.state

        shown = SlurmFacts(NodeView("n1", frozenset({"UNKNOWN", "DRAIN"}), "reboot"), fresh=False)
        after = machine.decide(state, Observation(9001.0, 1, BOOT, shown), POLICY).state.cycle
        assert after is not None
        assert after.phase is cycle.phase


def test_a_permit_is_asked_for_under_the_name_of_its_cycle() -> None:
    seen = Observation(1000.0, 1, BOOT, permit=PermitFacts(coordinator=True))
    policy = replace(POLICY, has_coordinator=True)

    granted, asked, _ = machine.permit(seen, policy, actions.AskPermit("c1", Purpose.CYCLE, "reboot", "w1"))

    assert not granted
    assert asked == (actions.AskPermit("c1", Purpose.CYCLE, "reboot", "w1"),)
