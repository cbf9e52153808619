# SPDX-License-Identifier: Apache-2.0
"""The moves of a cycle: work at a goal, wait, go on, give a step up, hold, end. Pure; `machine` says when which."""

from dataclasses import dataclass, replace

from refloat_agent import record
from refloat_agent.actions import Action, Reboot, ReleasePermit, RunCommands
from refloat_agent.evidence import is_up
from refloat_agent.observation import Observation
from refloat_agent.recipes import RETURN, OnFailure, Part, Step
from refloat_agent.state import Cycle, Policy, State, enter, enter_part, enter_step
from refloat_contract import reasons
from refloat_contract.messages import LastCycle
from refloat_contract.words import EventKind, Outcome, Phase


@dataclass(frozen=True, slots=True)
class Decision:
    """The state to save, the actions to perform once it is saved, and the one thing that is being waited for."""

    state: State
    actions: tuple[Action, ...] = ()
    why: str = ""
    again_s: float | None = None
    """When (CLOCK_BOOTTIME) to look again at the latest, if that is sooner than the usual pace."""


def cycle_of(state: State) -> Cycle:
    """The cycle of a state that has one."""
    if state.cycle is None:
        raise AssertionError("the node is in no cycle: in_service decides for it")
    return state.cycle


def step_of(cycle: Cycle, policy: Policy) -> Step:
    """The step that a cycle is at."""
    return policy.recipes[cycle.recipe].steps[cycle.step]


def overdue(cycle: Cycle, seen: Observation, policy: Policy) -> bool:
    """Whether the deadline of the phase, or the step's own, has passed."""
    deadline_s = policy.deadlines_s.get(cycle.phase, 0.0)
    if cycle.step >= 0:
        deadline_s = step_of(cycle, policy).deadline_s or deadline_s
    return cycle.paused_s is None and deadline_s > 0 and seen.now_s - cycle.entered_s > deadline_s


def end(state: State, seen: Observation, policy: Policy, outcome: Outcome, why: str) -> Decision:
    """Leave the cycle: the record gets the end, the permit is given back, and what was taken down is put back."""
    cycle = cycle_of(state)
    recipe = policy.recipes.get(cycle.recipe)
    if outcome is Outcome.DONE and recipe is not None:
        title, message = recipe.ending
        kind = EventKind.RESUMED
    else:
        title, message, kind = "Cycle cancelled", why, EventKind.CANCELLED
    state = record.note(state, seen, policy, kind, title, message, duration_s=_duration(cycle, seen))
    last = LastCycle(
        id=cycle.id,
        outcome=outcome,
        wave=cycle.wave,
        image=cycle.image,
        boot_id=seen.boot_id,
        ended_at=seen.wall_ns / 1e9,
        why=why,
    )
    # An administrator may have resumed the node before all was up: then it is brought up now.
    touched = cycle.phase is not Phase.DRAINING and (outcome is Outcome.CANCELLED or not is_up(seen))
    # A drain that stood before ours stands on beneath the next trigger; `in_service` forgets it once DRAIN is gone.
    prior = cycle.prior if outcome is Outcome.CANCELLED else ""
    if cycle.recipe == RETURN.name and state.last is not None and state.last.id == cycle.id:
        last = state.last  # how the cycle ended that this was the way back of
    restore = touched or (state.restore and outcome is Outcome.CANCELLED)
    state = replace(state, cycle=None, last=last, distrust=False, restore=restore, prior=prior)
    return Decision(state, (ReleasePermit(cycle.id),), why)


def _duration(cycle: Cycle, seen: Observation) -> float:
    return max(0.0, round(seen.wall_ns / 1e9 - cycle.started_at, 3)) if cycle.started_at else 0.0


def hold(state: State, seen: Observation, policy: Policy, sentence: str) -> Decision:
    """Stop the cycle and wait for a human: in the reason, in `refloat why`, in the record."""
    cycle = cycle_of(state)
    sentence = reasons.one_line(sentence)
    undrained = cycle.phase is Phase.RESUMING and seen.slurm is not None and "DRAIN" not in seen.slurm.view.flags
    held = replace(cycle, hold=sentence, undrained=undrained)
    state = enter(replace(state, cycle=held), Phase.HELD, seen.now_s)
    return Decision(record.note(state, seen, policy, EventKind.HOLD, "Node held", sentence), (), sentence)


