# SPDX-License-Identifier: Apache-2.0
"""What `refloat check` runs: the agent's checks, once."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refloat_agent import config
from refloat_agent.config import AgentSettings
from refloat_checks import facts, offline
from refloat_checks.api import Profile, Result, Severity
from refloat_checks.nhc.live import NhcConf
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_checks.registry import CheckSpec
from refloat_checks.runner import Runner
from refloat_contract.errors import Misconfigured
from refloat_contract.words import Status
from refloat_service import logs, settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """The checks that are asked for, and the nhc.conf whose lines are among them."""

    specs: tuple[CheckSpec, ...]
    nhc: NhcConf | None = None

    @property
    def only_warning(self) -> frozenset[str]:
        """The checks that never drain a node."""
        return frozenset(spec.name for spec in self.specs if spec.severity is Severity.WARN)


def wanted(path: Path, only: Sequence[str], *, host: str | None = None) -> Wanted:
    """The enabled checks of an agent.toml, lines of its nhc.conf among them, or those that are named.

    Raises:
        Misconfigured: a file is wrong, or has no such check.
    """
    loaded = settings.load(AgentSettings, path, env_prefix=config.ENV_PREFIX)
    nhc = None
    if loaded.nhc_conf is not None:
        nhc = NhcConf.load(loaded.nhc_conf, strict=loaded.nhc_compat == "strict", host=host)
    lines = nhc.specs() if nhc is not None else []
    return Wanted(_chosen([*loaded.checks(), *lines], only, path), nhc)


def wanted_of_nhc(path: Path, only: Sequence[str], *, host: str | None = None) -> Wanted:
    """The lines of an nhc.conf that apply to a host, or those that are named. Raises Misconfigured."""
    nhc = NhcConf.load(path, host=host)
    return Wanted(_chosen(nhc.specs(), only, path), nhc)


def of_profile(asked: Wanted, word: str) -> Wanted:
    """Those of them that are of a profile. Raises Misconfigured where there is no such profile."""
    if word not in set(Profile):
        raise Misconfigured(f"no profile {word!r} (there are: {', '.join(Profile)})")
    return replace(asked, specs=tuple(spec for spec in asked.specs if spec.is_in(Profile(word))))


def _chosen(specs: Sequence[CheckSpec], only: Sequence[str], path: Path) -> tuple[CheckSpec, ...]:
    enabled = {spec.name: spec for spec in specs if spec.enabled}
    for name in only:
        if name not in enabled:
            near = difflib.get_close_matches(name, enabled, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(enabled) or 'none'}"
            raise Misconfigured(f"{path} has no enabled check {name!r}; {hint}")
    return tuple(spec for spec in enabled.values() if not only or spec.name in only)


async def look(asked: Wanted, root: Path | None = None) -> tuple[Result, ...]:
    """Look at them once, on this system or in the offline tree at `root`."""
    logs.configure("console", "warning")
    pool = ProbePool(root=root) if root is not None else ProbePool()
    source = offline.source(root, pool) if root is not None else facts.source(Roots(), pool)
    try:
        if asked.nhc is None:
            return await Runner(asked.specs, source).run()
        return await Runner(asked.specs, source, find_look=asked.nhc.look_of).run()
    finally:
        await pool.aclose()


def exit_status(results: Sequence[Mapping[str, Any]], ignored: Collection[str] = ()) -> int:
    """1 where one failed; 3 where one could not be looked at, which proves neither; else 0."""
    found = {result["status"] for result in results if result["check"] not in ignored}
    if Status.FAILED in found:
        return 1
    return 3 if Status.UNKNOWN in found else 0
