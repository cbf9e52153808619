# SPDX-License-Identifier: Apache-2.0
"""What `refloat check` runs: the agent's checks, once."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refloat_agent import config
from refloat_agent.config import AgentSettings
from refloat_checks import facts
from refloat_checks.api import Result
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_checks.registry import CheckSpec
from refloat_checks.runner import Runner
from refloat_contract.errors import Misconfigured
from refloat_contract.words import Status
from refloat_service import logs, settings


def specs(path: Path, only: Sequence[str]) -> list[CheckSpec]:
    """The enabled checks of an agent.toml, or those of them that are named.

    Raises:
        Misconfigured: the file is wrong, or has no such check.
    """
    enabled = {
        spec.name: spec
        for spec in settings.load(AgentSettings, path, env_prefix=config.ENV_PREFIX).checks()
        if spec.enabled
    }
    for name in only:
        if name not in enabled:
            near = difflib.get_close_matches(name, enabled, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(enabled) or 'none'}"
            raise Misconfigured(f"{path} has no enabled check {name!r}; {hint}")
    return [spec for spec in enabled.values() if not only or spec.name in only]


async def look(wanted: Sequence[CheckSpec]) -> tuple[Result, ...]:
    """Look at them once."""
    logs.configure("console", "warning")
    probes = ProbePool()
    try:
        return await Runner(wanted, facts.source(Roots(), probes)).run()
    finally:
        await probes.aclose()


def exit_status(results: Sequence[Mapping[str, Any]]) -> int:
    """1 where one failed; 3 where one could not be looked at, which proves neither; else 0."""
    found = {result["status"] for result in results}
    if Status.FAILED in found:
        return 1
    return 3 if Status.UNKNOWN in found else 0
