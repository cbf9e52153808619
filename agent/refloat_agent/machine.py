# SPDX-License-Identifier: Apache-2.0
"""The state machine of a cycle: `decide` is pure, total and level-triggered.

Everything that moves a node through a cycle lives here. While in a phase, its function first asks "is my goal met?"
and moves on, else emits the phase's action, again at every look, until the observation says that it is done. Nothing is
emitted on a transition: the process may be killed between saving the new phase and acting on it.

Before anything that could harm a job (`UNSAFE_PHASES`) the node is proven empty by facts read for this very decision.
What happens without a cycle (starting one, adopting one after a boot, health drains) is in `in_service`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from refloat_agent import record
from refloat_agent.actions import (
    Action,
    AskPermit,
    Mount,
    Reboot,
    ReleasePermit,
    Resume,
    RunChecks,
    RunCommands,
    StartServices,
    StopServices,
    TakeDown,
    Unmount,
    WriteReason,
)
from refloat_agent.evidence import ended_by_others, is_up, not_passed, unproven, unsafe
from refloat_agent.observation import ActionOutcome, Observation, SlurmFacts, Wants
from refloat_agent.state import Cycle, Policy, State, enter
from refloat_contract import reasons
from refloat_contract.images import is_image
from refloat_contract.messages import LastCycle
from refloat_contract.words import EventKind, Outcome, Phase, Purpose
from refloat_slurm import states

REBOOT_AGAIN_S: Final = 120.0
"""A reboot that was accepted but has not happened is asked for again after this; asking systemd twice is harmless."""

UNSAFE_PHASES: Final = frozenset({Phase.STOPPING, Phase.UNMOUNTING, Phase.RUNNING, Phase.REBOOTING})


@dataclass(frozen=True, slots=True)
class Decision:
    """The state to save, the actions to perform once it is saved, and the one thing that is being waited for."""

    state: State
    actions: tuple[Action, ...] = ()
    why: str = ""
    again_s: float | None = None
    """When (CLOCK_BOOTTIME) to look again at the latest, if that is sooner than the usual pace."""


def wants(state: State, hint: SlurmFacts | None, policy: Policy) -> Wants:
    """What to look at closely for the next decision of a running cycle, given what Slurm was last seen to show."""
    cycle = cycle_of(state)
    match cycle.phase:
        case Phase.DRAINING:
            drained = hint is not None and states.is_drained(hint.view.flags)
            return Wants(slurm=drained or _doubtful(cycle, hint, policy), jobs=drained, steps=True)
        case Phase.STOPPING | Phase.UNMOUNTING | Phase.RUNNING | Phase.REBOOTING:
            return Wants(slurm=True, jobs=True, steps=True, storage=True, services=True)
        case Phase.MOUNTING | Phase.CHECKING:
            return Wants(slurm=_doubtful(cycle, hint, policy), storage=True)
        case Phase.RESUMING:
            return Wants(slurm=True, storage=True, services=True, registered=True)
        case _:
            return Wants(slurm=_doubtful(cycle, hint, policy) or not cycle.hold_shown)


def _doubtful(cycle: Cycle, hint: SlurmFacts | None, policy: Policy) -> bool:
    if hint is None or (not hint.from_feed and hint.age_s >= policy.poll_s):
        return True
    return ended_by_others(cycle, hint.view, policy) is not None


def decide(state: State, seen: Observation, policy: Policy) -> Decision:
    """The next state and actions of a node that is in a cycle."""
    cycle = cycle_of(state)
    if (why := _unconfigured(cycle, policy)) is not None:
        return end(state, seen, policy, Outcome.CANCELLED, why)
    if seen.slurm is not None and seen.slurm.fresh:
        who = ended_by_others(cycle, seen.slurm.view, policy)
        if who is not None:
            return end(state, seen, policy, Outcome.CANCELLED, who)
    cycle = _stop_the_clock(cycle, seen, policy)
    state = replace(state, cycle=cycle)
    if not policy.acts:
        return Decision(state, (), f"observing only: a cycle stands in {cycle.phase}")
    if any(_has_run(outcome, cycle) for outcome in seen.outcomes):
        # Kept whatever else is seen now: what ran once is not run again because slurmctld was slow this very second.
        cycle = replace(cycle, ran=True)
        state = replace(state, cycle=cycle)
    return _PHASES[cycle.phase](state, cycle, seen, policy)


def _unconfigured(cycle: Cycle, policy: Policy) -> str | None:
    """Why this cycle, begun under another configuration, cannot be gone on with; None while it can."""
    recipe = policy.recipes.get(cycle.recipe)
    if recipe is None:
        return f"the configuration no longer has the recipe {cycle.recipe!r}"
    if cycle.phase is not Phase.HELD and cycle.phase not in recipe.phases:
        return f"the recipe {cycle.recipe!r} no longer has the phase {cycle.phase}"
    return None


_ASKS_SLURM: Final = UNSAFE_PHASES | {Phase.DRAINING, Phase.RESUMING}


def _stop_the_clock(cycle: Cycle, seen: Observation, policy: Policy) -> Cycle:
    """Let no deadline run out on a phase that has to ask Slurm while Slurm cannot be asked."""
    blind = seen.slurm is None or bool(seen.slurm_error) or "UNKNOWN" in seen.slurm.view.flags
    if not policy.acts or (blind and cycle.phase in _ASKS_SLURM):
        return cycle if cycle.paused_s is not None else replace(cycle, paused_s=seen.now_s)
    if cycle.paused_s is None:
        return cycle
    return replace(cycle, paused_s=None, entered_s=cycle.entered_s + max(0.0, seen.now_s - cycle.paused_s))


def _has_run(outcome: ActionOutcome, cycle: Cycle) -> bool:
    return isinstance(outcome.action, RunCommands) and outcome.action.token == cycle.id and not outcome.error


def cycle_of(state: State) -> Cycle:
    """The cycle of a state that has one."""
    if state.cycle is None:
        raise AssertionError("the node is in no cycle: in_service decides for it")
    return state.cycle


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
    state = replace(state, cycle=None, last=last, distrust=False, restore=state.restore or touched, prior=prior)
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
    """Enter the recipe's next phase; its action comes with the next look."""
    cycle = cycle_of(state)
    phases = policy.recipes[cycle.recipe].phases
    following = phases[phases.index(cycle.phase) + 1]
    took = seen.now_s - cycle.entered_s
    state = enter(state, following, seen.now_s)
    message = f"{following} after {cycle.phase} took {took:.1f} s"
    state = record.note(
        state, seen, policy, EventKind.PHASE_ENTERED, f"Entered {following}", message, duration_s=round(took, 3)
    )
    return Decision(state, (), message)


