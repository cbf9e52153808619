# SPDX-License-Identifier: Apache-2.0
"""Turn what the machine decides into events of the record, with ids that are unique and ordered within a boot.

Events wait in the state's outbox and are saved with it, in one write: a crash between deciding and telling loses
nothing, and telling twice is seen by the id.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from refloat_agent.observation import Observation
from refloat_agent.state import Policy, State
from refloat_contract.messages import Event
from refloat_contract.reasons import short_boot
from refloat_contract.words import EventKind, Phase


def note(
    state: State,
    seen: Observation,
    policy: Policy,
    kind: EventKind,
    title: str,
    message: str,
    *,
    duration_s: float | None = None,
    check: str = "",
    measures: Mapping[str, float] = MappingProxyType({}),
) -> State:
    """The state with one more event to tell."""
    cycle = state.cycle
    recipe = policy.recipes.get(cycle.recipe) if cycle else None
    # InfluxDB takes two points of one series and time for the same point: no two events share a nanosecond.
    at_ns = max(seen.wall_ns, state.last_ns + 1)
    event = Event(
        id=f"{policy.node}-{short_boot(state.boot_id)}-{state.nonce}-{state.seq + 1:06d}",
        node=policy.node,
        at_ns=at_ns,
        kind=kind,
        title=title,
        message=message,
        tags=recipe.tags if recipe else "slurm",
        phase=cycle.phase if cycle else Phase.IN_SERVICE,
        recipe=cycle.recipe if cycle else "",
        cycle=cycle.id if cycle else "",
        wave=cycle.wave if cycle else "",
        check=check,
        duration_s=duration_s,
        measures={name: value for name, value in measures.items() if math.isfinite(value)},
        boot_id=state.boot_id,
    )
    return replace(state, seq=state.seq + 1, last_ns=at_ns, outbox=(*state.outbox, event))
