# SPDX-License-Identifier: Apache-2.0
"""What to do with a node that is in no cycle: start one, adopt one after a boot, drain for health, or keep hands off.

Pure, like `machine`. The reason and the flags of Slurm decide; they count only when read afresh.
"""

import hashlib
from dataclasses import replace
from typing import Final

from refloat_agent import record, remedies
from refloat_agent.actions import (
    Action,
    AskPermit,
    DrainForHealth,
    Mount,
    ReleasePermit,
    Resume,
    RunChecks,
    StartServices,
    WriteReason,
)
from refloat_agent.boot_gate import ends_by_registering, noted
from refloat_agent.evidence import has_rebooted, not_mounted, not_passed, not_resumable
from refloat_agent.machine import permit
from refloat_agent.moves import Decision, hold
from refloat_agent.observation import NO_PERMIT, GateFacts, HealthFacts, Observation, PermitFacts, SlurmFacts, Wants
from refloat_agent.recipes import RETURN, Recipe
from refloat_agent.state import Cycle, Policy, State
from refloat_contract import reasons
from refloat_contract.words import EventKind, Phase, Purpose, Verdict
from refloat_slurm import states
from refloat_slurm.gateway import NodeView

NO_GATE: Final = GateFacts()
GATE_RETRY_S: Final = 10.0
"""While slurmd is held back, what does not come up is tried again at least this often."""


def wants(
    state: State,
    hint: SlurmFacts | None,
    health: HealthFacts,
    policy: Policy,
    gate: GateFacts = NO_GATE,
    permit: PermitFacts = NO_PERMIT,
) -> Wants:
    """What to look at closely for the next decision about a node without a cycle."""
    stale = hint is None or not (hint.from_feed or hint.rests or hint.age_s < policy.poll_s)
    lifts = hint is not None and _may_lift(hint.view, health, policy)
    boot = state.boot_failed or gate.overdue
    asks = (
        hint is not None
        and _asks_for_more(state, hint.view, health, policy)
        and not permit.withholds(state.health_permit)
    )
    return Wants(
        slurm=stale or gate.overdue or asks,
        storage=state.restore or lifts or boot,
        services=state.restore or lifts,
        registered=lifts,
    )


def _may_lift(view: NodeView, health: HealthFacts, policy: Policy) -> bool:
    """Whether this view, if it were fresh, would let us lift a health drain; only then its other proofs are read."""
    if not (policy.acts and policy.drains and health.verdict is Verdict.HEALTHY and "DRAIN" in view.flags):
        return False
    return isinstance(reasons.parse(view.reason, policy.dialect), reasons.Health)


def _asks_for_more(state: State, view: NodeView, health: HealthFacts, policy: Policy) -> bool:
    """Whether this view, if it were fresh, would make us write to Slurm or start a cycle."""
    if "DRAIN" not in view.flags:
        return health.verdict is Verdict.UNHEALTHY or state.health_drained
    match reasons.parse(view.reason, policy.dialect):
        case reasons.Trigger() | reasons.Progress() | reasons.Hold() | reasons.Release():
            return True
        case reasons.Health():
            return health.verdict is not Verdict.UNKNOWN
        case _:
            return False


def decide(state: State, seen: Observation, policy: Policy) -> Decision:
    """The next state and actions of a node that is in no cycle."""
    state = noted(state, seen)
    decision = _decide(state, seen, policy)
    if decision.state.cycle is not None or decision.state.restore:
        # Storage is about to be mounted: that it is not there yet is no news.
        return decision
    return replace(decision, state=_note_checks(decision.state, seen, policy))


def _decide(state: State, seen: Observation, policy: Policy) -> Decision:
    if seen.slurm is None:
        because = f": {seen.slurm_error}" if seen.slurm_error else ""
        return Decision(state, (), f"slurmctld does not answer{because}")
    state, restoring, restoring_why = _restore(state, seen, policy)
    view = seen.slurm.view
    if "DRAIN" not in view.flags:
        state = replace(state, prior="") if state.prior else state
        decision = _serving(state, seen, policy, view) if seen.slurm.fresh else _resting(state, seen, policy)
    else:
        decision = _drained(state, seen, policy, view)
    if (cycle := decision.state.cycle) is not None:
        # The cycle does its own mounting, and may be about to unmount; called off before that, it has done none.
        owed = decision.state.restore and cycle.phase is Phase.DRAINING
        return replace(decision, state=replace(decision.state, restore=owed, restore_attempts=0, restore_retry_s=0.0))
    return replace(decision, actions=restoring + decision.actions, why=decision.why or restoring_why)


