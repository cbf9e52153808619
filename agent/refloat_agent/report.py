# SPDX-License-Identifier: Apache-2.0
"""What the agent says of its node: the report for the coordinator, `refloat status` and `refloat why`; pure."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

from refloat_agent.config import AgentSettings
from refloat_agent.moves import Decision
from refloat_agent.observation import Observation
from refloat_agent.recipes import Recipe
from refloat_agent.state import Cycle
from refloat_contract.messages import CycleInfo, NodeReport
from refloat_contract.words import Phase

VERSION: Final = version("refloat")


def _left(cycle: Cycle, recipes: Mapping[str, Recipe]) -> tuple[str, ...]:
    """The steps after the one that the cycle is at; none while it is held."""
    recipe = recipes.get(cycle.recipe)
    if recipe is None or cycle.phase is Phase.HELD:
        return ()
    return tuple(str(step.kind) for step in recipe.steps[cycle.step + 1 :])


def report_of(
    decision: Decision, seen: Observation, settings: AgentSettings, version: str, recipes: Mapping[str, Recipe]
) -> NodeReport:
    """The node's status, as the last decision left it."""
    state, cycle = decision.state, decision.state.cycle
    now = seen.wall_ns / 1e9
    return NodeReport(
        at=round(now, 3),
        boot_id=seen.boot_id,
        phase=cycle.phase if cycle else Phase.IN_SERVICE,
        # Rounded: the same moment, computed twice from two clocks, must not look like news.
        since=round(now - (seen.now_s - cycle.entered_s)) if cycle else 0.0,
        why=decision.why,
        verdict=seen.health.verdict,
        failing=seen.health.failing,
        unknown=seen.health.unknown,
        cycle=CycleInfo(
            id=cycle.id,
            recipe=cycle.recipe,
            wave=cycle.wave,
            image=cycle.image,
            started_at=cycle.started_at,
            left=_left(cycle, recipes),
        )
        if cycle
        else None,
        last_cycle=state.last,
        image=seen.image,
        version=version,
        observe_only=settings.mode == "observe",
    )
