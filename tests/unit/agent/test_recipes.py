# SPDX-License-Identifier: Apache-2.0
"""Which recipes are accepted, and what a cycle does at each kind of step: failures, hooks, the ladder."""

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from refloat_agent import in_service, machine
from refloat_agent.actions import Mount, Reboot, RunCommands, StopServices, TakeDown
from refloat_agent.moves import Decision, cycle_of
from refloat_agent.observation import ActionOutcome, Observation, ServiceFacts, SlurmFacts, StorageFacts
from refloat_agent.recipes import (
    DEFAULT_LADDER,
    OnFailure,
    Part,
    Recipe,
    Step,
    StepKind,
    Way,
    short_form,
    why_refused,
)
from refloat_agent.state import Cycle, Policy, State, initial, move
from refloat_contract import reasons
from refloat_contract.words import EventKind, Phase
from refloat_slurm.gateway import Job, NodeView

BOOT = "aaaaaaaa-0000-4000-8000-000000000000"
HOOK = (("site-hook",),)
DIALECT = reasons.Dialect((reasons.Word("flash", "flashing", "flash"),))
SHORT = short_form(reboot=True, run=(("fwupdate",),))


def _kinds(text: str) -> tuple[Step, ...]:
    return tuple(Step(StepKind(word), argv=(("x",),) if word == "run" else ()) for word in text.split())


@pytest.mark.parametrize(
    "steps",
    [
        "stop unmount reboot mount start check resume",
        "run check resume",
        "reboot mount run check start resume",
        "stop unmount run reboot stop run mount start check resume",
        "mount run check resume",
    ],
)
def test_these_orders_of_steps_are_accepted(steps: str) -> None:
    assert why_refused(_kinds(steps)) is None


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ("stop unmount mount start check resume", "must reboot or run"),
        ("reboot mount resume check", "the last step"),
        ("run check resume resume", "the last step"),
        ("reboot run reboot mount check resume", "more than one step reboot"),
        ("reboot mount start resume", "never resumed unproven"),
        ("reboot mount check run resume", "would go unchecked"),
        ("reboot check mount resume", "would go unchecked"),
        ("run mount unmount check resume", "takes the node down again"),
        ("mount reboot check resume", "takes the node down again"),
        ("reboot check resume", "needs a step mount"),
        ("unmount run check resume", "needs a step mount"),
        ("stop run check resume", "needs a step start"),
    ],
)
def test_an_order_that_could_not_keep_its_promises_is_refused(steps: str, why: str) -> None:
    assert why in (why_refused(_kinds(steps)) or "")


@pytest.mark.parametrize("kind", StepKind)
@pytest.mark.parametrize("way", [OnFailure.SKIP, OnFailure.CONTINUE])
def test_only_stop_and_run_can_be_given_up(kind: StepKind, way: OnFailure) -> None:
    steps = [replace(step, on_failure=way) if step.kind is kind else step for step in SHORT]

    assert (why_refused(steps) is None) == (kind in {StepKind.STOP, StepKind.RUN})


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (Step(StepKind.RUN), "needs argv"),
        (Step(StepKind.STOP, argv=(("x",),)), "argv belongs"),
        (Step(StepKind.STOP, how=Way.KEXEC), "how belongs"),
        (Step(StepKind.REBOOT, post=HOOK), "pre of the next step"),
        (Step(StepKind.RESUME, post=HOOK), "jobs may run"),
        (Step(StepKind.STOP, pre=((),)), "has no words"),
    ],
)
def test_a_step_that_says_what_it_cannot_mean_is_refused(step: Step, why: str) -> None:
    assert why in (why_refused((step, *SHORT)) or "")


# At a step. Time is 1000 s; the cycle c1 has committed where it had to.


def _policy(*steps: Step) -> Policy:
    recipe = Recipe("flash", steps)
    assert why_refused(steps) is None
    return Policy("n1", MappingProxyType({"flash": recipe}), DIALECT, retry_s=1.0)


def _at(number: int, policy: Policy, **values: Any) -> State:
    step = policy.recipes["flash"].steps[number]
    values = {"part": step.first_part, **values}
    cycle = Cycle("c1", "flash", "flash", step.phase, 990.0, 1.0, step=number, announced=True, **values)
    return replace(initial(BOOT, "nonce0"), cycle=cycle)