def _note_checks(state: State, seen: Observation, policy: Policy) -> State:
    """Record which checks began and ceased to fail since the last decision."""
    before = {failure.check for failure in state.failing}
    now = {failure.check for failure in seen.health.failing}
    if seen.health.verdict is Verdict.UNKNOWN or before == now:
        return state
    dismissed = {each.check: f"{each.check}: {each.message}" for each in seen.health.dismissed}
    for failure in seen.health.failing:
        if failure.check not in before:
            text = f"{failure.check}: {failure.message}"
            state = _note_check(state, seen, policy, EventKind.CHECK_FAILED, failure.check, text)
    for check in sorted(before - now):
        text = dismissed.get(check, check)
        state = _note_check(state, seen, policy, EventKind.CHECK_PASSED, check, text)
    return replace(state, failing=seen.health.failing)


def _note_check(state: State, seen: Observation, policy: Policy, kind: EventKind, check: str, text: str) -> State:
    title = "Check failed" if kind is EventKind.CHECK_FAILED else "Check passed"
    measures = seen.health.measures.get(check, {})
    return record.note(state, seen, policy, kind, title, text, check=check, measures=measures)


def _restore(state: State, seen: Observation, policy: Policy) -> tuple[State, tuple[Action, ...], str]:
    """Put back what a cancelled cycle had taken down, or what a boot has not brought up yet.

    It only mounts and starts, so it can harm nobody.
    """
    if not (policy.acts and state.restore) or seen.storage is None or seen.services is None:
        return state, (), ""
    mounted = all(storage.right for storage in seen.storage)
    active = all(service.active for service in seen.services)
    tries = [o for o in seen.outcomes if isinstance(o.action, Mount | StartServices)]
    tried = state.restore_attempts + len(tries)
    # While slurmd is held back for it there is nothing better to do than to try again.
    if (mounted and active) or (tried > 2 * policy.max_attempts and not seen.gate.holds):
        # The checks saw what was missing: let them see that it is there.
        return replace(state, restore=False, restore_attempts=0, restore_retry_s=0.0), (RunChecks(),), ""
    state = replace(state, restore_attempts=tried)
    if any(outcome.error for outcome in tries):
        most_s = GATE_RETRY_S if seen.gate.holds else policy.retry_ceiling_s
        pause_s = min(most_s, policy.retry_s * 2.0 ** min(tried - 1, 10))
        state = replace(state, restore_retry_s=seen.now_s + pause_s)
    if seen.now_s < state.restore_retry_s:
        return state, (), "bringing storage and services up, again in a while"
    actions: tuple[Action, ...] = () if mounted else (Mount(),)
    actions += () if active else (StartServices(),)
    return state, actions, "bringing storage and services up"


def _drained(state: State, seen: Observation, policy: Policy, view: NodeView) -> Decision:
    if states.is_foreign_operation(view.flags):
        return Decision(state, (), f"Slurm itself is rebooting or powering the node ({states.text(view.flags)})")
    reason = reasons.parse(view.reason, policy.dialect)
    if isinstance(reason, reasons.Foreign | reasons.NoReason):
        state = replace(state, prior=view.reason, health_drained=False)
        return Decision(state, (), f"drained by {view.reason_user or 'somebody'}: {view.reason}; not ours to touch")
    if seen.slurm is None or not seen.slurm.fresh:
        return Decision(state)
    if isinstance(reason, reasons.Health):
        return _health_drained(state, seen, policy, view)
    if not policy.acts:
        return Decision(state, (), f"observing only: Slurm asks for a cycle ({view.reason})")
    match reason:
        case reasons.Trigger():
            return _start(state, seen, policy, view, reason)
        case reasons.Progress():
            return _adopt(state, seen, policy, view, reason)
        case reasons.Hold():
            return _adopt_hold(state, seen, policy, reason)
        case reasons.Release():
            return _give_back(state, seen, policy, view, reason)


