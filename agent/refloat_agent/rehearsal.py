# SPDX-License-Identifier: Apache-2.0
"""Look at the node for a dry run: everything that a cycle would read, and nothing is done."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from refloat_agent.effects.storage import table
from refloat_agent.effects.storage.holders import HolderSearch
from refloat_agent.observation import Observation, SlurmFacts
from refloat_agent.plan import Means, StorageMeans, plan
from refloat_agent.recipes import Argv
from refloat_agent.storage import Storage
from refloat_contract.errors import RefloatError, Refused

if TYPE_CHECKING:
    from refloat_agent.daemon import Agent

log = structlog.get_logger(__name__)
T = TypeVar("T")


async def rehearse(agent: "Agent", recipe: str) -> dict[str, Any]:
    """What a recipe would do on this node now.

    Raises:
        Refused: there is no such recipe.
    """
    settings, policy = agent.settings, agent.settings.policy()
    if recipe not in policy.recipes:
        raise Refused(f"no recipe {recipe!r} (known here: {', '.join(sorted(policy.recipes))})")
    means = Means(
        storage=await _storage(agent),
        checks=[spec.name for spec in agent.health.runner.specs],
        reboot_command=settings.reboot_command,
    )
    return {"node": settings.node, **asdict(plan(recipe, await _look(agent), policy, means))}


async def _look(agent: "Agent") -> Observation:
    machine, slurm, error = agent.machine, None, ""
    try:
        slurm = SlurmFacts(await agent.slurm.read(), fresh=True)
    except RefloatError as failure:
        error = str(failure)
    return Observation(
        now_s=machine.clock.boottime_s(),
        wall_ns=machine.clock.wall_ns(),
        boot_id=machine.power.boot_id(),
        slurm=slurm,
        slurm_error=error,
        jobs=await _told(agent.slurm.jobs),
        steps=await _told(machine.processes.steps),
        storage=await _told(machine.mounts.state),
        services=await _told(machine.services.state),
        permit=agent.bus.permit(),
        image=machine.power.image(),
    )


async def _storage(agent: "Agent") -> tuple[StorageMeans, ...]:
    means = []
    for one in agent.settings.storage:
        mount, unmount = (_how(one, verb, argvs) for verb, argvs in (("mount", one.mount), ("umount", one.unmount)))
        means.append(StorageMeans(one.name, mount, unmount, one.busy, await _users(agent, one.path)))
    return tuple(means)


def _how(one: Storage, verb: str, argvs: Sequence[Argv]) -> str:
    if argvs:
        return ", then ".join(" ".join(argv) for argv in argvs)
    return f"{verb} {one.path}" + (f" by the driver {one.driver}" if one.driver not in {None, "fstab"} else "")


async def _users(agent: "Agent", path: str) -> str:
    """Who uses what is mounted there now."""
    roots = agent.machine.roots
    try:
        entry = (await asyncio.to_thread(table.read, roots)).at(path)
        return str(await HolderSearch(roots).who(entry)) if entry is not None else ""
    except (OSError, ValueError, RefloatError) as error:
        return f"somebody, or nobody: {error}"


async def _told(ask: Callable[[], Awaitable[T]]) -> T | None:
    try:
        return await ask()
    except RefloatError as error:
        log.warning("not_told", error=str(error))
        return None
