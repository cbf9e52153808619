# SPDX-License-Identifier: Apache-2.0
"""When the agent's loop looks again by itself."""

import asyncio

import pytest
from fakes import World
from harness import POLICY, a_loop

from refloat_agent.loop import Loop


async def looked(world: World, loop: Loop, *moments: float) -> None:
    """Let something that has nothing to do with Slurm make the loop look at these moments."""
    began_s = world.now_s
    for moment in moments:
        world.now_s = began_s + moment
        await loop.tick()


@pytest.mark.parametrize("moments", [(0.0,), (0.0, 0.99), (0.0, 0.3, 0.5, 0.8), (0.0, 0.9, 0.95)])
async def test_without_a_feed_the_node_is_read_each_period_whatever_else_wakes_the_agent(
    moments: tuple[float, ...],
) -> None:
    world = World()
    async with asyncio.TaskGroup() as tasks:
        loop = await a_loop(world, POLICY, tasks)
        await loop.tick()  # what comes after a boot
        loop.performer.effects.slurm.seen = None  # type: ignore[attr-defined]  # as if it had never been read
        await looked(world, loop, *(moment * POLICY.poll_s for moment in moments))
        read_s = loop.performer.effects.slurm.seen_s  # type: ignore[attr-defined]
        next_s = world.now_s + loop._pause_s()

        assert read_s + POLICY.poll_s <= next_s <= read_s + 1.2 * POLICY.poll_s
        world.now_s = next_s
        await loop.tick()
        assert loop.performer.effects.slurm.seen_s == next_s  # type: ignore[attr-defined]


async def test_a_slurmctld_that_does_not_answer_is_not_asked_at_once_again() -> None:
    world = World(slurm_down=True)
    async with asyncio.TaskGroup() as tasks:
        loop = await a_loop(world, POLICY, tasks)
        world.now_s += 10 * POLICY.poll_s
        await loop.tick()

        assert loop._pause_s() >= loop.pace.working_s