def _start(state: State, seen: Observation, policy: Policy, view: NodeView, trigger: reasons.Trigger) -> Decision:
    cycle = _cycle(seen, view, trigger.word, Phase.DRAINING, image=trigger.image, wave=trigger.wave)
    prior = trigger.prior or state.prior
    cycle = replace(cycle, id=_new_id(state, policy), prior=prior, started_at=seen.wall_ns / 1e9)
    cycle = replace(cycle, cause=trigger.cause, loop=trigger.loop)
    state = remedies.counted(state, seen, policy, trigger.cause, trigger.loop)
    release = _release(state)
    state = replace(state, cycle=cycle, prior="", health_permit="", health_drained=False)
    message = f"{view.reason_user or 'somebody'} asked for {cycle.recipe}: {view.reason}"
    state = record.note(state, seen, policy, EventKind.DRAIN_SEEN, "Drain seen", message, check=trigger.cause)
    return Decision(state, release, message)


def _release(state: State) -> tuple[Action, ...]:
    return (ReleasePermit(state.health_permit),) if state.health_permit else ()


def _new_id(state: State, policy: Policy) -> str:
    # Derived, not random: deciding again after a crash before the save gives the same cycle the same id.
    seed = f"{policy.node}|{state.boot_id}|{state.nonce}|{state.seq}"
    return hashlib.sha256(seed.encode()).hexdigest()[:8]


def _cycle(seen: Observation, view: NodeView, word: reasons.Word, phase: Phase, *, image: str, wave: str) -> Cycle:
    return Cycle(
        id="",
        recipe=word.recipe,
        trigger=word.trigger,
        phase=phase,
        entered_s=seen.now_s,
        started_at=float(view.reason_at) or seen.wall_ns / 1e9,
        image=image,
        wave=wave,
    )


def _adopt(state: State, seen: Observation, policy: Policy, view: NodeView, progress: reasons.Progress) -> Decision:
    """Go on with a cycle that only the reason remembers: the node booted, or the journal is gone."""
    recipe = policy.recipes[progress.word.recipe]
    number, committed = _place(recipe, progress, seen.boot_id)
    phase = recipe.steps[number].phase
    cycle = _cycle(seen, view, progress.word, phase, image=progress.image, wave=progress.wave)
    came_up = recipe.reboot_at is not None and number > recipe.reboot_at and bool(progress.boot)
    cycle = replace(
        cycle,
        id=progress.cycle or _new_id(state, policy),
        prior=progress.prior,
        step=number,
        part=recipe.steps[number].first_part,
        committed=committed,
        reboot_try=progress.reboot_try,
        cause=progress.cause,
        loop=progress.loop,
        announced=came_up or progress.boot != reasons.short_boot(seen.boot_id),
    )
    state = replace(state, cycle=cycle, prior="")
    state = remedies.counted(state, seen, policy, progress.cause, progress.loop)
    if state.distrust and number < recipe.returns_at:
        return hold(state, seen, policy, "the agent's journal of this boot could not be read in mid-cycle")
    kind = EventKind.BOOTED if came_up else EventKind.PHASE_ENTERED
    title = "Booted" if kind is EventKind.BOOTED else f"Entered {phase}"
    message = f"boot {reasons.short_boot(seen.boot_id)}, image {seen.image or 'not named'}; going on with {phase}"
    return Decision(record.note(state, seen, policy, kind, title, message), (), message)


def _place(recipe: Recipe, progress: reasons.Progress, boot_id: str) -> tuple[int, int]:
    """At which step to go on, and which step the reason says was reached: no command before it is run again."""
    if not progress.cycle or not progress.boot:
        # The bare word of the old script is written just before its reboot, and says nothing of the boot: the node
        # is proven by its mounts and checks alone, and never rebooted on this word.
        return recipe.returns_at, -1
    at = recipe.reboot_at
    reached = progress.step - 1 if progress.step else (-1 if at is None else at)
    if at is not None and not progress.step and has_rebooted(progress.boot, boot_id, recipe.steps[at].how):
        return at + 1, at
    # Still before the reboot, if there is one: all that is level is looked at again. Another boot may have undone what
    # commands had done, so there they are run again; the reboot is then this cycle's first.
    is_same_boot = progress.boot == reasons.short_boot(boot_id)
    return 0, reached if is_same_boot else -1