def _draining(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    if (why := unsafe(seen)) is not None:
        if _overdue(cycle, seen, policy):
            return hold(state, seen, policy, f"not drained: {why}")
        return Decision(state, (), why)
    granted, actions, why = permit(seen, policy, Purpose.CYCLE, cycle.id, cycle.recipe, cycle.wave)
    if not granted:
        if _overdue(cycle, seen, policy):
            return hold(state, seen, policy, f"drained, but without leave to go on: {why}")
        return Decision(_note_denial(state, seen, policy, why), actions, why)
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


def permit(
    seen: Observation, policy: Policy, purpose: Purpose, name: str, recipe: str, wave: str
) -> tuple[bool, tuple[Action, ...], str]:
    """Whether the node may leave service now; else what to ask, and what is being waited for."""
    if not policy.has_coordinator or seen.permit.granted == name:
        return True, (), ""
    if seen.permit.coordinator is None:
        return False, (), "waiting to hear whether there is a coordinator"
    if not seen.permit.coordinator:
        if policy.proceed_without_coordinator:
            return True, (), ""
        return False, (), "no coordinator to ask for a permit (without_coordinator = 'wait')"
    ask = AskPermit(name, purpose, recipe, wave)
    if seen.permit.denied == name:
        return False, (ask,), f"permit: {seen.permit.denied_why}"
    return False, (ask,), "permit: asked the coordinator"


def _overdue(cycle: Cycle, seen: Observation, policy: Policy) -> bool:
    deadline_s = policy.deadlines_s.get(cycle.phase, 0.0) if cycle.paused_s is None else 0.0
    return deadline_s > 0 and seen.now_s - cycle.entered_s > deadline_s


def _wait(state: State, cycle: Cycle, seen: Observation, policy: Policy, why: str) -> Decision:
    """Do nothing until this has gone away, but not for ever."""
    if _overdue(cycle, seen, policy):
        return hold(state, seen, policy, f"{cycle.phase} cannot go on: {why}")
    return Decision(state, (), why)


def _work(  # the shape of every phase that acts until its goal is met
    state: State,
    cycle: Cycle,
    seen: Observation,
    policy: Policy,
    action: Action,
    missing: str,
) -> Decision:
    """Emit the action, count its failures, and hold when the deadline or the last attempt has passed."""
    for outcome in seen.outcomes:
        if type(outcome.action) is type(action):
            if outcome.final:
                return hold(state, seen, policy, outcome.error)
            back_off = min(policy.retry_ceiling_s, policy.retry_s * 2**cycle.attempts)
            cycle = replace(
                cycle,
                attempts=cycle.attempts + 1,
                retry_s=seen.now_s + back_off,
                trouble=outcome.error or missing,
            )
    state = replace(state, cycle=cycle)
    trouble = cycle.trouble or missing
    if cycle.attempts >= policy.max_attempts:
        return hold(state, seen, policy, f"{cycle.phase} failed {cycle.attempts} times: {trouble}")
    if _overdue(cycle, seen, policy):
        return hold(state, seen, policy, f"{cycle.phase} did not end within its deadline: {trouble}")
    if seen.now_s < cycle.retry_s:
        return Decision(state, (), f"{trouble}; trying again (attempt {cycle.attempts + 1} of {policy.max_attempts})")
    return Decision(state, (action,), missing)


def _guarded(phase: "_PhaseFunction") -> "_PhaseFunction":
    """A phase that could harm a job: nothing is done while the node is not proven empty.

    Not being able to tell stops the clock; what can be told and does not go away is held in the end.
    """

    def guarded(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
        if (why := unsafe(seen)) is not None:
            return _wait(state, cycle, seen, policy, why)
        return phase(state, cycle, seen, policy)

    return guarded


def _stopping(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    if seen.services is None:
        return _wait(state, cycle, seen, policy, "the services' states could not be read")
    active = [service.name for service in seen.services if service.active]
    if not active and "services" not in seen.busy:
        return advance(state, seen, policy)
    return _work(state, cycle, seen, policy, StopServices(), f"stopping {', '.join(active)}")


def _unmounting(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    if seen.storage is None:
        return _wait(state, cycle, seen, policy, "the mount table could not be read")
    mounted = [storage for storage in seen.storage if storage.mounted and storage.skipped != cycle.id]
    if not mounted and "storage" not in seen.busy:
        return advance(state, seen, policy)
    waiting = "; ".join(storage.note for storage in mounted if storage.note)
    missing = waiting or f"unmounting {', '.join(storage.name for storage in mounted)}"
    action = Unmount(cycle.id, reboots=policy.recipes[cycle.recipe].reboot)
    return _work(state, cycle, seen, policy, action, missing)


def _committed(cycle: Cycle, seen: Observation, policy: Policy) -> bool:
    """Whether Slurm shows the node DOWN, still drained, and with this cycle's progress as its reason."""
    if seen.slurm is None:
        return False
    reason = reasons.parse(seen.slurm.view.reason, policy.dialect)
    ours = isinstance(reason, reasons.Progress) and reason.cycle == cycle.id
    return ours and {"DOWN", "DRAIN"} <= seen.slurm.view.flags


def _take_down(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    word = policy.dialect.word(cycle.trigger)
    if word is None:
        return hold(state, seen, policy, f"the configuration no longer knows the trigger {cycle.trigger!r}")
    line = reasons.write_progress(
        word, cycle=cycle.id, boot_id=seen.boot_id, image=cycle.image, wave=cycle.wave, prior=cycle.prior
    )
    return _work(state, cycle, seen, policy, TakeDown(line), "setting the node DOWN in Slurm")


def _running(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    if cycle.ran:
        return advance(state, seen, policy)
    if policy.recipes[cycle.recipe].commits_in is Phase.RUNNING and not _committed(cycle, seen, policy):
        return _take_down(state, cycle, seen, policy)
    state, cycle = _announce(state, cycle, seen, policy)
    return _work(state, cycle, seen, policy, RunCommands(cycle.recipe, cycle.id), f"running {cycle.recipe}'s commands")


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
    if seen.boot_id != state.boot_id:
        return advance(state, seen, policy)
    if not _committed(cycle, seen, policy):
        return _take_down(state, cycle, seen, policy)
    state, cycle = _announce(state, cycle, seen, policy)
    if _overdue(cycle, seen, policy):
        return hold(state, seen, policy, "the reboot did not happen: the node is still in the same boot")
    failed = next((o.error for o in seen.outcomes if isinstance(o.action, Reboot) and o.error), "")
    if failed:
        return _work(state, cycle, seen, policy, Reboot(), "rebooting")
    if seen.now_s < cycle.retry_s:
        return Decision(state, (), cycle.trouble or "waiting for the node to go down")
    state = replace(state, cycle=replace(cycle, retry_s=seen.now_s + REBOOT_AGAIN_S))
    return Decision(state, (Reboot(),), "rebooting")


def _mounting(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    recipe = policy.recipes[cycle.recipe]
    if recipe.reboot and cycle.image and not is_image(cycle.image, seen.image):
        return hold(state, seen, policy, f"booted image {seen.image or '(none named)'}, wanted {cycle.image}")
    if seen.storage is None:
        return _wait(state, cycle, seen, policy, "the mount table could not be read")
    wrong = [storage for storage in seen.storage if not storage.right]
    if not wrong and "storage" not in seen.busy:
        return advance(state, seen, policy)
    missing = "; ".join(storage.why or f"{storage.name} is not mounted" for storage in wrong)
    return _work(state, cycle, seen, policy, Mount(), f"mounting: {missing}")


def _checking(state: State, cycle: Cycle, seen: Observation, policy: Policy) -> Decision:
    if seen.storage is None:
        return _wait(state, cycle, seen, policy, "the mount table could not be read")
    if not all(storage.right for storage in seen.storage):
        if cycle.setbacks >= policy.max_attempts:
            return hold(state, seen, policy, f"storage was lost {cycle.setbacks + 1} times after it was mounted")
        state = enter(state, Phase.MOUNTING, seen.now_s)
        state = replace(state, cycle=replace(cycle_of(state), setbacks=cycle.setbacks + 1))
        return Decision(state, (), "storage is gone again")
    why = not_passed(seen.health, since_s=cycle.entered_s)
    if why is None:
        return advance(state, seen, policy)
    if _overdue(cycle, seen, policy):
        return hold(state, seen, policy, why)
    if seen.now_s < cycle.retry_s:
        return Decision(state, (), why)
    state = replace(state, cycle=replace(cycle, retry_s=seen.now_s + policy.retry_s))
    return Decision(state, (RunChecks(),), why)


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
        return hold(state, seen, policy, shown) if _overdue(cycle, seen, policy) else Decision(state, (), shown)
    if (why := unproven(seen)) is not None:
        if _overdue(cycle, seen, policy):
            return hold(state, seen, policy, why)
        start = (StartServices(),) if seen.services and not all(s.active for s in seen.services) else ()
        return Decision(state, start, why)
    action = WriteReason(cycle.prior) if cycle.prior else Resume()
    return _work(state, cycle, seen, policy, action, "resuming")


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
    return Decision(state, (WriteReason(reasons.write_hold(cycle.hold, cycle.id)),), cycle.hold)


_PhaseFunction = Callable[[State, Cycle, Observation, Policy], Decision]

_PHASES: Final[Mapping[Phase, _PhaseFunction]] = MappingProxyType(
    {
        Phase.DRAINING: _draining,
        Phase.STOPPING: _guarded(_stopping),
        Phase.UNMOUNTING: _guarded(_unmounting),
        Phase.RUNNING: _guarded(_running),
        Phase.REBOOTING: _guarded(_rebooting),
        Phase.MOUNTING: _mounting,
        Phase.CHECKING: _checking,
        Phase.RESUMING: _resuming,
        Phase.HELD: _held,
    }
)
