# SPDX-License-Identifier: Apache-2.0
"""The real gateways keep every promise of a gateway on real Slurm, and end in time when it fails."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from contract.gateway_contract import PROMISES, SOON_S, Promise
from labworld import BACKENDS, LabWorld, gateway_inside, tidy
from reflab.cluster import Lab
from reflab.places import CONTROLLER

from refloat_contract.errors import Transient
from refloat_slurm.gateway import Change, SlurmGateway
from refloat_slurm.states import is_busy, is_drained, is_in_service
from refloat_slurm.via_scontrol import DEADLINE_S

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

GIVE_UP_S = DEADLINE_S + 1.5
"""A deadline, and the time to kill what passed it."""

EPILOG = """\
#!/bin/sh
for _ in $(seq 300); do
    [ -e /lab/epilog.go ] && exit 0
    sleep 0.1
done
"""


@pytest.fixture(params=BACKENDS)
async def world(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[LabWorld]:
    """The lab with n1 in service and no jobs, by a gateway on the controller."""
    await asyncio.to_thread(tidy, lab)
    gateway = gateway_inside(lab, CONTROLLER, tmp_path, request.param)
    yield LabWorld(lab, gateway)
    await gateway.aclose()
    await asyncio.to_thread(tidy, lab)


@pytest.fixture(params=BACKENDS)
async def on_n2(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[SlurmGateway]:
    """A gateway on a node, where agents have theirs."""
    await asyncio.to_thread(lab.restore, "n2")
    gateway = gateway_inside(lab, "n2", tmp_path, request.param)
    yield gateway
    await gateway.aclose()
    await asyncio.to_thread(lab.restore, "n2")


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_the_real_gateway_keeps_the_promise(promise: Promise, world: LabWorld) -> None:
    await promise(world)


async def test_a_slurmctld_that_is_stopped_is_transient(world: LabWorld) -> None:
    with _stopped(world.lab, CONTROLLER, "slurmctld"):
        await _all_calls_are_transient(world.gateway, world.node)

    view = await world.wait_for(world.node, is_in_service, SOON_S)
    assert view.flags == {"IDLE"}


async def test_a_slurmctld_that_hangs_is_transient(world: LabWorld) -> None:
    with _frozen(world.lab, CONTROLLER, "slurmctld"):
        await _all_calls_are_transient(world.gateway, world.node)


async def test_a_write_to_a_slurmctld_that_hangs_is_applied_when_it_goes_on(world: LabWorld) -> None:
    with _frozen(world.lab, CONTROLLER, "slurmctld"):
        await _is_transient(world.gateway.update(world.node, Change.DRAIN, "reboot: sent into a hang"))

    view = await world.wait_for(world.node, is_drained, SOON_S)
    assert (view.reason, view.reason_user) == ("reboot: sent into a hang", "root")


async def test_a_munged_that_is_stopped_is_transient(lab: Lab, on_n2: SlurmGateway) -> None:
    with _stopped(lab, "n2", "munge"):
        await _all_calls_are_transient(on_n2, "n2")

    assert is_in_service(await on_n2.node("n2"))


async def test_a_munged_that_hangs_is_transient(lab: Lab, on_n2: SlurmGateway) -> None:
    with _frozen(lab, "n2", "munge"):
        await _all_calls_are_transient(on_n2, "n2")

    assert is_in_service(await on_n2.node("n2"))


async def test_a_pulled_cable_is_transient(lab: Lab, on_n2: SlurmGateway) -> None:
    lab.unplug("n2")
    try:
        await _all_calls_are_transient(on_n2, "n2")
    finally:
        lab.plug("n2")

    assert (await on_n2.node("n2")).name == "n2"


async def test_a_completing_job_is_busy_in_the_flags_and_in_jobs(world: LabWorld) -> None:
    share = world.lab.node(world.node).share
    with _epilog(world.lab, world.node):
        job = await world.submit_job(world.node, 1)
        await world.gateway.update(world.node, Change.DRAIN, "reboot")
        view = await world.wait_for(world.node, lambda seen: "COMPLETING" in seen.flags, SOON_S)
        jobs = await world.gateway.jobs(world.node)
        polled = await world.gateway.node(world.node)
        (share / "epilog.go").touch()
        after = await world.wait_for(world.node, is_drained, SOON_S)

    assert view.flags == polled.flags == {"IDLE", "COMPLETING", "DRAIN"}
    assert is_busy(polled)
    assert not is_drained(polled)
    assert [(found.id, found.state) for found in jobs] == [(job, "COMPLETING")]
    assert after.flags == {"IDLE", "DRAIN"}
    assert await world.gateway.jobs(world.node) == ()


async def _all_calls_are_transient(gateway: SlurmGateway, node: str) -> None:
    calls: tuple[Awaitable[object], ...] = (
        gateway.node(node),
        gateway.node_in_full(node),
        gateway.nodes(),
        gateway.jobs(node),
        gateway.update(node, None, "a word into the void"),
    )
    await asyncio.gather(*(_is_transient(call) for call in calls))


async def _is_transient(call: Awaitable[object]) -> None:
    began = time.monotonic()
    with pytest.raises(Transient) as caught:
        await call

    took = time.monotonic() - began
    print(f"{took:.1f} s: {caught.value}")
    assert took < GIVE_UP_S


@contextmanager
def _stopped(lab: Lab, name: str, unit: str) -> Iterator[None]:
    lab.exec(name, ["systemctl", "stop", unit])
    try:
        yield
    finally:
        lab.exec(name, ["systemctl", "start", unit])


@contextmanager
def _frozen(lab: Lab, name: str, unit: str) -> Iterator[None]:
    signal = ["systemctl", "kill", "--kill-who=main"]
    lab.exec(name, [*signal, "--signal=SIGSTOP", unit])
    try:
        yield
    finally:
        lab.exec(name, [*signal, "--signal=SIGCONT", unit])


@contextmanager
def _epilog(lab: Lab, node: str) -> Iterator[None]:
    """An epilog on the node that ends when its /lab/epilog.go is there."""
    conf, share = lab.places.slurm / "slurm.conf", lab.node(node).share
    before = conf.read_text()
    lab.node(node).share.joinpath("epilog").write_text(EPILOG)
    share.joinpath("epilog").chmod(0o755)
    conf.write_text(f"Epilog=/lab/epilog\n{before}")
    lab.exec(node, ["systemctl", "restart", "slurmd"])
    # Only slurmd needs the line, and has read it now.
    lab.restore(node)
    try:
        yield
    finally:
        share.joinpath("epilog.go").touch()
        conf.write_text(before)
        lab.exec(node, ["systemctl", "restart", "slurmd"])
        share.joinpath("epilog.go").unlink()
