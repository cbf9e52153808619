# SPDX-License-Identifier: Apache-2.0
"""What the facts prove, and what they do not: pure judgements that answer with the one sentence why not, or None.

Whatever cannot be told is not proven. `machine` and `in_service` act on these and on nothing else.
"""

import re
from typing import Final

from refloat_agent.observation import HealthFacts, Observation
from refloat_agent.recipes import RETURN, Part, Way
from refloat_agent.state import Cycle, Policy
from refloat_contract import reasons
from refloat_contract.words import Phase, Status, Verdict
from refloat_slurm import states
from refloat_slurm.gateway import NodeView

_STEP_TITLE: Final = re.compile(r"\[(\d+)")


def ended_by_others(cycle: Cycle, view: NodeView, policy: Policy) -> str | None:
    """Why the cycle is no longer ours to run, judged by what Slurm shows; None while it is."""
    if "DRAIN" not in view.flags:
        return _without_drain(cycle, view)
    gives_back = cycle.phase is Phase.RESUMING and cycle.part is Part.MAIN and bool(cycle.prior)
    if gives_back and reasons.is_same(view.reason, cycle.prior):
        return None
    by = f" by {view.reason_user}" if view.reason_user else ""
    match reasons.parse(view.reason, policy.dialect):
        case reasons.Trigger(word, image, wave):
            same = (word.trigger, image, wave) == (cycle.trigger, cycle.image, cycle.wave)
            if same and _trigger_still_stands(cycle, policy):
                return None
            return f"the node was asked for a cycle anew{by}: {view.reason}"
        case reasons.Progress(word, cycle_id) if word.trigger == cycle.trigger and cycle_id == cycle.id:
            return None
        case reasons.Progress(word, "") if word.trigger == cycle.trigger and _may_be_bare(cycle):
            return None
        case reasons.Hold(_, cycle_id) if cycle.phase is Phase.HELD and cycle_id == cycle.id:
            return None
        case reasons.Release(sentence, cycle_id):
            is_answered = cycle.recipe == RETURN.name and cycle_id in {"", cycle.id} and not cycle.hold_shown
            return None if is_answered else f"called off{by}: {sentence}"
        case _:
            return f"the reason was changed{by} to {view.reason!r}"


_BARE_PHASES: Final = frozenset({Phase.MOUNTING, Phase.STARTING, Phase.CHECKING, Phase.RESUMING, Phase.HELD})


def _may_be_bare(cycle: Cycle) -> bool:
    """Whether this cycle may have been adopted from the bare word of the old script, which is only on its way up.

    In any earlier phase, and after our hold was shown, that word says that the old script is at work: not ours.
    """
    return cycle.phase in _BARE_PHASES and not cycle.hold_shown


def _without_drain(cycle: Cycle, view: NodeView) -> str | None:
    if cycle.phase is Phase.HELD and cycle.undrained and not cycle.hold_shown:
        return "the node came back to service" if states.is_in_service(view.flags) else None
    if cycle.phase is not Phase.RESUMING or cycle.part is not Part.MAIN:
        return "the node was resumed in Slurm"
    ours = view.reason.startswith("Node unexpectedly rebooted") or cycle.id in view.reason
    if "DOWN" in view.flags and not ours:
        return f"the node was set DOWN: {view.reason}"
    return None


def _trigger_still_stands(cycle: Cycle, policy: Policy) -> bool:
    """Whether Slurm may still show the trigger: until our progress (or hold) has replaced it."""
    if cycle.phase is Phase.HELD:
        return not cycle.hold_shown
    return cycle.step < 0 or cycle.step <= policy.recipes[cycle.recipe].commits_at


def has_rebooted(before: str, boot_id: str, way: Way) -> bool:
    """Whether this is another boot than the one whose short id is ``before``, by the proof that this way asks for.

    The kernel's boot id must differ; for a soft reboot, which leaves the kernel running, systemd's count of them may.
    """
    now = reasons.short_boot(boot_id)
    if way is Way.SOFT:
        return now != before
    return now.partition(".")[0] != before.partition(".")[0]