def _give_back(state: State, seen: Observation, policy: Policy, view: NodeView, release: reasons.Release) -> Decision:
    """Bring a node back whose cycle was called off: its storage, its services, and proof; nothing is rebooted."""
    cycle = Cycle(
        id=release.cycle or _new_id(state, policy),
        recipe=RETURN.name,
        trigger="",
        phase=RETURN.steps[0].phase,
        entered_s=seen.now_s,
        started_at=float(view.reason_at) or seen.wall_ns / 1e9,
        step=0,
        prior=release.prior or state.prior,
    )
    permit_back = _release(state)
    state = replace(state, cycle=cycle, prior="", distrust=False, health_permit="", health_drained=False)
    state = replace(state, remedied=())
    message = f"{view.reason_user or 'somebody'} gave the node back: {release.sentence}"
    return Decision(
        record.note(state, seen, policy, EventKind.RELEASED, "Node released", message), permit_back, message
    )


def _adopt_hold(state: State, seen: Observation, policy: Policy, held: reasons.Hold) -> Decision:
    word = policy.dialect.words[0]  # a hold does not say which recipe it stopped, and nothing depends on it
    cycle = Cycle(
        id=held.cycle,
        recipe=word.recipe,
        trigger=word.trigger,
        phase=Phase.HELD,
        entered_s=seen.now_s,
        started_at=0.0,
        hold=held.sentence,
        hold_shown=True,
        prior=held.prior or state.prior,
    )
    permit_back, is_new = _release(state), state.health_drained
    state = replace(state, cycle=cycle, prior="", health_permit="", health_drained=False)
    if is_new:  # what a check found is past its remedies: it was this agent that wrote the hold
        state = record.note(state, seen, policy, EventKind.HOLD, "Node held", held.sentence)
    return Decision(state, permit_back, held.sentence)


def _serving(state: State, seen: Observation, policy: Policy, view: NodeView) -> Decision:
    """The node is not drained: drain it when its checks say so, and nobody else is at work on it."""
    if state.health_drained:
        release = _release(state)
        # What delayed the last drain's reason must not delay the next drain.
        state = replace(state, health_drained=False, health_permit="", health_retry_s=0.0)
        why = "every check passes again" if seen.health.verdict is Verdict.HEALTHY else "resumed in Slurm"
        took_s = max(0.0, (seen.wall_ns - state.health_drained_ns) / 1e9) if state.health_drained_ns else None
        state = record.note(
            state,
            seen,
            policy,
            EventKind.HEALTH_RESUMED,
            "Node resumed",
            why,
            duration_s=took_s,
            check=state.health_cause,
        )
        return Decision(state, release, why, again_s=seen.now_s)
    if seen.health.verdict is not Verdict.UNHEALTHY:
        if state.health_permit and seen.health.verdict is Verdict.HEALTHY:
            return Decision(replace(state, health_permit=""), _release(state))
        return Decision(state)
    line = _health_line(seen.health, policy)
    is_out = {"DOWN", "FAIL"} & view.flags and not ends_by_registering(seen.gate, view)
    if states.is_foreign_operation(view.flags) or is_out:
        return Decision(state, (), f"unhealthy, but the node is {states.text(view.flags)} already: {line}")
    if not (policy.acts and policy.drains):
        return Decision(state, (), f"observing only: would drain with {line!r}")
    return _drain(state, seen, policy, line)


def _drain(state: State, seen: Observation, policy: Policy, line: str) -> Decision:
    if seen.now_s < state.health_retry_s:
        return Decision(state, (), f"draining: {line}", again_s=state.health_retry_s)
    if seen.gate.holds:
        # Without its slurmd the node is out of service already: there is no leave to ask for.
        return Decision(replace(state, health_retry_s=seen.now_s + policy.retry_s), (DrainForHealth(line),), line)
    name = state.health_permit or f"health-{_new_id(state, policy)}"
    state = replace(state, health_permit=name)
    granted, actions, why = permit(seen, policy, AskPermit(name, Purpose.HEALTH, "", "", seen.health.failing[0].check))
    if not granted:
        again_s = seen.permit.again_s if seen.permit.again_s > seen.now_s else seen.now_s + policy.retry_s
        return Decision(state, actions, f"unhealthy ({line}); {why}", again_s=again_s)
    state = replace(state, health_retry_s=seen.now_s + policy.retry_s)
    return Decision(state, (DrainForHealth(line),), f"draining: {line}")