def _seen(policy: Policy, state: State, **facts: Any) -> Observation:
    cycle = cycle_of(state)
    word = policy.recipes["flash"].step_word(max(0, cycle.step), cycle.part)
    reason = f"flashing refloat=c1 boot=aaaaaaaa{f' step={word}' if word else ''}"
    view = NodeView("n1", frozenset({"DOWN", "DRAIN"}), reason)
    usual: dict[str, Any] = {
        "storage": (StorageFacts("s", mounted=True, right=True),),
        "services": (ServiceFacts("a", active=True),),
        "jobs": (),
        "steps": (),
        "slurm": SlurmFacts(view, fresh=True),
        "now_s": 1000.0,
    }
    return Observation(**{"wall_ns": 10**18, "boot_id": BOOT, **usual, **facts})


def _decide(policy: Policy, state: State, **facts: Any) -> Decision:
    decision = machine.decide(state, _seen(policy, state, **facts), policy)
    move(state.cycle, decision.state.cycle)
    return decision


def _place(decision: Decision) -> tuple[Phase, int, Part]:
    cycle = cycle_of(decision.state)
    return cycle.phase, cycle.step, cycle.part


def _run(on_failure: OnFailure = OnFailure.HOLD, **values: Any) -> Policy:
    step = Step(StepKind.RUN, argv=(("fwupdate",), ("fwlog",)), on_failure=on_failure, **values)
    return _policy(step, Step(StepKind.REBOOT), *_kinds("mount check resume"))


def _outcome(token: str, error: str = "") -> ActionOutcome:
    return ActionOutcome(RunCommands((("fwupdate",),), 9.0, token), error)


@pytest.mark.parametrize(
    ("on_failure", "phase", "part", "kind"),
    [
        (OnFailure.HOLD, Phase.HELD, Part.MAIN, EventKind.HOLD),
        (OnFailure.SKIP, Phase.REBOOTING, Part.MAIN, EventKind.PHASE_ENTERED),
        (OnFailure.CONTINUE, Phase.RUNNING, Part.POST, EventKind.STEP_FAILED),
    ],
)
def test_a_run_that_failed_at_its_last_attempt_does_as_the_recipe_says(
    on_failure: OnFailure, phase: Phase, part: Part, kind: EventKind
) -> None:
    policy = _run(on_failure, retries=1, post=HOOK)
    state = _at(0, policy, part=Part.MAIN)

    first = _decide(policy, state, outcomes=(_outcome("c1/1/main", "exit status 1"),))
    second = _decide(policy, first.state, now_s=1002.0, outcomes=(_outcome("c1/1/main", "exit status 1"),))

    assert "attempt 2 of 2" in first.why
    assert (_place(second)[0], _place(second)[2]) == (phase, part)
    assert second.state.outbox[-1].kind is kind
    assert any("exit status 1" in event.message for event in second.state.outbox)


def test_the_record_says_which_phase_was_left_and_how_long_it_took() -> None:
    policy = _run(OnFailure.SKIP, deadline_s=5.0)
    left = _decide(policy, _at(0, policy))
    event = left.state.outbox[-1]

    assert (event.kind, event.phase) == (EventKind.PHASE_ENTERED, Phase.REBOOTING)
    assert event.measures == {"running_s": event.duration_s}


@pytest.mark.parametrize("on_failure", [OnFailure.SKIP, OnFailure.CONTINUE])
def test_a_step_past_its_deadline_is_not_left_while_its_command_still_runs(on_failure: OnFailure) -> None:
    policy = _run(on_failure, deadline_s=5.0)
    state = _at(0, policy)

    busy = _decide(policy, state, busy=frozenset({"commands"}))
    free = _decide(policy, state)

    assert _place(busy)[0] is Phase.RUNNING
    assert busy.actions == ()
    assert _place(free)[0] is Phase.REBOOTING


def test_a_run_that_may_fail_runs_all_its_commands_in_every_attempt() -> None:
    (action,) = _decide(_run(OnFailure.CONTINUE, deadline_s=1800.0), _at(0, _run())).actions

    assert action == RunCommands((("fwupdate",), ("fwlog",)), 1800.0, "c1/1/main", keep_going=True)


def test_a_stop_that_is_skipped_goes_on_to_the_next_step() -> None:
    stop = Step(StepKind.STOP, retries=0, on_failure=OnFailure.SKIP)
    policy = _policy(stop, *_kinds("unmount reboot mount start check resume"))
    failed = ActionOutcome(StopServices(), "gpfs.service did not stop")

    assert _place(_decide(policy, _at(0, policy), outcomes=(failed,))) == (Phase.UNMOUNTING, 1, Part.MAIN)


