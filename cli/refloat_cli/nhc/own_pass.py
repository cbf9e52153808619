# SPDX-License-Identifier: Apache-2.0
"""A pass of the `nhc` command's own, where no agent answers: the same driver, once."""

# ruff: noqa: PLC0415, PTH113 - what is not run is not imported, and pathlib is slow to start

from __future__ import annotations

import os

from refloat_checks.nhc import plan as plans
from refloat_checks.nhc import registry, sources, variables
from refloat_checks.nhc.driver import Options, Pass
from refloat_checks.nhc.engine import NeedsLoop
from refloat_checks.nhc.findings import PassResult
from refloat_checks.nhc.plan import Plan
from refloat_checks.nhc.straight import Straight, drive
from refloat_checks.nhc.straight_facts import StraightFacts

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final

    from refloat_checks.nhc.driver import Listener

_CHECK_S: Final = 10.0


def plan(settings: Mapping[str, str], check: str | None, *, strict: bool) -> Plan | None:
    """Plan what is to be looked at: one check, or the configuration's lines; None if there is no configuration."""
    if check is not None:
        return plans.single(check, sources.scripts(settings["INCDIR"]), sources.is_native)
    if not os.path.isfile(settings["CONFFILE"]):
        return None
    return sources.read(settings["CONFFILE"], sources.hostname(), settings["INCDIR"], strict=strict)


def look(
    planned: Plan,
    settings: Mapping[str, str],
    env: Mapping[str, str],
    listener: Listener,
    *,
    strict: bool,
    deadline_s: float,
    watch: Callable[[Mapping[str, str]], None],
) -> PassResult:
    """Go through a plan; `watch` is given the variables, which the lines change as they go."""
    options = Options(
        strict=strict,
        acts=True,
        deadline_s=deadline_s,
        check_deadline_s=min(_CHECK_S, deadline_s / 2),
        variables=settings,
        exports=tuple(variables.of_host("")),
        env=env,
    )

    engine = Straight()
    facts = StraightFacts(engine)
    needs_loop = planned.script_settings or plans.needs_bash(planned, sources.is_native)
    looking = Pass(planned, facts, registry.find, registry.names(), options, listener, engine)
    watch(looking.variables)
    try:
        if not needs_loop:
            return drive(looking.run())
    except NeedsLoop:
        pass
    finally:
        facts.close()
    return _on_a_loop(looking)


def _on_a_loop(looking: Pass) -> PassResult:
    import asyncio

    from refloat_checks import facts
    from refloat_checks.probes import ProbePool
    from refloat_checks.proc import Roots

    async def run() -> PassResult:
        pool = ProbePool()
        try:
            return await looking.go_on(facts.source(Roots(), pool)())
        finally:
            await pool.aclose()

    return asyncio.run(run())