def _resting(state: State, seen: Observation, policy: Policy) -> Decision:
    if seen.health.verdict is not Verdict.UNHEALTHY or not seen.permit.withholds(state.health_permit):
        return Decision(state)
    why = f"unhealthy ({_health_line(seen.health, policy)}); permit: {seen.permit.denied_why}"
    return Decision(state, (), why, again_s=seen.permit.again_s)


def _health_line(health: HealthFacts, policy: Policy) -> str:
    return reasons.write_health(_failures(health), policy.dialect.health_prefix)


def _failures(health: HealthFacts) -> list[tuple[str, str]]:
    return [(failure.check, failure.message) for failure in health.failing]


def _health_drained(state: State, seen: Observation, policy: Policy, view: NodeView) -> Decision:
    """The node is drained by a check of ours: keep the reason true, and resume when every check passes."""
    if not state.health_drained:
        cause = seen.health.failing[0].check if seen.health.failing else ""
        state = replace(
            state,
            health_drained=True,
            health_since_s=seen.now_s,
            health_drained_ns=seen.wall_ns,
            health_cause=cause,
        )
        state = record.note(state, seen, policy, EventKind.HEALTH_DRAINED, "Node drained", view.reason, check=cause)
    if not (policy.acts and policy.drains):
        return Decision(state, (), f"observing only: drained with {view.reason}")
    if seen.health.verdict is Verdict.UNHEALTHY:
        kept = _keep_reason_true(state, seen, policy, view)
        return _put_back(kept.state, seen, policy, kept.why) if state.boot_failed and not kept.actions else kept
    if (why := not_passed(seen.health, since_s=state.health_since_s)) is not None:
        return _look_again(state, seen, policy, f"{view.reason}; {why}")
    if (why := not_resumable(view) or _not_up(seen)) is not None:
        return _put_back(state, seen, policy, f"{view.reason}; {why}")
    if any(isinstance(outcome.action, Resume) and outcome.error for outcome in seen.outcomes):
        state = replace(state, health_resume_s=seen.now_s + policy.retry_s)
    if seen.now_s < state.health_resume_s:
        return Decision(state, (), f"{view.reason}; every check passes again", again_s=state.health_resume_s)
    state = replace(state, health_resume_s=seen.now_s + policy.health_update_s)
    return Decision(state, (Resume(),), "every check passes again: resuming")


def _look_again(state: State, seen: Observation, policy: Policy, why: str) -> Decision:
    """Run every check now and then while a drain may be lifted: some are only run for that."""
    if seen.now_s < state.health_retry_s:
        return Decision(state, (), why, again_s=state.health_retry_s)
    state = replace(state, health_retry_s=seen.now_s + policy.health_update_s)
    return Decision(state, (RunChecks(),), why)


def _put_back(state: State, seen: Observation, policy: Policy, why: str) -> Decision:
    """Bring up, now and then, what is configured and down: the site's checks may not even look at it."""
    down = [
        *(s.name for s in seen.storage or () if not s.right),
        *(s.name for s in seen.services or () if not s.active),
    ]
    if not down or state.restore or seen.now_s < state.health_retry_s:
        return Decision(state, (), why)
    state = replace(state, restore=True, health_retry_s=seen.now_s + policy.health_update_s)
    return Decision(state, (), why)


def _not_up(seen: Observation) -> str | None:
    if (wrong := not_mounted(seen)) is not None:
        return wrong
    if seen.services is None or not all(service.active for service in seen.services):
        return "a service is not active"
    return None if seen.registered else "waiting for slurmd to register this boot"


def _keep_reason_true(state: State, seen: Observation, policy: Policy, view: NodeView) -> Decision:
    line = _health_line(seen.health, policy)
    # A load that is 98 now and 99 in a minute is no news; each write adds a node event to slurmctld's log.
    if reasons.is_health(_failures(seen.health), view.reason, policy.dialect.health_prefix):
        cure = remedies.reason(state, seen, policy, view, _new_id(state, policy))
        if not cure:
            return Decision(state, (), line)
        line = cure
    if seen.now_s < state.health_retry_s:
        return Decision(state, (), line, again_s=state.health_retry_s)
    state = replace(state, health_retry_s=seen.now_s + policy.health_update_s)
    return Decision(state, (WriteReason(line),), line)
