# SPDX-License-Identifier: Apache-2.0
import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from refloat_agent.events.units import UnitSource, unit_of
from refloat_checks.wakes import UnitChange
from refloat_contract.errors import Transient

from .conftest import Serve, Told

SYSTEMD = "org.freedesktop.systemd1"
MANAGER = "/org/freedesktop/systemd1"


class FakeSystemd:
    """A bus of its own, with somebody on it who signs as systemd."""

    def __init__(self, address: str, daemon: asyncio.subprocess.Process, bus: MessageBus) -> None:
        self.address = address
        self.daemon = daemon
        self.bus = bus
        self.subscribers = 0
        bus.add_message_handler(self._answer)

    def _answer(self, message: Message) -> Message | None:
        if message.message_type is MessageType.METHOD_CALL and message.member == "Subscribe":
            self.subscribers += 1
            return Message.new_method_return(message)
        return None

    def changed(self, label: str, interface: str = f"{SYSTEMD}.Unit") -> None:
        body = [interface, {"ActiveState": Variant("s", "failed")}, []]
        self.bus.send(
            Message.new_signal(
                f"{MANAGER}/unit/{label}", "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", body
            )
        )

    def new(self, name: str) -> None:
        self.bus.send(Message.new_signal(MANAGER, f"{SYSTEMD}.Manager", "UnitNew", "so", [name, f"{MANAGER}/unit/x"]))


@pytest.fixture
async def systemd(tmp_path: Path) -> AsyncIterator[FakeSystemd]:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    address = f"unix:path={tmp_path}/bus"
    daemon = await asyncio.create_subprocess_exec(
        "dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert daemon.stdout is not None
    await daemon.stdout.readline()
    bus = await MessageBus(address).connect()
    await bus.request_name(SYSTEMD)
    yield FakeSystemd(address, daemon, bus)
    bus.disconnect()
    if daemon.returncode is None:
        daemon.terminate()
    await daemon.wait()


def test_a_signal_names_its_unit() -> None:
    path = f"{MANAGER}/unit/sys_2dfs_2dfuse_2dconnections_2emount"
    changed = Message.new_signal(path, "org.freedesktop.DBus.Properties", "PropertiesChanged")
    removed = Message.new_signal(MANAGER, f"{SYSTEMD}.Manager", "UnitRemoved", "so", ["x.service", "/x"])

    assert unit_of(changed) == "sys-fs-fuse-connections.mount"
    assert unit_of(removed) == "x.service"
    assert unit_of(Message.new_signal("/elsewhere", "org.freedesktop.DBus.Properties", "PropertiesChanged")) is None


async def test_it_tells_of_the_units_that_are_meant_and_of_no_others(systemd: FakeSystemd, serving: Serve) -> None:
    munge, mounts = UnitChange("munge.service"), UnitChange("*.mount")
    told = Told(munge, mounts)
    async with serving(UnitSource(told.subscription, systemd.address)):
        assert systemd.subscribers == 1
        systemd.changed("sshd_2eservice")
        systemd.changed("munge_2eservice", f"{SYSTEMD}.Service")
        systemd.changed("munge_2eservice")
        assert await told.next() == {munge}
        systemd.new("scratch.mount")

        assert await told.next() == {mounts}
        assert told.counts.events == 3


async def test_a_bus_that_goes_away_ends_the_source(systemd: FakeSystemd) -> None:
    opened = asyncio.Event()
    task = asyncio.create_task(UnitSource(Told(UnitChange("*")).subscription, systemd.address).serve(opened.set))
    async with asyncio.timeout(10):
        await opened.wait()
        systemd.daemon.kill()

        with pytest.raises((Transient, OSError)):
            await task


async def test_a_bus_without_systemd_is_no_surprise(systemd: FakeSystemd) -> None:
    await systemd.bus.release_name(SYSTEMD)

    with pytest.raises(Transient, match="systemd1"):
        await UnitSource(Told(UnitChange("*")).subscription, systemd.address).serve(lambda: None)


async def test_without_a_bus_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await UnitSource(Told(UnitChange("*")).subscription, f"unix:path={tmp_path}/bus").serve(lambda: None)
