# SPDX-License-Identifier: Apache-2.0
"""The budget holds, whatever is lost, repeated, reordered or killed.

Many more and longer stories with REFLOAT_CRASH=all (`make crash`); one that fails is told again by its seed.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from budget_world import NAMES, Node, World
from harness import ALL

from refloat_contract.words import Phase

SEEDS = range(200) if ALL else range(6)
STEPS = 1500 if ALL else 250


def look(world: World, _: Node) -> None:
    for name in world.dice.sample(NAMES, 6):
        world.look(world.nodes[name])


def deliver(world: World, _: Node) -> None:
    world.deliver(world.dice.randrange(12))


def trigger(world: World, _: Node) -> None:
    for name in world.dice.sample(NAMES, world.dice.randrange(1, 6)):
        drain(world, world.nodes[name], world.dice.choice(["reboot", "reboot", "reconfigure"]))


def drain(world: World, node: Node, reason: str = "bad DIMM, alice") -> None:
    if node.up and not node.flags & {"DRAIN", "DOWN"}:
        node.flags, node.reason = node.flags | {"DRAIN"}, reason


def sicken(world: World, node: Node) -> None:
    node.sick = not node.sick
    if node.up:
        world.report(node)


def storm(world: World, _: Node) -> None:
    """One check begins to fail on most nodes."""
    for name in world.dice.sample(NAMES, 9):
        if not world.nodes[name].sick:
            sicken(world, world.nodes[name])


def restart(world: World, node: Node) -> None:
    world.restart(node)


def die(world: World, node: Node) -> None:
    if node.up:
        node.up, node.away_since = False, world.clock.time
        node.back_at = world.clock.time + world.dice.randrange(20, 400)
        node.flags = frozenset({"DOWN", "NOT_RESPONDING"}) | (node.flags & {"DRAIN"})


def resume(_: World, node: Node) -> None:
    # An agent sees that its node was resumed before anybody drains it again; here that is so for nodes without a cycle.
    if node.up and not node.cycle:
        node.flags, node.reason, node.drained = frozenset({"IDLE"}), "", False


def silence(world: World, _: Node) -> None:
    """slurmctld falls silent, or answers again."""
    world.slurm_down = not world.slurm_down


def kill(world: World, _: Node) -> None:
    """The coordinator dies soon, before or after one of its next writes or words."""
    world.kill_in = world.dice.randrange(1, 6)


def wait(world: World, _: Node) -> None:
    world.clock.time += world.dice.randrange(1, 120)


HAPPENINGS: Final[dict[Callable[[World, Node], None], float]] = {
    look: 40,
    deliver: 25,
    trigger: 6,
    drain: 1.5,
    sicken: 4,
    storm: 0.4,
    restart: 3,
    die: 1.5,
    resume: 1,
    silence: 1,
    kill: 3,
    wait: 6,
}


def happen(world: World) -> None:
    """One thing that nobody planned."""
    (what,) = world.dice.choices(list(HAPPENINGS), list(HAPPENINGS.values()))
    what(world, world.nodes[world.dice.choice(NAMES)])


async def settle(world: World) -> None:
    """Nothing more happens, and everything arrives: all nodes come back, and nothing is kept from them."""
    world.lossy, world.slurm_down, world.kill_in = False, False, -1
    world.deliver(1_000_000)  # agents tell their status anew when they are connected again: after all that was before
    for node in world.nodes.values():
        node.sick = False
        world.report(node)
    for _ in range(400):
        world.clock.time += 5
        world.tick()
        for node in world.nodes.values():
            if node.reason.startswith("bad") or node.flags == {"DOWN"}:
                node.flags, node.reason = frozenset({"IDLE"}), ""
            world.look(node)
        world.deliver(10_000)
        await world.turn()
        if (
            all(is_back(node) for node in world.nodes.values())
            and not world.loop.permits
            and not world.loop.breaker.open
        ):
            return


def is_back(node: Node) -> bool:
    return node.phase is Phase.IN_SERVICE and node.flags == {"IDLE"}


async def told(seed: int, path: Path) -> World:
    """The story of a seed, to its end."""
    world = World(random.Random(seed), path)  # noqa: S311 - a story, not a secret
    await world.start()
    for _ in range(STEPS):
        happen(world)
        world.tick()
        if world.dice.random() < 0.5:
            await world.turn()
        assert world.violations == [], f"seed {seed}"
    await settle(world)
    await world.ledger.aclose()
    return world


@pytest.mark.timeout(3600 if ALL else 60)
async def test_the_budget_is_never_exceeded_and_nobody_is_kept_out(tmp_path: Path) -> None:
    seen: set[str] = set()
    for seed in SEEDS:
        world = await told(seed, tmp_path / str(seed))
        seen |= world.seen

        assert world.violations == [], f"seed {seed}"
        assert [node for node in world.nodes.values() if not is_back(node)] == [], f"seed {seed}"
        assert dict(world.loop.permits) == {}, f"seed {seed}"
        assert world.loop.breaker.open == (), f"seed {seed}"
    # The stories were about something.
    assert seen == {"killed", "reboot", "reconfigure", "drained by a check", "budget", "health", "boot", "incident"}
