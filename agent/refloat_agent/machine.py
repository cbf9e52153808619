# SPDX-License-Identifier: Apache-2.0
"""The state machine of a cycle: `decide` is pure, total and level-triggered.

A cycle drains its node, then takes the steps of its recipe one by one. While at a step, its function first asks "is my
goal met?" and moves on, else emits the step's action, again at every look, until the observation says that it is done.
Nothing is emitted on a transition: the process may be killed between saving the new step and acting on it.

Before anything that could harm a job (`may_harm`) the node is proven empty by facts read for this very decision; before
the first command or reboot the node is DOWN and drained, with the cycle's progress as its reason. What happens without
a cycle (starting one, adopting one after a boot, health drains) is in `in_service`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from refloat_agent import record
from refloat_agent.actions import (
    Action,
    AskPermit,
    Mount,
    Reboot,
    Resume,
    RunChecks,
    RunCommands,
    StartServices,
    StopServices,
    TakeDown,
    Unmount,
    WriteReason,
)
from refloat_agent.evidence import ended_by_others, has_rebooted, not_passed, unproven, unsafe
from refloat_agent.moves import (
    Decision,
    advance,
    attempts_of,
    count,
    cycle_of,
    end,
    hold,
    overdue,
    reached,
    step_of,
    tried,
    wait,
    work,
)
from refloat_agent.observation import NO_PERMIT, ActionOutcome, Observation, PermitFacts, SlurmFacts, Wants
from refloat_agent.recipes import RETURN, Argv, OnFailure, Part, Recipe, Step, StepKind, Way
from refloat_agent.state import Cycle, Policy, State, enter_step
from refloat_contract import reasons
from refloat_contract.images import is_image
from refloat_contract.words import EventKind, Outcome, Phase, Purpose
from refloat_slurm import states

REBOOT_AGAIN_S: Final = 120.0
"""A reboot that was accepted but has not happened is asked for again after this; asking systemd twice is harmless."""


def wants(state: State, hint: SlurmFacts | None, policy: Policy, permit: PermitFacts = NO_PERMIT) -> Wants:
    """What to look at closely for the next decision of a running cycle, given what Slurm was last seen to show."""
    cycle = cycle_of(state)
    wanted = _wants(cycle, hint, policy, permit)
    return replace(wanted, slurm=True, jobs=True, steps=True) if may_harm(cycle, policy) else wanted


def _wants(cycle: Cycle, hint: SlurmFacts | None, policy: Policy, permit: PermitFacts) -> Wants:
    doubtful = _doubtful(cycle, hint, policy)
    match cycle.phase:
        case Phase.DRAINING if permit.withholds(cycle.id):
            return Wants(slurm=doubtful)
        case Phase.DRAINING:
            drained = hint is not None and states.is_drained(hint.view.flags)
            return Wants(slurm=drained or doubtful, jobs=drained, steps=True)
        case Phase.RESUMING:
            return Wants(slurm=True, storage=True, services=True, registered=True)
        case Phase.HELD:
            return Wants(slurm=doubtful or not cycle.hold_shown)
        case _:
            return Wants(slurm=doubtful, storage=True, services=cycle.phase in _SEES_SERVICES)


_SEES_SERVICES: Final = frozenset({Phase.STOPPING, Phase.STARTING})


def may_harm(cycle: Cycle, policy: Policy) -> bool:
    """Whether what the cycle does now could harm a job: only an empty node may have to bear it."""
    if cycle.phase in _UNSAFE_PHASES:
        return True
    recipe = policy.recipes.get(cycle.recipe)
    at_step = recipe is not None and cycle.phase is not Phase.HELD and 0 <= cycle.step < len(recipe.steps)
    return at_step and cycle.part is not Part.MAIN


_UNSAFE_PHASES: Final = frozenset({Phase.STOPPING, Phase.UNMOUNTING, Phase.RUNNING, Phase.REBOOTING})


def _doubtful(cycle: Cycle, hint: SlurmFacts | None, policy: Policy) -> bool:
    if hint is None or (not hint.from_feed and hint.age_s >= policy.poll_s):
        return True
    return ended_by_others(cycle, hint.view, policy) is not None


def decide(state: State, seen: Observation, policy: Policy) -> Decision:
    """The next state and actions of a node that is in a cycle."""
    cycle = cycle_of(state)
    if (why := _unconfigured(cycle, policy)) is not None:
        return end(state, seen, policy, Outcome.CANCELLED, why)
    cycle = _placed(cycle, policy)
    if seen.slurm is not None and seen.slurm.fresh:
        who = ended_by_others(cycle, seen.slurm.view, policy)
        if who is not None:
            return end(state, seen, policy, Outcome.CANCELLED, who)
    cycle = _stop_the_clock(cycle, seen, policy)
    state = state if cycle is state.cycle else replace(state, cycle=cycle)
    if not policy.acts:
        return Decision(state, (), f"observing only: a cycle stands in {cycle.phase}")
    if any(_has_run(outcome, cycle) for outcome in seen.outcomes):
        # Kept whatever else is seen now: what ran once is not run again because slurmctld was slow this very second.
        return reached(state, seen, policy)
    return _PHASES.get(cycle.phase, _on_step)(state, cycle, seen, policy)


def _unconfigured(cycle: Cycle, policy: Policy) -> str | None:
    """Why this cycle, begun under another configuration, cannot be gone on with; None while it can."""
    recipe = policy.recipes.get(cycle.recipe)
    if recipe is None:
        return f"the configuration no longer has the recipe {cycle.recipe!r}"
    if cycle.phase in _PHASES:
        return None
    if cycle.step < 0:
        is_there = recipe.find(cycle.phase) is not None
    else:
        is_there = cycle.step < len(recipe.steps) and recipe.steps[cycle.step].phase is cycle.phase
    return None if is_there else f"the recipe {cycle.recipe!r} no longer has the phase {cycle.phase} there"


def _placed(cycle: Cycle, policy: Policy) -> Cycle:
    """The cycle with the number of its step, which the journals of earlier releases do not say."""
    if cycle.step >= 0 or cycle.phase in _PHASES:
        return cycle
    number = policy.recipes[cycle.recipe].find(cycle.phase)
    return cycle if number is None else replace(cycle, step=number)


_ASKS_SLURM: Final = frozenset({Phase.DRAINING, Phase.RESUMING})


def _stop_the_clock(cycle: Cycle, seen: Observation, policy: Policy) -> Cycle:
    """Let no deadline run out on a phase that has to ask Slurm while Slurm cannot be asked."""
    blind = seen.slurm is None or bool(seen.slurm_error) or "UNKNOWN" in seen.slurm.view.flags
    if not policy.acts or (blind and (cycle.phase in _ASKS_SLURM or may_harm(cycle, policy))):
        return cycle if cycle.paused_s is not None else replace(cycle, paused_s=seen.now_s)
    if cycle.paused_s is None:
        return cycle
    lost_s = max(0.0, seen.now_s - cycle.paused_s)
    return replace(cycle, paused_s=None, entered_s=cycle.entered_s + lost_s, rung_s=cycle.rung_s + lost_s)


def _token(cycle: Cycle) -> str:
    """The name of one running of commands, so that no other's outcome is taken for it."""
    return f"{cycle.id}/{cycle.step + 1}/{cycle.part}"


