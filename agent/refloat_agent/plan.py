# SPDX-License-Identifier: Apache-2.0
"""The dry run: what a recipe would do on this node now, step by step, and what it would wait for first. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from refloat_agent.moves import attempts_of
from refloat_agent.observation import Observation
from refloat_agent.recipes import Argv, OnFailure, Step, StepKind, Way
from refloat_agent.state import Cycle, Policy
from refloat_contract import reasons
from refloat_slurm import states


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step: its number from 1, what it would do, and within which limits."""

    number: int
    step: str
    does: tuple[str, ...]
    limits: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe on this node as it is now: how to ask for it, what it would wait for first, and its steps."""

    recipe: str
    trigger: str
    waits: tuple[str, ...]
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class StorageMeans:
    """One configured storage: in words how it is mounted and unmounted, who uses it now, and what that means."""

    name: str
    mount: str
    unmount: str
    busy: str
    users: str = ""


@dataclass(frozen=True, slots=True)
class Means:
    """What the steps would work with."""

    storage: Sequence[StorageMeans] = ()
    checks: Sequence[str] = ()
    reboot_command: Argv = ("systemctl", "reboot")


def plan(name: str, seen: Observation, policy: Policy, means: Means) -> Plan:
    """What this recipe, which the policy has, would do on a node that looks like this."""
    word = policy.dialect.word_for_recipe(name)
    steps = tuple(
        PlannedStep(number, str(step.kind), _does(step, seen, policy, means), _limits(name, number, policy))
        for number, step in enumerate(policy.recipes[name].steps, start=1)
    )
    return Plan(name, word.trigger if word else "", tuple(_waits(seen, policy)), steps)


def _waits(seen: Observation, policy: Policy) -> list[str]:
    found = [] if policy.acts else ["mode = 'observe': nothing of this would be done"]
    if seen.slurm is None:
        found.append(f"slurmctld does not answer: {seen.slurm_error}")
    else:
        found += _stands(seen, policy)
    found += [f"job {job.id} of {job.user} is {job.state} on the node" for job in seen.jobs or ()]
    if seen.jobs is None:
        found.append("the node's jobs could not be listed")
    if seen.steps is None:
        found.append("the node's processes could not be listed")
    found += [f"{step.title} (pid {step.pid})" for step in seen.steps or ()]
    return found + _permit(seen, policy)


def _stands(seen: Observation, policy: Policy) -> list[str]:
    if seen.slurm is None:
        return []
    view, found = seen.slurm.view, list[str]()
    if states.is_foreign_operation(view.flags):
        found.append(f"Slurm itself is rebooting or powering the node ({states.text(view.flags)})")
    if unknown := states.unknown_flags(view.flags):
        found.append(f"Slurm shows {'+'.join(sorted(unknown))}, which this release does not know")
    if "DRAIN" in view.flags and isinstance(reasons.parse(view.reason, policy.dialect), reasons.Foreign):
        found.append(f"drained already: {view.reason}; this drain is given back at the end, the node not resumed")
    return found


def _permit(seen: Observation, policy: Policy) -> list[str]:
    if not policy.has_coordinator:
        return []
    if seen.permit.coordinator is None:
        return ["to hear whether there is a coordinator"]
    if seen.permit.coordinator:
        return ["a permit of the coordinator"]
    return [] if policy.proceed_without_coordinator else ["a coordinator to ask for a permit (without_coordinator)"]


def _does(step: Step, seen: Observation, policy: Policy, means: Means) -> tuple[str, ...]:
    lines = [f"pre hook: {' '.join(argv)}" for argv in step.pre]
    lines += _main(step, seen, policy, means)
    return (*lines, *(f"post hook: {' '.join(argv)}" for argv in step.post))


def _main(step: Step, seen: Observation, policy: Policy, means: Means) -> list[str]:
    match step.kind:
        case StepKind.STOP | StepKind.START:
            return _services(step.kind, seen)
        case StepKind.UNMOUNT | StepKind.MOUNT:
            return _storage(step.kind, seen, means)
        case StepKind.RUN:
            return [" ".join(argv) for argv in step.argv]
        case StepKind.REBOOT:
            return _reboot(step, policy, means)
        case StepKind.CHECK:
            return [f"{len(means.checks)} checks: {', '.join(means.checks)}"] if means.checks else ["no checks"]
        case StepKind.RESUME:
            return ["state=resume, once storage, services, checks and slurmd's registration are proven"]


def _services(kind: StepKind, seen: Observation) -> list[str]:
    if seen.services is None:
        return ["the services' states could not be read"]
    if kind is StepKind.START:
        return [f"start what is not active of: {', '.join(one.name for one in reversed(seen.services)) or 'nothing'}"]
    return [f"systemctl stop {one.name}" for one in seen.services if one.active] or ["nothing is active"]


def _storage(kind: StepKind, seen: Observation, means: Means) -> list[str]:
    if seen.storage is None:
        return ["the mount table could not be read"]
    if kind is StepKind.MOUNT:
        return [f"{one.name}: {one.mount}" for one in means.storage] or ["no storage is configured"]
    mounted = {one.name for one in seen.storage if one.mounted}
    lines = [f"{one.name}: {one.unmount}{_used(one)}" for one in reversed(means.storage) if one.name in mounted]
    return lines or ["nothing is mounted"]


def _used(one: StorageMeans) -> str:
    return f"; used by {one.users} (busy = '{one.busy}')" if one.users else ""


def _reboot(step: Step, policy: Policy, means: Means) -> list[str]:
    first = " ".join(means.reboot_command) if step.how is Way.SYSTEMD else f"systemctl {step.how}"
    return [first, *(f"after {rung.after_s:g} s more: {rung.way}" for rung in policy.ladder)]


def _limits(name: str, number: int, policy: Policy) -> str:
    step = policy.recipes[name].steps[number - 1]
    deadline_s = step.deadline_s or policy.deadlines_s.get(step.phase, 0.0)
    cycle = Cycle("", name, "", step.phase, 0.0, 0.0, step=number - 1)
    attempts = attempts_of(cycle, policy)
    limits = [f"{deadline_s:g} s" if deadline_s else "no deadline", f"{attempts} attempt{'s' if attempts > 1 else ''}"]
    return ", ".join([*limits, f"then {step.on_failure}" if step.on_failure is not OnFailure.HOLD else "then held"])