def unsafe(seen: Observation) -> str | None:
    """Why nothing may be done to this node now: it is not proven empty. None only when every proof was read afresh."""
    if seen.slurm is None:
        return f"slurmctld does not answer{_because(seen)}"
    flags = seen.slurm.view.flags
    if states.is_foreign_operation(flags):
        return f"Slurm itself is rebooting or powering the node ({states.text(flags)}); standing back"
    if unknown := states.unknown_flags(flags):
        return f"Slurm shows {'+'.join(sorted(unknown))}, which this release does not know"
    if not states.is_drained(flags):
        return _busy(seen, flags)
    if not seen.slurm.fresh:
        return f"drained by the last view; waiting for slurmctld to confirm it{_because(seen)}"
    if seen.jobs is None:
        return f"the node's jobs could not be listed{_because(seen)}"
    if seen.jobs:
        job = seen.jobs[0]
        return f"job {job.id} of {job.user} is {job.state} on the node"
    if seen.steps is None:
        return "the node's processes could not be listed"
    if seen.steps:
        return f"a job step still runs: {seen.steps[0].title} (pid {seen.steps[0].pid})"
    return None


def _because(seen: Observation) -> str:
    return f": {seen.slurm_error}" if seen.slurm_error else ""


def _busy(seen: Observation, flags: frozenset[str]) -> str:
    if not seen.steps:
        return f"waiting for the node to be empty ({states.text(flags)})"
    # A step's title names its job: "slurmstepd: [4711.batch]" (slurmstepd sets it with setproctitle).
    jobs = sorted({found[1] for step in seen.steps if (found := _STEP_TITLE.search(step.title))}, key=int)
    if not jobs:
        return f"waiting for {seen.steps[0].title} (pid {seen.steps[0].pid}) to end"
    more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
    return f"waiting for job {jobs[0]}{more} to end"


def is_up(seen: Observation) -> bool:
    """Whether all storage is mounted rightly and all services are active; unknown is no."""
    if seen.storage is None or seen.services is None:
        return False
    return all(storage.right for storage in seen.storage) and all(service.active for service in seen.services)


def not_passed(health: HealthFacts, *, since_s: float) -> str | None:
    """Why the checks do not let the node back; None when every one passed at or after ``since_s``."""
    if health.oldest_s is None or health.oldest_s < since_s:
        return "waiting for every check to have run"
    if health.raw_failing:
        first = health.raw_failing[0]
        more = f" (and {len(health.raw_failing) - 1} more)" if len(health.raw_failing) > 1 else ""
        return f"check {first.check} {Status.FAILED}: {first.message}{more}"
    if health.unknown:
        return f"check {health.unknown[0].check} {Status.UNKNOWN}: {health.unknown[0].message}"
    return None if health.verdict is Verdict.HEALTHY else "waiting for the checks' verdict"


def unproven(seen: Observation) -> str | None:
    """Why the node may not go back to service yet; None when all that a resume needs is proven."""
    if (wrong := not_mounted(seen)) is not None:
        return wrong
    if seen.services is None or not all(service.active for service in seen.services):
        return "starting services"
    if seen.slurm is not None and (why := not_resumable(seen.slurm.view)) is not None:
        return why
    if seen.health.raw_failing:
        return f"check {seen.health.raw_failing[0].check} fails: {seen.health.raw_failing[0].message}"
    if not seen.registered:
        return "waiting for slurmd to register this boot"
    return None


def not_mounted(seen: Observation) -> str | None:
    """Which storage is not proven to be mounted as it should be; None when all of it is."""
    if seen.storage is None:
        return "the mount table could not be read"
    wrong = [storage.why or f"{storage.name} is not mounted" for storage in seen.storage if not storage.right]
    return f"storage is not mounted as it should be: {'; '.join(wrong)}" if wrong else None


def not_resumable(view: NodeView) -> str | None:
    """Why a node that Slurm shows like this had better not be resumed now."""
    if states.is_foreign_operation(view.flags):
        return f"Slurm itself is rebooting or powering the node ({states.text(view.flags)}); standing back"
    if unknown := states.unknown_flags(view.flags):
        return f"Slurm shows {'+'.join(sorted(unknown))}, which this release does not know"
    # For some seconds after its start slurmctld shows UNKNOWN and refuses RESUME.
    return None if states.has_known_base(view.flags) else f"Slurm shows {states.text(view.flags)}"