def _has_run(outcome: ActionOutcome, cycle: Cycle) -> bool:
    ran = isinstance(outcome.action, RunCommands) and outcome.action.token == _token(cycle)
    # The way back has the id of its cycle, and no commands: what ends during it was begun before.
    return ran and not outcome.error and cycle.phase not in _PHASES and cycle.recipe != RETURN.name


def _draining(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    # A node that may not even ask yet need not be proven empty; without that proof it is not let go on either.
    resting = seen.permit.withholds(cycle.id)
    if not resting and (why := unsafe(seen)) is not None:
        if overdue(cycle, seen, policy):
            return hold(state, seen, policy, f"not drained: {why}")
        return Decision(state, (), why)
    granted, actions, why = permit(
        seen, policy, AskPermit(cycle.id, Purpose.CYCLE, cycle.recipe, cycle.wave, cycle.cause)
    )
    if not granted:
        if overdue(cycle, seen, policy):
            return hold(state, seen, policy, f"drained, but without leave to go on: {why}")
        again_s = seen.permit.again_s if resting else None
        return Decision(_note_denial(state, seen, policy, why), actions, why, again_s=again_s)
    if policy.has_coordinator and seen.permit.granted == cycle.id:
        state = record.note(
            state, seen, policy, EventKind.PERMIT_GRANTED, "Permit granted", f"permit for {cycle.recipe}"
        )
    return advance(state, seen, policy)


def _note_denial(state: State, seen: Observation, policy: Policy, why: str) -> State:
    cycle = state.cycle
    if cycle is None or seen.permit.denied != cycle.id or cycle.trouble == why:
        return state
    state = replace(state, cycle=replace(cycle, trouble=why))
    return record.note(state, seen, policy, EventKind.PERMIT_DENIED, "Permit denied", why)


def permit(seen: Observation, policy: Policy, ask: AskPermit) -> tuple[bool, tuple[Action, ...], str]:
    """Whether the node may leave service now; else what to ask, and what is being waited for."""
    if seen.permit.withholds(ask.permit):
        return False, (), f"permit: {seen.permit.denied_why}"
    if not policy.has_coordinator or seen.permit.granted == ask.permit:
        return True, (), ""
    if seen.permit.coordinator is None:
        return False, (), "waiting to hear whether there is a coordinator"
    if not seen.permit.coordinator:
        if policy.proceed_without_coordinator:
            return True, (), ""
        return False, (), "no coordinator to ask for a permit (without_coordinator = 'wait')"
    if seen.permit.denied == ask.permit:
        return False, (ask,), f"permit: {seen.permit.denied_why}"
    return False, (ask,), "permit: asked the coordinator"


def _on_step(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    """Be at a step: what must be proven and committed first, then its pre hook, itself, and its post hook.

    Not being able to tell whether the node is empty stops the clock; what can be told and does not go away is held in
    the end.
    """
    recipe, step = policy.recipes[cycle.recipe], step_of(cycle, policy)
    if (why := _wrong_image(cycle, recipe, seen)) is not None:
        return _boot_again(state, cycle, seen, policy, why)
    if may_harm(cycle, policy) and (why := unsafe(seen)) is not None:
        return wait(state, seen, policy, why)
    if step.kind is StepKind.RUN and cycle.step < cycle.committed:
        return advance(state, seen, policy)
    is_over = cycle.part is Part.POST and not step.post
    if _needs_commit(cycle, step) and not is_over and not _committed(cycle, recipe, seen, policy):
        return _take_down(state, cycle, seen, policy)
    if cycle.part is Part.PRE:
        return _commands(state, cycle, seen, policy, step.pre, step.hook_deadline_s)
    if cycle.part is Part.POST and not is_over:
        return _commands(state, cycle, seen, policy, step.post, step.hook_deadline_s)
    return advance(state, seen, policy) if is_over else _STEPS[step.kind](state, cycle, seen, policy)


def _wrong_image(cycle: Cycle, recipe: Recipe, seen: Observation) -> str | None:
    after_reboot = recipe.reboot_at is not None and cycle.step > recipe.reboot_at
    if not after_reboot or not cycle.image or is_image(cycle.image, seen.image):
        return None
    return f"booted image {seen.image or '(none named)'}, wanted {cycle.image}"


def _boot_again(state: State, cycle: Cycle, seen: Observation, policy: Policy, why: str) -> Decision:
    """Take all steps down again for another boot, if the recipe has one to spare; no command is run a second time."""
    recipe = policy.recipes[cycle.recipe]
    if cycle.reboot_try > recipe.image_retries:
        after = f" after {cycle.reboot_try} reboots" if cycle.reboot_try > 1 else ""
        return hold(state, seen, policy, f"{why}{after}")
    message = f"{why}; rebooting again ({cycle.reboot_try} of {recipe.image_retries})"
    state = record.note(state, seen, policy, EventKind.STEP_FAILED, "Wrong image", message)
    state = enter_step(state, 0, recipe.steps[0], seen.now_s)
    cycle = replace(cycle_of(state), reboot_try=cycle.reboot_try + 1, committed=recipe.reboot_at or 0, announced=False)
    return Decision(replace(state, cycle=cycle), (), message)


def _needs_commit(cycle: Cycle, step: Step) -> bool:
    return step.kind in {StepKind.RUN, StepKind.REBOOT} or cycle.part is not Part.MAIN


def _committed(cycle: Cycle, recipe: Recipe, seen: Observation, policy: Policy) -> bool:
    """Whether Slurm shows the node DOWN, still drained, and how far this cycle is as its reason.

    After the reboot what stands there is left as it is: its ``boot=`` is what proves the reboot.
    """
    if recipe.reboot_at is not None and cycle.step > recipe.reboot_at:
        return True
    if seen.slurm is None:
        return False
    reason = reasons.parse(seen.slurm.view.reason, policy.dialect)
    if not isinstance(reason, reasons.Progress) or reason.cycle != cycle.id:
        return False
    here = (recipe.step_word(cycle.step, cycle.part), reasons.short_boot(seen.boot_id), cycle.reboot_try)
    return (reason.step, reason.boot, reason.reboot_try) == here and {"DOWN", "DRAIN"} <= seen.slurm.view.flags


def _take_down(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    word = policy.dialect.word(cycle.trigger)
    if word is None:
        return hold(state, seen, policy, f"the configuration no longer knows the trigger {cycle.trigger!r}")
    line = reasons.write_progress(
        word,
        cycle=cycle.id,
        boot_id=seen.boot_id,
        step=policy.recipes[cycle.recipe].step_word(cycle.step, cycle.part),
        reboot_try=cycle.reboot_try,
        image=cycle.image,
        wave=cycle.wave,
        prior=cycle.prior,
        cause=cycle.cause,
        loop=cycle.loop,
    )
    return work(state, seen, policy, TakeDown(line), "setting the node DOWN in Slurm", is_firm=True)


def _commands(
    state: State, cycle: Cycle, seen: Observation, policy: Policy, argvs: tuple[Argv, ...], deadline_s: float
) -> Decision:
    keep_going = step_of(cycle, policy).on_failure is OnFailure.CONTINUE
    action = RunCommands(argvs, deadline_s, _token(cycle), keep_going=keep_going)
    hook = "" if cycle.part is Part.MAIN else f" ({cycle.part} hook of {cycle.phase})"
    return work(state, seen, policy, action, f"running {cycle.recipe}'s commands{hook}")


def _stopping(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    if seen.services is None:
        return wait(state, seen, policy, "the services' states could not be read")
    active = [service.name for service in seen.services if service.active]
    if not active and "services" not in seen.busy:
        return reached(state, seen, policy)
    keep_going = step_of(cycle, policy).on_failure is OnFailure.CONTINUE
    return work(state, seen, policy, StopServices(keep_going=keep_going), f"stopping {', '.join(active)}")


def _unmounting(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    if seen.storage is None:
        return wait(state, seen, policy, "the mount table could not be read")
    mounted = [storage for storage in seen.storage if storage.mounted and storage.skipped != cycle.id]
    if not mounted and "storage" not in seen.busy:
        return reached(state, seen, policy)
    waiting = "; ".join(storage.note for storage in mounted if storage.note)
    missing = waiting or f"unmounting {', '.join(storage.name for storage in mounted)}"
    later = policy.recipes[cycle.recipe].steps[cycle.step :]
    # A soft reboot leaves the kernel, and what it has detached, as they are.
    reboots = any(step.kind is StepKind.REBOOT and step.how is not Way.SOFT for step in later)
    return work(state, seen, policy, Unmount(cycle.id, reboots=reboots), missing)


def _running(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    state, cycle = _announce(state, cycle, seen, policy)
    step = step_of(cycle, policy)
    return _commands(state, cycle, seen, policy, step.argv, step.deadline_s or policy.command_deadline_s)


def _announce(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> tuple[State, Cycle]:
    """Record once, before it happens, that the node is now serviced: what dashboards show as an annotation."""
    if cycle.announced:
        return state, cycle
    recipe = policy.recipes[cycle.recipe]
    kind = EventKind.REBOOT if recipe.reboot else EventKind.PHASE_ENTERED
    state = record.note(state, seen, policy, kind, *recipe.starting)
    cycle = replace(cycle, announced=True)
    return replace(state, cycle=cycle), cycle


def _rebooting(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    """Reboot the way that the step says, then by the rungs of the ladder, each told of before it is tried."""
    step = step_of(cycle, policy)
    if has_rebooted(reasons.short_boot(state.boot_id), seen.boot_id, step.how):
        return reached(state, seen, policy)
    state, cycle = _announce(state, cycle, seen, policy)
    if overdue(cycle, seen, policy):
        return hold(state, seen, policy, "the reboot did not happen: the node is still in the same boot")
    # The configuration may have lost rungs since.
    cycle = replace(cycle, rung=min(cycle.rung, len(policy.ladder)), rung_s=cycle.rung_s or seen.now_s)
    action = Reboot(step.how if cycle.rung == 0 else policy.ladder[cycle.rung - 1].way)
    for outcome in seen.outcomes:
        if outcome.action == action:
            cycle = _asked(cycle, seen, policy, action, outcome.error)
    state = replace(state, cycle=cycle)
    attempts, retry_s, trouble = tried(cycle, action)
    failed = attempts >= attempts_of(cycle, policy)
    if cycle.rung < len(policy.ladder):
        following = policy.ladder[cycle.rung]
        if failed or seen.now_s - cycle.rung_s > following.after_s:
            return _climb(state, cycle, seen, policy, f"{trouble or 'the node has not gone down'}")
    elif failed:
        return hold(state, seen, policy, f"{cycle.phase} failed {attempts} times: {trouble}")
    if seen.now_s < retry_s:
        return Decision(state, (), trouble or "waiting for the node to go down")
    return Decision(state, (action,), "rebooting" if cycle.rung == 0 else f"rebooting ({action.way})")


def _asked(cycle: Cycle, seen: Observation, policy: Policy, action: Reboot, error: str) -> Cycle:
    if error:
        return count(cycle, seen, policy, action, error)
    attempts, _, _ = tried(cycle, action)
    asked = count(cycle, seen, policy, action, "")
    return replace(asked, attempts=attempts, retry_s=seen.now_s + REBOOT_AGAIN_S)


def _climb(state: State, cycle: Cycle, seen: Observation, policy: Policy, why: str) -> Decision:
    way = policy.ladder[cycle.rung].way
    message = f"{why}; rebooting by {way} after {seen.now_s - cycle.rung_s:.0f} s"
    # Its time begins when it is tried: it may have to wait until the node is proven empty again.
    cycle = replace(cycle, rung=cycle.rung + 1, rung_s=0.0)
    state = replace(state, cycle=cycle)
    state = record.note(state, seen, policy, EventKind.REBOOT_FORCED, f"Reboot forced: {way}", message)
    return Decision(state, (), message)


def _mounting(state: State, _: Cycle, seen: Observation, policy: Policy) -> Decision:
    if seen.storage is None:
        return wait(state, seen, policy, "the mount table could not be read")
    wrong = [storage for storage in seen.storage if not storage.right]
    if not wrong and "storage" not in seen.busy:
        return reached(state, seen, policy)
    missing = "; ".join(storage.why or f"{storage.name} is not mounted" for storage in wrong)
    return work(state, seen, policy, Mount(), f"mounting: {missing}")


def _starting(state: State, _: Cycle, seen: Observation, policy: Policy) -> Decision:
    if seen.services is None:
        return wait(state, seen, policy, "the services' states could not be read")
    down = [service.name for service in seen.services if not service.active]
    if not down and "services" not in seen.busy:
        return reached(state, seen, policy)
    return work(state, seen, policy, StartServices(), f"starting {', '.join(down)}")


def _checking(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    if seen.storage is None:
        return wait(state, seen, policy, "the mount table could not be read")
    if not all(storage.right for storage in seen.storage):
        return _set_back(state, cycle, seen, policy)
    why = not_passed(seen.health, since_s=cycle.entered_s)
    if why is None:
        return reached(state, seen, policy)
    if overdue(cycle, seen, policy):
        return hold(state, seen, policy, why)
    if seen.now_s < cycle.retry_s:
        return Decision(state, (), why)
    state = replace(state, cycle=replace(cycle, retry_s=seen.now_s + policy.retry_s))
    return Decision(state, (RunChecks(),), why)


def _set_back(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    """Storage that was there is gone again: back to the step that mounts it, but not for ever."""
    steps = policy.recipes[cycle.recipe].steps
    mounts = [number for number, step in enumerate(steps[: cycle.step]) if step.kind is StepKind.MOUNT]
    if not mounts:
        return wait(state, seen, policy, "storage is not mounted as it should be")
    if cycle.setbacks >= policy.max_attempts:
        return hold(state, seen, policy, f"storage was lost {cycle.setbacks + 1} times after it was mounted")
    state = enter_step(state, mounts[-1], steps[mounts[-1]], seen.now_s)
    state = replace(state, cycle=replace(cycle_of(state), setbacks=cycle.setbacks + 1))
    return Decision(state, (), "storage is gone again")


def _resuming(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    if seen.slurm is None or not seen.slurm.fresh:
        return Decision(state, (), f"slurmctld does not answer: {seen.slurm_error}")
    view = seen.slurm.view
    if cycle.prior and "DRAIN" in view.flags and reasons.is_same(view.reason, cycle.prior):
        return end(state, seen, policy, Outcome.DONE, f"given back as it stood before: {cycle.prior}")
    if "DRAIN" not in view.flags and "DOWN" not in view.flags:
        if states.is_in_service(view.flags):
            return end(state, seen, policy, Outcome.DONE, "")
        shown = f"resumed; Slurm still shows {states.text(view.flags)}"
        return hold(state, seen, policy, shown) if overdue(cycle, seen, policy) else Decision(state, (), shown)
    if (why := unproven(seen)) is not None:
        if overdue(cycle, seen, policy):
            return hold(state, seen, policy, why)
        if seen.services and not all(service.active for service in seen.services):
            return work(state, seen, policy, StartServices(), why)
        return Decision(state, (), why)
    action = WriteReason(cycle.prior) if cycle.prior else Resume()
    return work(state, seen, policy, action, "resuming")


def _held(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    if seen.slurm is None or not seen.slurm.fresh:
        return Decision(state, (), cycle.hold)
    reason = reasons.parse(seen.slurm.view.reason, policy.dialect)
    if isinstance(reason, reasons.Hold):
        return Decision(replace(state, cycle=replace(cycle, hold_shown=True)), (), cycle.hold)
    if states.is_foreign_operation(seen.slurm.view.flags):
        return Decision(state, (), cycle.hold)
    # No attempts are counted: a hold that cannot be written yet (slurmctld away) is written when it can be.
    if any(isinstance(outcome.action, WriteReason) for outcome in seen.outcomes):
        cycle = replace(cycle, retry_s=seen.now_s + policy.retry_s)
        state = replace(state, cycle=cycle)
    if seen.now_s < cycle.retry_s:
        return Decision(state, (), cycle.hold)
    return Decision(state, (WriteReason(reasons.write_hold(cycle.hold, cycle.id, cycle.prior)),), cycle.hold)


_PhaseFunction = Callable[[State, Cycle, Observation, Policy], Decision]

_PHASES: Final[Mapping[Phase, _PhaseFunction]] = MappingProxyType({Phase.DRAINING: _draining, Phase.HELD: _held})
"""The phases of a cycle that are no steps of its recipe."""

_STEPS: Final[Mapping[StepKind, _PhaseFunction]] = MappingProxyType(
    {
        StepKind.STOP: _stopping,
        StepKind.UNMOUNT: _unmounting,
        StepKind.RUN: _running,
        StepKind.REBOOT: _rebooting,
        StepKind.MOUNT: _mounting,
        StepKind.START: _starting,
        StepKind.CHECK: _checking,
        StepKind.RESUME: _resuming,
    }
)
