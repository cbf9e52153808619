# SPDX-License-Identifier: Apache-2.0
"""Whether slurmd may start in this boot: what the boot gate waits for, and what happens when that does not come. Pure.

The gate (`refloat gate`, ordered before slurmd) asks until it is told to open. Past its deadline the node is drained
first, with the reason, for a node without DRAIN takes jobs as soon as its slurmd registers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from refloat_agent.observation import GateFacts, HealthFacts, Observation, StorageFacts
from refloat_agent.state import State
from refloat_contract.messages import Failure
from refloat_contract.words import Verdict
from refloat_slurm.gateway import NodeView

CHECK: Final = "boot"
"""Under which name the reason and the record tell of storage that a boot did not bring."""
DRAIN_S: Final = 60.0
"""How long past its deadline the gate waits for the drain: slurmd is not held back for a slurmctld that is away."""
_SLURMS_OWN: Final = ("not responding", "node unexpectedly rebooted")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says."""

    deadline_s: float
    acts: bool
    drains: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the gate opens, and the sentence to say."""

    opens: bool
    why: str
    overdue: bool = False
    """It is past its deadline: the node is to be drained for storage that is not there."""


def not_mounted(storage: Sequence[StorageFacts] | None) -> str:
    """Which storage is not mounted as it should be; empty when all is, or when that could not be told."""
    return "; ".join(each.why or f"{each.name} is not mounted" for each in storage or () if not each.right)


def lacks(storage: Sequence[StorageFacts] | None, waiting: Sequence[Failure]) -> str:
    """What the gate waits for; empty when nothing. ``waiting``: the boot's checks that have not passed."""
    unread = "the mount table could not be read" if storage is None else ""
    told = [f"{each.check}: {each.message}" for each in waiting]
    return "; ".join(filter(None, (unread, not_mounted(storage), *told)))


def answer(
    lacking: str, waited_s: float, rules: Rules, view: NodeView | None, *, drainable: bool, trouble: str
) -> Answer:
    """What to tell a gate that has waited so long.

    ``drainable``: something is proven to be wrong; what could not be looked at drains nobody. ``trouble``: what keeps
    the node from being drained.
    """
    if not lacking:
        return Answer(opens=True, why="storage is mounted and the boot's checks have passed")
    if not rules.acts:
        return Answer(opens=True, why=f"observing only, so slurmd is not held back: {lacking}")
    if waited_s < rules.deadline_s:
        return Answer(opens=False, why=f"waiting: {lacking}")
    late = f"after {rules.deadline_s:g} s: {lacking}"
    if view is not None and "DRAIN" in view.flags:
        return Answer(opens=True, overdue=True, why=f"{late}; the node is drained: {view.reason}")
    if not rules.drains:
        return Answer(opens=True, why=f"{late}; the node is NOT drained: health.drain is off")
    if not drainable:
        return Answer(opens=True, why=f"{late}; the node is NOT drained: what cannot be looked at drains nobody")
    if waited_s < rules.deadline_s + DRAIN_S:
        return Answer(opens=False, overdue=True, why=f"{late}; draining the node first ({trouble or 'under way'})")
    return Answer(
        opens=True,
        overdue=True,
        why=f"{late}; the node is NOT drained yet, which follows as soon as it can be ({trouble or 'not confirmed'})",
    )


def judged(state: State, seen: Observation) -> Observation:
    """The observation with one more failure, where the gate's deadline has passed and storage is not there.

    It ends with the storage's return, like any failure; a node in a cycle has the cycle to see to its storage.
    """
    wrong = not_mounted(seen.storage)
    if state.cycle is not None or not wrong or not (state.boot_failed or seen.gate.overdue):
        return seen
    return replace(seen, health=_with(seen.health, Failure(check=CHECK, message=wrong)))


def _with(health: HealthFacts, failure: Failure) -> HealthFacts:
    return replace(
        health,
        verdict=Verdict.UNHEALTHY,
        failing=(failure, *health.failing),
        raw_failing=(failure, *health.raw_failing),
    )


def noted(state: State, seen: Observation) -> State:
    """The state, which remembers such a failure until the storage is there: the gate asks only once in a boot."""
    if seen.storage is None:
        return state
    failed = any(failure.check == CHECK for failure in seen.health.failing)
    return state if failed == state.boot_failed else replace(state, boot_failed=failed)


def ends_by_registering(gate: GateFacts, view: NodeView) -> bool:
    """Whether this DOWN may be over, and jobs come, once the slurmd that the gate holds back has registered.

    What somebody set DOWN with a reason of his own is left to him.
    """
    own = not view.reason or view.reason.lower().startswith(_SLURMS_OWN)
    return gate.holds and own and "FAIL" not in view.flags
