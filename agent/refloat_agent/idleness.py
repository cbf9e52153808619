# SPDX-License-Identifier: Apache-2.0
"""Whether a node is in no job's hands, so that a check that would disturb one may run: pure judgements.

Each answers with the one sentence why not, or None. Whatever cannot be told is not idle.
"""

from collections.abc import Sequence

from refloat_agent.observation import StepProcess
from refloat_slurm import states
from refloat_slurm.gateway import Job, NodeView


def not_idle_by_flags(view: NodeView) -> str | None:
    """Why the node is not idle by its flags: in service or drained, with nothing on it. Suspended jobs do not show."""
    if states.is_foreign_operation(view.flags) or states.unknown_flags(view.flags):
        return f"Slurm shows {states.text(view.flags)}"
    empty = states.is_drained(view.flags) or ("IDLE" in view.flags and not states.is_busy(view.flags))
    return None if empty else f"the node is not idle ({states.text(view.flags)})"


def not_idle(view: NodeView, jobs: Sequence[Job], steps: Sequence[StepProcess]) -> str | None:
    """Why the node may be in a job's hands, by facts that were all read afresh; None when it is proven idle."""
    if (why := not_idle_by_flags(view)) is not None:
        return why
    if jobs:
        return f"job {jobs[0].id} of {jobs[0].user} is {jobs[0].state} on the node"
    return f"a job step runs: {steps[0].title} (pid {steps[0].pid})" if steps else None
