# SPDX-License-Identifier: Apache-2.0
"""The real gateways keep every promise of a gateway on real Slurm, and end in time when it fails."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from contract.gateway_contract import (
    PROMISES,
    SOON_S,
    Promise,
    a_drained_node_that_loses_power_keeps_the_words_of_its_reason,
)
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

NOTICING_SILENCE = {a_drained_node_that_loses_power_keeps_the_words_of_its_reason}
"""Promises that wait for SlurmdTimeout."""

# A ping that gets no answer takes several MessageTimeouts, and slurmctld waits for it before the next round.
NOTICE_SILENCE_SOON = ("SlurmdTimeout=10", "MessageTimeout=3")

DRAIN = ("state=DRAIN", "reason=reboot")

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


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_the_real_gateway_keeps_the_promise(promise: Promise, world: LabWorld) -> None:
    with _settings(world, *NOTICE_SILENCE_SOON) if promise in NOTICING_SILENCE else nullcontext():
        await promise(world)


async def test_a_slurmctld_that_is_stopped_is_transient(world: LabWorld) -> None:
    with _stopped(world.lab, CONTROLLER, "slurmctld"):
        await _all_calls_are_transient(world.gateway, world.node)

    assert (await world.wait_for(world.node, is_in_service, SOON_S)).flags == {"IDLE"}


async def test_a_slurmctld_that_hangs_is_transient_and_applies_the_write_later(world: LabWorld) -> None:
    with _frozen(world.lab, CONTROLLER, "slurmctld"):
        await _all_calls_are_transient(world.gateway, world.node, "reboot: sent into a hang")

    view = await world.wait_for(world.node, is_drained, SOON_S)
    assert (view.reason, view.reason_user) == ("reboot: sent into a hang", "root")


@pytest.mark.parametrize("backend", BACKENDS)
async def test_trouble_on_a_node_is_transient_there(lab: Lab, tmp_path: Path, backend: str) -> None:
    gateways = {name: gateway_inside(lab, name, tmp_path, backend) for name in lab.names()}
    with _stopped(lab, "n1", "munge"), _frozen(lab, "n2", "munge"), _unplugged(lab, "n3"):
        await asyncio.gather(*(_all_calls_are_transient(gateways[name], name) for name in gateways))

    for name, gateway in gateways.items():
        assert (await gateway.node(name)).name == name
        await gateway.aclose()
        await asyncio.to_thread(lab.restore, name)


async def test_a_reason_that_is_no_utf8_is_readable(world: LabWorld) -> None:
    # In an argv of Python's this is the byte ff, which any tool of an administrator may send.
    await asyncio.to_thread(world.lab.scontrol, "update", "nodename=n2", "state=DRAIN", "reason=reboot: gr\udcffn")

    views = (
        await world.gateway.node("n2"),
        await world.gateway.node_in_full("n2"),
        (await world.gateway.nodes())["n2"],
    )
    assert {view.reason for view in views} == {"reboot: gr\N{REPLACEMENT CHARACTER}n"}
    await asyncio.to_thread(world.lab.restore, "n2")


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_user_whom_a_node_does_not_know_hides_nothing(lab: Lab, tmp_path: Path, backend: str) -> None:
    gateway = gateway_inside(lab, "n2", tmp_path, backend)
    lab.exec(CONTROLLER, ["runuser", "-u", "slurm", "--", "scontrol", "update", "nodename=n3", *DRAIN])
    uid = lab.exec(CONTROLLER, ["id", "-u", "slurm"]).stdout.strip()
    passwd = lab.node("n2").inside("/etc/passwd")
    before = passwd.read_text()
    passwd.write_text(before.replace(f"slurm:x:{uid}:", f"slurm:x:{uid}0:"))
    try:
        views = (await gateway.node("n3"), await gateway.node_in_full("n3"), (await gateway.nodes())["n3"])
    finally:
        passwd.write_text(before)
        await gateway.aclose()
        await asyncio.to_thread(lab.restore, "n3")

    assert {view.reason for view in views} == {"reboot"}
    # 22.05's scontrol has one name for all of them.
    assert {view.reason_user for view in views} <= {uid, "nobody"}


async def test_a_slurmctld_that_moved_is_found(world: LabWorld) -> None:
    await world.gateway.node(world.node)
    with _settings(world, "SlurmctldPort=7817", apply=_restart):
        with suppress(Transient):
            await world.gateway.node(world.node)
        assert (await world.gateway.node(world.node)).name == world.node


async def test_a_completing_job_is_busy_in_the_flags_and_in_jobs(world: LabWorld) -> None:
    with _epilog(world) as end_of_epilog:
        job = await world.submit_job(world.node, 1)
        await world.gateway.update(world.node, Change.DRAIN, "reboot")
        view = await world.wait_for(world.node, lambda seen: "COMPLETING" in seen.flags, SOON_S)
        jobs = await world.gateway.jobs(world.node)
        polled = await world.gateway.node(world.node)
        end_of_epilog.touch()
        after = await world.wait_for(world.node, is_drained, SOON_S)

    assert view.flags == polled.flags == {"IDLE", "COMPLETING", "DRAIN"}
    assert is_busy(polled)
    assert not is_drained(polled)
    assert [(found.id, found.state) for found in jobs] == [(job, "COMPLETING")]
    assert after.flags == {"IDLE", "DRAIN"}
    assert await world.gateway.jobs(world.node) == ()


async def _all_calls_are_transient(gateway: SlurmGateway, node: str, reason: str = "into the void") -> None:
    # The write first: a gateway that asks one thing at a time sends no more than that.
    calls: tuple[Awaitable[object], ...] = (
        gateway.update(node, Change.DRAIN, reason),
        gateway.node(node),
        gateway.node_in_full(node),
        gateway.nodes(),
        gateway.jobs(node),
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
def _unplugged(lab: Lab, name: str) -> Iterator[None]:
    lab.unplug(name)
    try:
        yield
    finally:
        lab.plug(name)


@contextmanager
def _epilog(world: LabWorld) -> Iterator[Path]:
    """An epilog on the world's node that ends when the file is there whose path is returned."""
    share = world.lab.node(world.node).share
    share.joinpath("epilog").write_text(EPILOG)
    share.joinpath("epilog").chmod(0o755)
    end = share / "epilog.go"
    try:
        with _settings(world, "Epilog=/lab/epilog"):
            yield end
    finally:
        end.unlink(missing_ok=True)


def _reconfigure(world: LabWorld) -> None:
    world.lab.scontrol("reconfigure")


def _restart(world: LabWorld) -> None:
    world.lab.exec(CONTROLLER, ["systemctl", "restart", "slurmctld"])
    world.lab.exec(world.node, ["systemctl", "restart", "slurmd"])


@contextmanager
def _settings(world: LabWorld, *lines: str, apply: Callable[[LabWorld], None] = _reconfigure) -> Iterator[None]:
    """Have the lines in slurm.conf in place of those with their keys."""
    conf = world.lab.places.slurm / "slurm.conf"
    before = conf.read_text()
    keys = {line.partition("=")[0] for line in lines}
    others = [line for line in before.splitlines() if line.partition("=")[0] not in keys]
    conf.write_text("\n".join([*lines, *others, ""]))
    try:
        apply(world)
        world.lab.restore(world.node)
        yield
    finally:
        conf.write_text(before)
        apply(world)
