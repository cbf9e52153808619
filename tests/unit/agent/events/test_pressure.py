# SPDX-License-Identifier: Apache-2.0
import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from refloat_agent.events import pressure
from refloat_agent.events.pressure import PressureSource
from refloat_checks.wakes import Pressure

from .conftest import Serve, Told

HERE = Path("/proc")


@pytest.mark.skipif(not (HERE / "pressure").is_dir(), reason="this kernel tells no pressure")
async def test_its_triggers_are_ones_that_the_kernel_takes(serving: Serve) -> None:
    told = Told(Pressure("memory"), Pressure("io"))
    source = PressureSource(told.subscription, HERE)
    async with serving(source):
        assert told.wakes == []


async def test_a_kernel_without_pressure_is_no_surprise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await PressureSource(Told(Pressure("io")).subscription, tmp_path).serve(lambda: None)


async def test_pressure_that_lasts_is_told_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serving: Serve
) -> None:
    handles: list[Callable[[int], None]] = []

    async def urgent(file: int, opened: Callable[[], None], handle: Callable[[int], None]) -> None:
        handles.append(handle)
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(pressure, "whenever_urgent", urgent)
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/io").touch()
    told = Told(Pressure("io"))
    async with serving(PressureSource(told.subscription, tmp_path)):
        await asyncio.sleep(0)
        for _ in range(15):
            handles[0](1)

    assert told.wakes == [Pressure("io")]
    assert (told.counts.events, told.counts.coalesced) == (15, 14)
