# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from brokers import TestBroker, free_port, running_broker
from unit.coordinator.world import eventually

from refloat_contract.errors import Corrupt, Misconfigured
from refloat_contract.messages import (
    CoordinatorStatus,
    Message,
    NodeReport,
    NodeStatus,
    Order,
    Request,
    SlurmView,
    WaveReport,
    decode,
    encode,
)
from refloat_contract.topics import Kind, Topics
from refloat_contract.words import OrderKind, Phase, RequestKind
from refloat_coordinator.config import CoordinatorSettings, HttpSettings
from refloat_coordinator.daemon import LEDGER_FILE, Coordinator
from refloat_service import control
from refloat_service.mqtt import Link, MqttSettings, Publication
from refloat_slurm.simulated import SimulatedGateway, SimulatedSlurmctld

TOPICS = Topics("cluster")


class Notes:
    """A service manager that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.watchdog_interval_s: float | None = 0.01

    def ready(self, status: str) -> None:
        self.told.append(f"ready: {status}")

    def status(self, text: str) -> None:
        self.told.append(text)

    def watchdog(self) -> None:
        self.told.append("watchdog")

    def stopping(self, text: str) -> None:
        self.told.append(text)


class Site:
    """A broker, a simulated slurmctld, an agent's ear, and settings that fit."""

    def __init__(self, broker: TestBroker, folder: Path) -> None:
        self.heard: dict[str, bytes] = {}
        self.notes = Notes()
        self.slurm = SimulatedSlurmctld(["n1"], clock=time.time)
        self.slurm.register("n1", time.time() - 60)
        self.settings = CoordinatorSettings.model_validate(
            {
                "mqtt": {"host": "127.0.0.1", "port": broker.port, "username": "c", "reconnect_min_s": 0.05},
                "state_dir": folder,
                "socket": folder / "c.sock",
                "feed": {"period_s": 0.1},
                "http": {"listen": ""},
            }
        )
        mqtt = MqttSettings(host="127.0.0.1", port=broker.port, username="n1")
        self.agent = Link(mqtt, client_id="n1", subscriptions=["refloat/#"], on_message=self._hear)

    def _hear(self, topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001 - the link's signature
        self.heard[topic] = payload

    async def ask(self, command: str, **arguments: Any) -> Any:
        return await control.call(self.settings.socket, command, **arguments)

    async def say(self, kind: Kind, message: Message) -> None:
        await self.agent.publish(Publication(TOPICS.node("n1", kind), encode(message), retain=kind is Kind.STATUS))

    async def hears(self, topic: str) -> bytes:
        async def has_come() -> bool:
            return topic in self.heard

        await eventually(has_come)
        return self.heard[topic]

    @contextlib.asynccontextmanager
    async def coordinator(self) -> AsyncIterator[None]:
        daemon = Coordinator(self.settings, gateway=SimulatedGateway(self.slurm), notifier=self.notes)
        running = asyncio.create_task(daemon.run())
        try:
            async with asyncio.timeout(5):
                await daemon.ready.wait()

            async def is_heard() -> bool:
                return self.is_vouched()

            await eventually(is_heard)
            yield
        finally:
            daemon.stop()
            async with asyncio.timeout(5):
                await running

    def is_vouched(self) -> bool:
        beat = self.heard.get(TOPICS.coordinator())
        return beat is not None and decode(CoordinatorStatus, beat).slurm_ok


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_broker(anonymous=False) as broker:
        site = Site(broker, tmp_path)
        listening = asyncio.create_task(site.agent.run())

        async def is_up() -> bool:
            return site.agent.connected

        await eventually(is_up)
        yield site
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


def in_service() -> NodeStatus:
    report = NodeReport(at=1.0, boot_id="b", phase=Phase.IN_SERVICE, since=1.0)
    return NodeStatus(node="n1", online=True, report=report)


async def test_feed_permit_and_wave_through_a_real_broker_and_socket(site: Site) -> None:
    async with site.coordinator():
        view = decode(SlurmView, await site.hears(TOPICS.node("n1", Kind.SLURM)))
        await site.say(Kind.STATUS, in_service())
        await site.say(Kind.REQUEST, Request(id="r7", node="n1", kind=RequestKind.PERMIT, cycle="c1"))
        order = decode(Order, await site.hears(TOPICS.node("n1", Kind.ORDER)))
        started = await site.ask("wave_start", spec={"nodes": "n1"})

        async def is_marked() -> bool:
            return site.slurm.view("n1").reason == f"reboot wave={started['id']}"

        await eventually(is_marked)
        told = decode(WaveReport, await site.hears(TOPICS.wave(started["id"])))
        rows = await site.ask("status", nodes="n1")

    assert (view.flags, view.epoch) == (("IDLE",), 1)
    assert (order.kind, order.request, order.cycle, order.epoch) == (OrderKind.GRANT, "r7", "c1", 1)
    assert told.id == started["id"]
    assert rows[0]["online"]
    gone = decode(CoordinatorStatus, await site.hears(TOPICS.coordinator()))
    assert (gone.online, gone.epoch) == (False, 1)
    assert next(told for told in site.notes.told if told != "watchdog").startswith("ready: 1 nodes")
    assert "watchdog" in site.notes.told
    assert site.notes.told[-1] == "stopping"


async def test_its_vitals_are_served_over_http(site: Site) -> None:
    port = free_port()
    site.settings = site.settings.model_copy(update={"http": HttpSettings(listen=f"127.0.0.1:{port}")})

    async def page(path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return text

    async with site.coordinator():
        assert (await page("/readyz")).endswith("leads\n")
        assert (await page("/healthz")).endswith("alive\n")
        assert 'refloat_nodes{phase="unheard"} 1.0' in await page("/metrics")


async def test_a_restart_goes_on_with_a_new_epoch_and_the_same_wave(site: Site) -> None:
    async with site.coordinator():
        await site.say(Kind.STATUS, in_service())
        started = await site.ask("wave_start", spec={"nodes": "n1"})
    site.heard.clear()
    async with site.coordinator():
        waves = await site.ask("wave_list")
        view = decode(SlurmView, await site.hears(TOPICS.node("n1", Kind.SLURM)))

    assert [wave["id"] for wave in waves] == [started["id"]]
    assert view.epoch == 2


async def test_a_corrupt_ledger_stops_it_with_one_clear_sentence(site: Site) -> None:
    (site.settings.state_dir / LEDGER_FILE).write_bytes(b"no database at all, but long enough" * 100)

    with pytest.raises(Corrupt, match="move it away"):
        await Coordinator(site.settings, gateway=SimulatedGateway(site.slurm), notifier=site.notes).run()


async def test_a_second_coordinator_on_the_same_socket_is_told_so(site: Site, tmp_path: Path) -> None:
    async with site.coordinator():

        async def serves() -> bool:
            return await asyncio.to_thread(site.settings.socket.exists)

        await eventually(serves)
        other = site.settings.model_copy(update={"state_dir": tmp_path / "other", "cluster": "other"})
        with pytest.raises(Misconfigured, match="already running"):
            await Coordinator(other, gateway=SimulatedGateway(site.slurm), notifier=Notes()).run()
