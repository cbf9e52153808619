# SPDX-License-Identifier: Apache-2.0
import asyncio
from pathlib import Path

import pytest

from refloat_agent.events.devices import DeviceSource, subsystem
from refloat_checks.wakes import DeviceChange

from .conftest import Serve, Told

UEVENT = b"remove@/devices/pci0000:00/0000:00:05.0\0ACTION=remove\0DEVPATH=/devices/x\0SUBSYSTEM=pci\0SEQNUM=4711\0"


def test_a_uevent_says_its_subsystem() -> None:
    assert subsystem(UEVENT) == "pci"
    assert subsystem(b"libudev\0\xfe\xed\xca\xfe") is None


async def test_it_tells_of_the_subsystem_that_is_meant(serving: Serve) -> None:
    told = Told(DeviceChange("mem"), DeviceChange("pci"))
    async with serving(DeviceSource(told.subscription)):
        try:
            await asyncio.to_thread(Path("/sys/class/mem/null/uevent").write_text, "change")
        except OSError as error:
            pytest.skip(f"the kernel cannot be asked for a uevent here: {error}")
        try:
            seen = await told.next()
        except TimeoutError:
            pytest.skip("this network namespace is told no uevents")

        assert seen == {DeviceChange("mem")}
