# SPDX-License-Identifier: Apache-2.0
"""What every gateway promises, as plain async functions over a world: simulated, or real Slurm in the lab.

Each function takes a `World` whose nodes are IDLE, empty and registered, with ReturnToService=1 and without accounting,
and may leave a mess.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import pytest
from ClusterShell.NodeSet import NodeSet

from refloat_contract.errors import Refused, UnknownNode
from refloat_contract.reasons import is_same
from refloat_slurm.gateway import Change, ClusterGateway, JobEnd, NodeView
from refloat_slurm.states import has_known_base, is_busy, is_drain_set, is_drained, is_in_service

SOON_S: Final = 20.0
"""For what Slurm does within seconds: start a job, answer a forced registration."""

BOOT_S: Final = 90.0
"""For a reboot of a node of the lab."""

AWKWARD_REASONS: Final[Sequence[str]] = (
    "reboot image=compute-3f2a1c wave=w12",
    "with | a | pipe",
    "a|b",
    "none",
    "two  spaces   and three",
    "key=value State=IDLE+DRAIN",
    "x [root@2020-01-01T00:00:00] Comment=fake State=IDLE",
    "x [root@1577836800] NodeName=n9 State=IDLE",
    "reboot : Not responding",
    "single 'quotes' and `backticks` $HOME \\ back",
    "brackets [n1] {x} (y)",
    "Umlaute äöü und €, 日本語",
    "-h --help",
    "Reason=nested",
    "a" * 2000,
)


class World(Protocol):
    """A cluster to try a gateway on."""

    @property
    def gateway(self) -> ClusterGateway:
        """The gateway under test; it acts as root."""
        ...

    @property
    def node(self) -> str:
        """The name of a node that may be treated badly."""
        ...

    async def submit_job(self, node: str, seconds: float) -> str:
        """Have a job of one CPU run on the node; return its id once it runs."""
        ...

    async def suspend(self, job: str) -> None:
        """Suspend a running job."""
        ...

    async def reboot(self, node: str) -> None:
        """Reboot from within the node, unknown to Slurm; return when the reboot has begun."""
        ...

    async def power_off(self, node: str) -> None:
        """Cut the power."""
        ...

    async def power_on(self, node: str) -> None:
        """Give power back: the node boots and registers."""
        ...

    async def wait_for(self, node: str, predicate: Callable[[NodeView], bool], timeout_s: float) -> NodeView:
        """Read the node in full until the predicate holds and return that view; AssertionError after the timeout."""
        ...


Promise = Callable[[World], Awaitable[None]]


async def a_drain_is_seen_with_its_reason_user_and_time(world: World) -> None:
    await world.gateway.update(world.node, Change.DRAIN, "reboot: kernel update")

    view = await world.gateway.node(world.node)
    full = await world.gateway.node_in_full(world.node)
    assert view.flags == {"IDLE", "DRAIN"}
    assert (view.reason, view.reason_user) == ("reboot: kernel update", "root")
    assert view.reason_at > 0
    assert (full.reason, full.reason_user, full.reason_at) == (view.reason, view.reason_user, view.reason_at)
    assert (await world.gateway.nodes())[world.node].reason_at == view.reason_at


async def an_idle_node_is_in_service_and_has_no_jobs(world: World) -> None:
    view = await world.gateway.node(world.node)

    assert is_in_service(view)
    assert view.name == world.node
    assert await world.gateway.jobs(world.node) == ()


async def a_running_job_keeps_a_draining_node_busy(world: World) -> None:
    job = await world.submit_job(world.node, 300)
    await world.gateway.update(world.node, Change.DRAIN, "reboot")

    view = await world.gateway.node(world.node)
    jobs = await world.gateway.jobs(world.node)
    assert is_drain_set(view)
    assert is_busy(view)
    assert not is_drained(view)
    assert view.flags & {"MIXED", "ALLOCATED"}
    assert [(found.id, found.state) for found in jobs] == [(job, "RUNNING")]
    assert jobs[0].user


async def a_job_that_ends_leaves_a_drained_node(world: World) -> None:
    await world.submit_job(world.node, 3)
    await world.gateway.update(world.node, Change.DRAIN, "reboot")

    view = await world.wait_for(world.node, is_drained, SOON_S)
    assert view.reason == "reboot"
    assert await world.gateway.jobs(world.node) == ()


async def all_jobs_are_told_with_their_nodes(world: World) -> None:
    job = await world.submit_job(world.node, 30)

    [found] = [one for one in await world.gateway.all_jobs() if one.id == job]

    assert (found.nodes, found.state) == (world.node, "RUNNING")
    assert found.user


async def a_job_ends_when_an_operator_says_so(world: World) -> None:
    await world.gateway.end_job(await world.submit_job(world.node, 300), JobEnd.CANCEL)
    await world.wait_for(world.node, lambda view: not is_busy(view), SOON_S)
    job = await world.submit_job(world.node, 300)
    await world.gateway.update(world.node, Change.DRAIN, "reboot")
    await world.gateway.end_job(job, JobEnd.REQUEUE)
    await world.wait_for(world.node, is_drained, SOON_S)

    assert await world.gateway.jobs(world.node) == ()
    await world.gateway.end_job(job, JobEnd.CANCEL)  # it waits for another run


async def a_suspended_job_hides_from_the_flags_but_not_from_jobs(world: World) -> None:
    job = await world.submit_job(world.node, 300)
    await world.suspend(job)
    await world.gateway.update(world.node, Change.DRAIN, "reboot")

    view = await world.wait_for(world.node, lambda seen: not is_busy(seen), SOON_S)
    assert is_drained(view)
    assert [(found.id, found.state) for found in await world.gateway.jobs(world.node)] == [(job, "SUSPENDED")]


async def down_keeps_drain(world: World) -> None:
    await world.gateway.update(world.node, Change.DRAIN, "reboot")
    await world.gateway.update(world.node, Change.DOWN, "rebooting refloat=c1")

    view = await world.gateway.node(world.node)
    assert view.flags == {"DOWN", "DRAIN"}
    assert view.reason == "rebooting refloat=c1"


async def resume_of_down_and_drain_ends_idle(world: World) -> None:
    await down_keeps_drain(world)

    await world.gateway.update(world.node, Change.RESUME)

    # On 26.05 the node may be IDLE a moment before its forced registration has come.
    view = await world.wait_for(
        world.node,
        lambda seen: is_in_service(seen) and seen.registration is not None and seen.registration.boot_time > 0,
        SOON_S,
    )
    assert view.flags == {"IDLE"}


async def resume_of_an_idle_node_is_refused(world: World) -> None:
    with pytest.raises(Refused):
        await world.gateway.update(world.node, Change.RESUME)

    assert is_in_service(await world.gateway.node(world.node))


async def undrain_of_an_idle_node_is_harmless(world: World) -> None:
    await world.gateway.update(world.node, Change.UNDRAIN)

    assert (await world.wait_for(world.node, is_in_service, SOON_S)).flags == {"IDLE"}


async def undrain_leaves_down(world: World) -> None:
    await down_keeps_drain(world)

    await world.gateway.update(world.node, Change.UNDRAIN)

    view = await world.wait_for(world.node, lambda seen: "NOT_RESPONDING" not in seen.flags, SOON_S)
    assert view.flags == {"DOWN"}


async def drain_and_down_need_a_reason(world: World) -> None:
    for change in (Change.DRAIN, Change.DOWN, None):
        with pytest.raises(ValueError, match="reason"):
            await world.gateway.update(world.node, change)
    with pytest.raises(ValueError, match="reason"):
        await world.gateway.update(world.node, Change.DRAIN, "  ")

    assert is_in_service(await world.gateway.node(world.node))


async def an_unknown_node_is_unknown(world: World) -> None:
    gateway = world.gateway
    for call in (
        gateway.node("no-such-node"),
        gateway.node_in_full("no-such-node"),
        gateway.jobs("no-such-node"),
        gateway.update("no-such-node", Change.DRAIN, "reboot"),
    ):
        with pytest.raises(UnknownNode):
            await call

    assert "no-such-node" not in await gateway.nodes()


async def only_plain_names_reach_slurm(world: World) -> None:
    gateway = world.gateway
    for name in ("", "-a", "n[1-3]", f"{world.node},other", "ALL", "all", f"{world.node} state=DOWN", "n1\n"):
        for call in (
            gateway.node(name),
            gateway.node_in_full(name),
            gateway.jobs(name),
            gateway.update(name, Change.DOWN, "reboot"),
        ):
            with pytest.raises(ValueError, match="name of one node"):
                await call

    assert is_in_service(await gateway.node(world.node))


async def reasons_come_back_as_they_were_sent(world: World) -> None:
    for reason in AWKWARD_REASONS:
        await world.gateway.update(world.node, Change.DRAIN, reason)

        views = (
            await world.gateway.node(world.node),
            await world.gateway.node_in_full(world.node),
            (await world.gateway.nodes())[world.node],
        )
        for view in views:
            assert (view.reason, view.reason_user) == (reason, "root")
            assert view.flags == {"IDLE", "DRAIN"}


async def a_reason_can_be_changed_alone(world: World) -> None:
    await world.gateway.update(world.node, Change.DRAIN, "reboot")
    await world.gateway.update(world.node, None, "refloat-hold: the fan is broken refloat=c1")

    view = await world.gateway.node(world.node)
    assert view.flags == {"IDLE", "DRAIN"}
    assert view.reason == "refloat-hold: the fan is broken refloat=c1"


async def the_same_update_again_changes_nothing(world: World) -> None:
    await world.gateway.update(world.node, Change.DRAIN, "reboot")
    first = await world.gateway.node(world.node)
    await world.gateway.update(world.node, Change.DRAIN, "reboot")

    assert await world.gateway.node(world.node) == first


async def node_in_full_and_nodes_have_the_registration(world: World) -> None:
    full = await world.gateway.node_in_full(world.node)
    table = await world.gateway.nodes()

    assert full.registration is not None
    assert 0 < full.registration.boot_time <= full.registration.slurmd_start_time
    assert table[world.node].registration is not None


async def a_rebooted_held_node_registers_anew_and_stays_held(world: World) -> None:
    await down_keeps_drain(world)
    before = (await world.gateway.node_in_full(world.node)).registration
    assert before is not None

    await world.reboot(world.node)

    view = await world.wait_for(
        world.node,
        lambda seen: (
            seen.registration is not None
            and seen.registration.slurmd_start_time > before.slurmd_start_time
            and "NOT_RESPONDING" not in seen.flags
        ),
        BOOT_S,
    )
    assert view.flags == {"DOWN", "DRAIN"}
    assert view.reason == "rebooting refloat=c1"
    assert view.registration is not None
    assert view.registration.boot_time > before.boot_time
    await world.gateway.update(world.node, Change.RESUME)
    assert (await world.wait_for(world.node, is_in_service, SOON_S)).flags == {"IDLE"}


async def an_unannounced_reboot_takes_the_node_down(world: World) -> None:
    # Some releases leave an old reason on an idle node, and then give no new one.
    stale = (await world.gateway.node(world.node)).reason

    await world.reboot(world.node)

    view = await world.wait_for(world.node, lambda seen: "DOWN" in seen.flags and has_known_base(seen), BOOT_S)
    assert not is_in_service(view)
    assert view.reason == (stale or "Node unexpectedly rebooted")
    assert stale or view.reason_user == "slurm"


async def a_drained_node_that_loses_power_keeps_the_words_of_its_reason(world: World) -> None:
    await world.gateway.update(world.node, Change.DRAIN, "reboot")
    await world.power_off(world.node)

    view = await world.wait_for(world.node, lambda seen: "DOWN" in seen.flags, BOOT_S)
    assert {"DOWN", "DRAIN", "NOT_RESPONDING"} <= view.flags
    assert is_same(view.reason, "reboot")
    await world.power_on(world.node)
    view = await world.wait_for(world.node, lambda seen: "NOT_RESPONDING" not in seen.flags, BOOT_S)
    assert view.flags == {"DOWN", "DRAIN"}


async def partitions_are_told_with_their_nodes(world: World) -> None:
    told = await world.gateway.partitions()

    assert any(world.node in NodeSet(nodes) for nodes in told.values())


async def without_accounting_nobody_is_said_to_be_an_operator(world: World) -> None:
    for user in ("root", "alice"):
        with pytest.raises(Refused, match="accounting"):
            await world.gateway.admin_level(user)
    for wrong in ("", "a,b", "-i", "a b"):
        with pytest.raises(ValueError, match="not the name of one user"):
            await world.gateway.admin_level(wrong)


PROMISES: Final[Sequence[Promise]] = (
    a_drain_is_seen_with_its_reason_user_and_time,
    an_idle_node_is_in_service_and_has_no_jobs,
    a_running_job_keeps_a_draining_node_busy,
    a_job_that_ends_leaves_a_drained_node,
    all_jobs_are_told_with_their_nodes,
    a_job_ends_when_an_operator_says_so,
    a_suspended_job_hides_from_the_flags_but_not_from_jobs,
    down_keeps_drain,
    resume_of_down_and_drain_ends_idle,
    resume_of_an_idle_node_is_refused,
    undrain_of_an_idle_node_is_harmless,
    undrain_leaves_down,
    drain_and_down_need_a_reason,
    an_unknown_node_is_unknown,
    only_plain_names_reach_slurm,
    reasons_come_back_as_they_were_sent,
    a_reason_can_be_changed_alone,
    the_same_update_again_changes_nothing,
    node_in_full_and_nodes_have_the_registration,
    a_rebooted_held_node_registers_anew_and_stays_held,
    an_unannounced_reboot_takes_the_node_down,
    a_drained_node_that_loses_power_keeps_the_words_of_its_reason,
    partitions_are_told_with_their_nodes,
    without_accounting_nobody_is_said_to_be_an_operator,
)