def test_hooks_run_before_and_after_their_step() -> None:
    mount = Step(StepKind.MOUNT, pre=HOOK, post=HOOK, hook_deadline_s=7.0)
    policy = _policy(*_kinds("reboot"), mount, *_kinds("check resume"))
    gone = (StorageFacts("s", mounted=False, right=False),)
    state = _at(1, policy)

    pre = _decide(policy, state, storage=gone)
    main = _decide(policy, state, storage=gone, outcomes=(_outcome("c1/2/pre"),))
    mounting = _decide(policy, main.state, storage=gone)
    done = _decide(policy, main.state)
    post = _decide(policy, done.state)
    after = _decide(policy, done.state, outcomes=(_outcome("c1/2/post"),))

    assert pre.actions == (RunCommands(HOOK, 7.0, "c1/2/pre"),)
    assert mounting.actions == (Mount(),)
    assert post.actions == (RunCommands(HOOK, 7.0, "c1/2/post"),)
    assert _place(after) == (Phase.CHECKING, 2, Part.MAIN)


@pytest.mark.parametrize("kind", ["stop", "unmount", "run", "reboot", "mount", "start", "check", "resume"])
def test_no_hook_runs_while_a_job_is_on_the_node(kind: str) -> None:
    policy = _policy(*(replace(step, pre=HOOK) if step.kind == kind else step for step in SHORT))
    number = [step.kind for step in SHORT].index(StepKind(kind))

    decision = _decide(policy, _at(number, policy), jobs=(Job("7", "alice", "SUSPENDED"),))

    assert decision.actions == ()
    assert "job 7" in decision.why


def test_another_s_outcome_is_not_taken_for_a_hook_s() -> None:
    policy = _policy(*(replace(step, pre=HOOK) for step in SHORT))

    decision = _decide(policy, _at(2, policy), outcomes=(_outcome("c1/3/main"), _outcome("c0/3/pre")))

    assert _place(decision) == (Phase.RUNNING, 2, Part.PRE)


def test_a_node_that_is_resumed_before_the_last_hook_has_run_is_left_alone() -> None:
    policy = _policy(*(replace(step, pre=HOOK) if step.kind is StepKind.RESUME else step for step in SHORT))
    state = _at(len(SHORT) - 1, policy)
    idle = SlurmFacts(NodeView("n1", frozenset({"IDLE"}), "flashing refloat=c1 boot=aaaaaaaa"), fresh=True)

    assert _decide(policy, state, slurm=idle).state.cycle is None


def test_a_drain_that_is_put_back_before_the_last_hook_has_run_is_somebody_else_s() -> None:
    policy = _policy(*(replace(step, pre=HOOK) if step.kind is StepKind.RESUME else step for step in SHORT))
    foreign = SlurmFacts(NodeView("n1", frozenset({"DOWN", "DRAIN"}), "bad dimm"), fresh=True)

    decision = _decide(policy, _at(len(SHORT) - 1, policy, prior="bad dimm"), slurm=foreign)

    assert decision.state.cycle is None


def test_each_step_that_cannot_be_undone_is_written_into_the_reason_first() -> None:
    policy = _policy(*SHORT)
    view = NodeView("n1", frozenset({"DOWN", "DRAIN"}), "flashing refloat=c1 boot=aaaaaaaa step=3")
    at_reboot = _decide(policy, _at(3, policy), slurm=SlurmFacts(view, fresh=True))
    drained = NodeView("n1", frozenset({"IDLE", "DRAIN"}), "flash")
    at_run = _decide(policy, _at(2, policy), slurm=SlurmFacts(drained, fresh=True))

    assert at_run.actions == (TakeDown("flashing refloat=c1 boot=aaaaaaaa step=3"),)
    assert at_reboot.actions == (TakeDown("flashing refloat=c1 boot=aaaaaaaa"),)


def test_a_crash_in_the_hook_before_the_reboot_is_not_taken_for_the_reboot() -> None:
    policy = _policy(Step(StepKind.REBOOT, pre=HOOK), *_kinds("mount check resume"))
    hook, itself = _at(0, policy), _at(0, policy, part=Part.MAIN)
    drained = SlurmFacts(NodeView("n1", frozenset({"IDLE", "DRAIN"}), "flash"), fresh=True)
    places = {}

    for name, state in (("hook", hook), ("reboot", itself)):
        (action,) = _decide(policy, state, slurm=drained).actions
        assert isinstance(action, TakeDown)
        view = NodeView("n1", frozenset({"DOWN", "DRAIN"}), action.reason)
        seen = _seen(policy, state, slurm=SlurmFacts(view, fresh=True), boot_id="bbbbbbbb-0000")
        places[name] = _place(in_service.decide(initial("bbbbbbbb-0000", "nonce0"), seen, policy))[0]

    assert places == {"hook": Phase.REBOOTING, "reboot": Phase.MOUNTING}