def advance(state: State, seen: Observation, policy: Policy) -> Decision:
    """Enter the recipe's next step; its action comes with the next look."""
    cycle = cycle_of(state)
    following = policy.recipes[cycle.recipe].steps[cycle.step + 1]
    took = seen.now_s - cycle.entered_s
    state = enter_step(state, cycle.step + 1, following, seen.now_s)
    message = f"{following.phase} after {cycle.phase} took {took:.1f} s"
    took = round(took, 3)
    state = record.note(
        state,
        seen,
        policy,
        EventKind.PHASE_ENTERED,
        f"Entered {following.phase}",
        message,
        duration_s=took,
        measures={f"{cycle.phase.lower()}_s": took},
    )
    return Decision(state, (), message)


def reached(state: State, seen: Observation, policy: Policy) -> Decision:
    """The goal of this part of the step is met: on to its next part, or to the next step."""
    cycle = cycle_of(state)
    if cycle.part is Part.PRE:
        return Decision(enter_part(state, Part.MAIN, seen.now_s), (), f"{cycle.phase}: the pre hook has run")
    if cycle.part is Part.MAIN and step_of(cycle, policy).post:
        return Decision(enter_part(state, Part.POST, seen.now_s), (), f"{cycle.phase}: the post hook comes next")
    return advance(state, seen, policy)


def wait(state: State, seen: Observation, policy: Policy, why: str) -> Decision:
    """Do nothing until this has gone away, but not for ever."""
    cycle = cycle_of(state)
    if overdue(cycle, seen, policy):
        return hold(state, seen, policy, f"{cycle.phase} cannot go on: {why}")
    return Decision(state, (), why)


def work(
    state: State, seen: Observation, policy: Policy, action: Action, missing: str, *, is_firm: bool = False
) -> Decision:
    """Emit the action, count its failures, and give the step up when the deadline or the last attempt has passed.

    What is firm is never given up but held: it is not the step itself, but what has to go before it.
    """
    for outcome in seen.outcomes:
        if _key(outcome.action) == _key(action):
            if outcome.final:
                return hold(state, seen, policy, outcome.error)
            state = replace(state, cycle=count(cycle_of(state), seen, policy, action, outcome.error or missing))
    cycle = cycle_of(state)
    attempts, retry_s, trouble = tried(cycle, action)
    trouble = trouble or missing
    give = hold if is_firm else give_up
    limit = attempts_of(cycle, policy, is_firm=is_firm)
    if attempts >= limit:
        return give(state, seen, policy, f"{cycle.phase} failed {_times(attempts)}: {trouble}")
    if overdue(cycle, seen, policy):
        return give(state, seen, policy, f"{cycle.phase} did not end within its deadline: {trouble}")
    if seen.now_s < retry_s:
        return Decision(state, (), f"{trouble}; trying again (attempt {attempts + 1} of {limit})")
    return Decision(state, (action,), missing)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def attempts_of(cycle: Cycle, policy: Policy, *, is_firm: bool = False) -> int:
    """How often the step's action may be tried."""
    retries = None if is_firm or cycle.step < 0 else step_of(cycle, policy).retries
    return policy.max_attempts if retries is None else retries + 1


def count(cycle: Cycle, seen: Observation, policy: Policy, action: Action, trouble: str) -> Cycle:
    """The cycle with one more attempt at an action behind it, and the back-off before the next."""
    attempts, _, _ = tried(cycle, action)
    back_off_s = min(policy.retry_ceiling_s, policy.retry_s * 2**attempts)
    return replace(cycle, trying=_key(action), attempts=attempts + 1, retry_s=seen.now_s + back_off_s, trouble=trouble)


def tried(cycle: Cycle, action: Action) -> tuple[int, float, str]:
    """How often this action was tried in this step, when it may be tried again, and what went wrong last."""
    if cycle.trying != _key(action):
        return 0, 0.0, ""
    return cycle.attempts, cycle.retry_s, cycle.trouble


def _key(action: Action) -> str:
    """What attempts are counted by: two commands of one step are two things, the wording of a reason is none."""
    detail = {RunCommands: "token", Reboot: "way"}.get(type(action))
    return f"{type(action).__name__} {getattr(action, detail)}" if detail else type(action).__name__


def give_up(state: State, seen: Observation, policy: Policy, sentence: str) -> Decision:
    """The step failed for good: hold the node, or go on without it where the recipe says so."""
    cycle = cycle_of(state)
    step = step_of(cycle, policy)
    if step.on_failure is OnFailure.HOLD:
        return hold(state, seen, policy, sentence)
    if {"commands", "services"} & seen.busy:
        # The next step must not begin beneath what this one has started; its own deadline ends it.
        return Decision(state, (), f"{sentence}; waiting for it to end")
    title = "Step skipped" if step.on_failure is OnFailure.SKIP else "Step failed"
    state = record.note(state, seen, policy, EventKind.STEP_FAILED, title, sentence)
    if step.on_failure is OnFailure.SKIP:
        return advance(state, seen, policy)
    return reached(state, seen, policy)
