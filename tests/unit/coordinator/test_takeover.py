# SPDX-License-Identifier: Apache-2.0
"""Two real coordinators in processes of their own, a real broker between them and the agents, and signals."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from brokers import running_mosquitto
from unit.coordinator.cluster import TOPICS, Agent, Cluster
from unit.coordinator.world import eventually

from refloat_contract.errors import RefloatError, Transient
from refloat_contract.messages import CoordinatorStatus, decode
from refloat_contract.topics import Kind
from refloat_coordinator.daemon import LEDGER_FILE
from refloat_service import control
from refloat_service.control import ControlServer
from refloat_service.mqtt import Link, MqttSettings, Publication
from refloat_slurm.gateway import Change

pytestmark = [
    pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(240),
]

PROGRAM = Path(__file__).parents[2] / "coordinator_process.py"
NODES = [f"n{i}" for i in range(1, 7)]
LEASE_S = 2.0
PATIENCE_S = 40.0


class Scene:
    """Slurm, agents and a broker; coordinators come and go."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.cluster = Cluster({name: Agent(name) for name in NODES})
        self.writes: list[tuple[int, str]] = []
        self.beats: list[CoordinatorStatus] = []
        self.slurm = folder / "slurm.sock"
        self.link = Link(
            MqttSettings(host="127.0.0.1", port=port, username="agents", reconnect_min_s=0.05),
            client_id="agents",
            subscriptions=[TOPICS.node("+", Kind.ORDER), TOPICS.coordinator()],
            on_message=self._hear,
        )

    def _hear(self, topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001 - the link's signature
        if topic == TOPICS.coordinator():
            self.beats.append(decode(CoordinatorStatus, payload))
        elif decode_epoch(payload) == max(beat.epoch for beat in self.beats):
            asyncio.ensure_future(self.cluster.publish(Publication(topic, payload)))  # noqa: RUF006 - it does not wait

    def handlers(self) -> dict[str, Any]:
        async def node(arguments: dict[str, Any]) -> Any:
            return asdict(self.cluster.agents[arguments["name"]].view)

        async def nodes(_arguments: dict[str, Any]) -> Any:
            return [asdict(agent.view) for agent in self.cluster.agents.values()]

        async def update(arguments: dict[str, Any]) -> None:
            self.writes.append((arguments["pid"], arguments["name"]))
            await self.cluster.update(arguments["name"], Change(arguments["change"]), arguments["reason"])

        return {"node": node, "nodes": nodes, "update": update}

    async def live(self) -> None:
        """The agents, a step every so often; what they say is published until the broker has it."""
        while True:
            self.cluster.live()
            for kept in list(self.cluster.queue):
                await self.link.publish(Publication(kept.topic, kept.payload, retain=kept.topic.endswith("/status")))
                self.cluster.queue.remove(kept)
            await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def coordinator(self, name: str, state: str = "state") -> AsyncIterator[asyncio.subprocess.Process]:
        settings = {
            "cluster": "test",
            "mqtt": {"host": "127.0.0.1", "port": self.port, "username": f"c-{state}", "reconnect_min_s": 0.2},
            "state_dir": str(self.folder / state),
            "socket": str(self.folder / f"{name}.sock"),
            "feed": {"period_s": 0.1, "heartbeat_s": 0.2},
            "http": {"listen": ""},
            "limits": {"max_unavailable": "100%"},
            "leadership": {"lease_s": LEASE_S},
        }
        with (self.folder / f"{name}.log").open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(PROGRAM), json.dumps(settings), str(self.slurm), stdout=out, stderr=out
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def ask(self, name: str, command: str, **arguments: Any) -> Any:
        return await control.call(self.folder / f"{name}.sock", command, **arguments)

    async def leads(self, name: str) -> bool:
        try:
            return bool(await self.ask(name, "status"))
        except RefloatError:
            return False

    async def stands_by(self, name: str) -> bool:
        try:
            await self.ask(name, "status")
        except Transient as error:
            return "this coordinator is standing by: " in str(error)
        except RefloatError:
            return False
        return False

    async def is_under_way(self) -> bool:
        return any(agent.phase != "IN_SERVICE" for agent in self.cluster.agents.values())

    async def all_done(self) -> bool:
        return all(agent.reboots == 1 and agent.view.flags == {"IDLE"} for agent in self.cluster.agents.values())

    async def wave_of(self, name: str) -> str:
        report = await self.ask(name, "wave_start", spec={"nodes": "n[1-6]", "max_unavailable": 2})
        await eventually(self.is_under_way, within_s=PATIENCE_S)
        return str(report["id"])

    def epochs(self) -> list[int]:
        return sorted({beat.epoch for beat in self.beats if beat.online})


def decode_epoch(payload: bytes) -> int:
    return int(json.loads(payload)["epoch"])


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with running_mosquitto(tmp_path) as port:
        scene = Scene(tmp_path, port)
        tasks = [
            asyncio.ensure_future(scene.link.run()),
            asyncio.ensure_future(ControlServer(scene.slurm, scene.handlers()).serve()),
        ]
        await eventually(lambda: scene.link.connected and scene.slurm.exists())
        for agent in scene.cluster.agents.values():
            scene.cluster.report(agent)
        tasks.append(asyncio.ensure_future(scene.live()))
        yield scene
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_leader_is_killed_in_a_wave_and_the_other_finishes_it_and_gives_the_lead_back_in_order(
    scene: Scene,
) -> None:
    async with scene.coordinator("a") as first:
        await eventually(lambda: scene.leads("a"), within_s=PATIENCE_S)
        async with scene.coordinator("b") as second:
            await eventually(lambda: scene.stands_by("b"), within_s=PATIENCE_S)
            wave = await scene.wave_of("a")
            first.kill()
            await eventually(lambda: scene.leads("b"), within_s=PATIENCE_S)
            await eventually(scene.all_done, within_s=PATIENCE_S)
            await eventually(lambda: _ended(scene, "b", wave), within_s=PATIENCE_S)
            told = await scene.ask("b", "events", limit=1000)
            async with scene.coordinator("a"):
                await eventually(lambda: scene.stands_by("a"), within_s=PATIENCE_S)
                led = max(scene.epochs())
                second.terminate()
                assert await second.wait() == 0
                await eventually(lambda: max(scene.epochs()) > led, within_s=PATIENCE_S)

    assert not scene.cluster.violations
    assert scene.cluster.max_out <= 2
    assert sorted(event["node"] for event in told if event["kind"] == "resumed") == NODES


async def test_a_leader_that_was_stopped_for_longer_than_its_lease_acts_no_more(scene: Scene) -> None:
    async with scene.coordinator("a") as first:
        await eventually(lambda: scene.leads("a"), within_s=PATIENCE_S)
        async with scene.coordinator("b") as second:
            await eventually(lambda: scene.stands_by("b"), within_s=PATIENCE_S)
            wave = await scene.wave_of("a")
            await _stop_between_transactions(scene, first)
            await eventually(lambda: scene.leads("b"), within_s=PATIENCE_S)
            before = len(scene.writes)
            os.kill(first.pid, signal.SIGCONT)
            await eventually(lambda: scene.stands_by("a"), within_s=PATIENCE_S)
            await eventually(lambda: _ended(scene, "b", wave), within_s=PATIENCE_S)
            log = (scene.folder / "a.log").read_text()

    assert first.returncode is not None
    assert {pid for pid, _ in scene.writes[before:]} <= {second.pid}
    assert "leadership_lost" in log
    assert not scene.cluster.violations
    assert scene.cluster.max_out <= 2


async def test_of_two_with_a_ledger_each_the_one_that_leads_goes_on_leading(scene: Scene) -> None:
    async with scene.coordinator("a") as first:
        await eventually(lambda: scene.leads("a"), within_s=PATIENCE_S)
        async with scene.coordinator("b", "other"):
            await eventually(lambda: scene.stands_by("b"), within_s=PATIENCE_S)
            led = max(scene.epochs())
            first.kill()
            await eventually(lambda: max(scene.epochs()) > led, within_s=PATIENCE_S)


async def _ended(scene: Scene, name: str, wave: str) -> bool:
    shown = await scene.ask(name, "wave_show", id=wave)
    return bool(shown["report"]["state"] == "done")


async def _stop_between_transactions(scene: Scene, process: asyncio.subprocess.Process) -> None:
    """Stop it where it does not hold the ledger's lock: that would keep everybody out until it ends."""
    import sqlite3  # noqa: PLC0415 - only here

    while True:
        os.kill(process.pid, signal.SIGSTOP)
        db = sqlite3.connect(scene.folder / "state" / LEDGER_FILE, timeout=0)
        try:
            db.execute("BEGIN IMMEDIATE").connection.rollback()
        except sqlite3.OperationalError:
            os.kill(process.pid, signal.SIGCONT)
        else:
            return
        finally:
            db.close()
        await asyncio.sleep(0.01)