def test_taking_the_node_down_is_tried_as_often_as_ever_whatever_the_step_says() -> None:
    policy = _run(OnFailure.SKIP, retries=0)
    drained = SlurmFacts(NodeView("n1", frozenset({"IDLE", "DRAIN"}), "flash"), fresh=True)
    failed = ActionOutcome(TakeDown(""), "Socket timed out")

    decision = _decide(policy, _at(0, policy), slurm=drained, outcomes=(failed,))

    assert "attempt 2 of 5" in decision.why


# The ladder.


def _climb(policy: Policy, state: State, now_s: float, **facts: Any) -> Decision:
    return _decide(policy, state, now_s=now_s, **facts)


def test_a_node_that_does_not_go_down_is_rebooted_by_rung_after_rung_each_told_before_it_is_tried() -> None:
    policy = replace(_policy(*_kinds("reboot mount check resume")), ladder=DEFAULT_LADDER)
    state, tried, now_s = _at(0, policy), list[Way](), 1000.0

    for _ in range(12):
        decision = _climb(policy, state, now_s, outcomes=tuple(ActionOutcome(Reboot(way)) for way in tried[-1:]))
        if decision.actions:
            (action,) = decision.actions
            assert isinstance(action, Reboot)
            tried.append(action.way)
            forced = [e.title for e in decision.state.outbox if e.kind is EventKind.REBOOT_FORCED]
            assert len(forced) == len(set(tried)) - 1
        state, now_s = decision.state, now_s + 61.0

    assert list(dict.fromkeys(tried)) == [Way.SYSTEMD, Way.FORCE, Way.FORCE_FORCE, Way.SYSRQ]
    assert cycle_of(state).rung == 3


def test_a_way_that_fails_at_every_attempt_is_left_for_the_next_rung() -> None:
    policy = replace(_policy(*_kinds("reboot mount check resume")), ladder=DEFAULT_LADDER, max_attempts=1)
    failed = ActionOutcome(Reboot(), "Call to Reboot failed")

    climbed = _climb(policy, _at(0, policy), 1000.0, outcomes=(failed,))

    assert climbed.actions == ()
    assert climbed.state.outbox[-1].kind is EventKind.REBOOT_FORCED
    assert "Call to Reboot failed" in climbed.state.outbox[-1].message
    assert _climb(policy, climbed.state, 1001.0).actions == (Reboot(Way.FORCE),)


@pytest.mark.parametrize("facts", [{"jobs": None}, {"steps": None}, {"jobs": (Job("7", "alice", "RUNNING"),)}])
def test_no_rung_is_tried_on_a_node_that_is_not_proven_empty_anew(facts: dict[str, Any]) -> None:
    policy = replace(_policy(*_kinds("reboot mount check resume")), ladder=DEFAULT_LADDER)
    state = _at(0, policy, rung=1, rung_s=1.0)

    decision = _climb(policy, state, 1000.0, **facts)

    assert decision.actions == ()
    assert cycle_of(decision.state).rung == 1


def test_at_the_top_of_the_ladder_the_node_is_held() -> None:
    policy = replace(_policy(*_kinds("reboot mount check resume")), max_attempts=1)
    failed = ActionOutcome(Reboot(), "Call to Reboot failed")

    assert _place(_climb(policy, _at(0, policy), 1000.0, outcomes=(failed,)))[0] is Phase.HELD


@pytest.mark.parametrize(
    ("how", "boot_id", "phase"),
    [
        (Way.SYSTEMD, BOOT, Phase.REBOOTING),
        (Way.SYSTEMD, f"{BOOT}.1", Phase.REBOOTING),
        (Way.KEXEC, f"{BOOT}.1", Phase.REBOOTING),
        (Way.SOFT, f"{BOOT}.1", Phase.MOUNTING),
        (Way.SOFT, "bbbbbbbb-0000", Phase.MOUNTING),
        (Way.KEXEC, "bbbbbbbb-0000", Phase.MOUNTING),
    ],
)
def test_each_way_to_reboot_has_its_own_proof(how: Way, boot_id: str, phase: Phase) -> None:
    policy = _policy(Step(StepKind.REBOOT, how=how), *_kinds("mount check resume"))
    state = _at(0, policy)
    reason = f"flashing refloat=c1 boot={reasons.short_boot(boot_id)}"
    view = NodeView("n1", frozenset({"DOWN", "DRAIN"}), reason)

    decision = _decide(policy, state, boot_id=boot_id, slurm=SlurmFacts(view, fresh=True))

    assert _place(decision)[0] is phase
