# SPDX-License-Identifier: Apache-2.0
"""From the event to the verdict, with the real kernel: no interval is waited for."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from refloat_agent.effects.clock import SystemClock
from refloat_agent.effects.health import NodeHealth
from refloat_agent.events.watch import Watch
from refloat_checks import facts, registry
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_checks.runner import Runner
from refloat_contract.words import Verdict


@asynccontextmanager
async def node(**check: Any) -> AsyncIterator[Callable[[Verdict], Awaitable[None]]]:
    """An agent's checks and their watch; gives what waits for a verdict."""
    specs = registry.build([{"name": "check", "interval_s": 1e6, **check}])
    pool = ProbePool()
    runner = Runner(specs, facts.source(Roots(), pool))
    health = NodeHealth(runner, SystemClock(), lambda: None)
    watch = Watch(health.look_now)
    watch.aim({spec.name: registry.wakes_of(spec) for spec in specs})

    async def becomes(verdict: Verdict) -> None:
        async with asyncio.timeout(10):
            while health.facts().verdict is not verdict or not watch.state()[0]["open"]:  # noqa: ASYNC110 - two events
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(each) for each in (health.run(), watch.run())]
    try:
        yield becomes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await pool.aclose()


async def test_a_daemon_that_is_killed_makes_the_node_unhealthy_at_once() -> None:
    daemon = await asyncio.create_subprocess_exec("sleep", "86451.5")
    async with node(type="process", pattern="sleep 86451.5") as becomes:
        await becomes(Verdict.HEALTHY)
        daemon.kill()

        await becomes(Verdict.UNHEALTHY)
    await daemon.wait()


async def test_a_file_that_is_removed_makes_the_node_unhealthy_at_once(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    async with node(type="file", path=str(tmp_path / "key")) as becomes:
        await becomes(Verdict.HEALTHY)
        (tmp_path / "key").unlink()
        await becomes(Verdict.UNHEALTHY)
        (tmp_path / "key").write_text("secret")

        await becomes(Verdict.HEALTHY)


async def test_a_line_of_the_kernel_log_makes_the_node_unhealthy_until_the_one_that_ends_it() -> None:
    reading, writing = os.pipe2(os.O_DIRECT | os.O_NONBLOCK | os.O_CLOEXEC)
    check = {"type": "kernel-log", "path": f"/proc/self/fd/{reading}", "severities": {"nfs-away": "drain"}}
    async with node(**check) as becomes:
        await becomes(Verdict.HEALTHY)
        os.write(writing, b"4,1,1000,-;nfs: server home not responding, still trying\n")
        await becomes(Verdict.UNHEALTHY)
        os.write(writing, b"4,2,2000,-;nfs: server home OK\n")

        await becomes(Verdict.HEALTHY)
    os.close(reading)
    os.close(writing)


async def test_a_container_without_a_kernel_log_is_told_of_it_once_and_nothing_is_harmed(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    specs = registry.build([{"name": "log", "type": "kernel-log", "path": str(log), "interval_s": 1e6}])
    pool = ProbePool()
    health = NodeHealth(Runner(specs, facts.source(Roots(), pool)), SystemClock(), lambda: None)
    watch = Watch(health.look_now)
    watch.aim({spec.name: registry.wakes_of(spec) for spec in specs})
    with capture_logs() as lines:
        tasks = [asyncio.create_task(each) for each in (health.run(), watch.run())]
        for _ in range(3):
            await health.run_all()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    await pool.aclose()

    assert health.facts().verdict is Verdict.UNKNOWN
    assert not health.facts().raw_failing
    warnings = sorted((line["event"], line.get("message")) for line in lines if line["log_level"] == "warning")
    said = f"the kernel log cannot be read: {log}: No such file or directory"
    assert warnings == [("check", said), ("event_source_missing", None)]
