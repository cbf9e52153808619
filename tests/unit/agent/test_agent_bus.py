# SPDX-License-Identifier: Apache-2.0
"""The agent's bus against a real broker, with a coordinator played by the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from brokers import TestBroker, running_broker
from fakes import FakeClock, FakeProcesses, World

from refloat_agent.bus import ABSENT_AFTER_S, Bus
from refloat_agent.effects.slurm import AgentSlurm
from refloat_agent.spool import Spool
from refloat_contract.messages import (
    CoordinatorStatus,
    Event,
    Message,
    NodeReport,
    NodeStatus,
    Order,
    Request,
    SlurmView,
    decode,
    encode,
)
from refloat_contract.words import EventKind, OrderKind, Phase, Purpose
from refloat_service.mqtt import MqttSettings

ROOT = "refloat/v1/c1"


@dataclass
class Scene:
    """One agent's bus, and the broker between it and the test."""

    bus: Bus
    slurm: AgentSlurm
    spool: Spool
    world: World
    broker: TestBroker
    client: aiomqtt.Client
    heard: list[tuple[str, bytes, bool]] = field(default_factory=list)

    async def until(self, true: Any) -> None:
        """Wait until this holds; a test's own time limit is the deadline."""
        while not true():  # noqa: ASYNC110 - what is waited for happens in the product, which has no such event
            await asyncio.sleep(0.005)

    async def say(self, topic: str, message: Message | bytes, *, retain: bool = False) -> None:
        payload = message if isinstance(message, bytes) else encode(message)
        await self.client.publish(topic, payload, qos=1, retain=retain)

    def of(self, kind: str) -> list[bytes]:
        return [payload for topic, payload, _ in self.heard if topic.endswith(f"/{kind}") and "/node/" in topic]

    async def beat(self, epoch: int = 1, seq: int = 1) -> None:
        status = CoordinatorStatus(online=True, epoch=epoch, seq=seq, period_s=5.0, slurm_ok=True)
        await self.say(f"{ROOT}/coordinator/status", status)
        await self.until(lambda: self.bus.permit().coordinator)

    async def ask(self) -> Request:
        before = len(self.of("request"))
        await self.bus.ask("c1", Purpose.CYCLE, "reboot", "w1")
        await self.until(lambda: len(self.of("request")) > before)
        return decode(Request, self.of("request")[-1])

    async def order(self, **changes: Any) -> None:
        order = {"id": "o", "node": "n1", "kind": OrderKind.GRANT, "epoch": 1, "request": "", "cycle": "c1", **changes}
        await self.say(f"{ROOT}/node/n1/order", Order(**order))


async def _listen(scene: Scene) -> None:
    async for message in scene.client.messages:
        if isinstance(message.payload, bytes):
            scene.heard.append((message.topic.value, message.payload, message.retain))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    world = World()
    clock = FakeClock(world)
    async with running_broker() as broker:
        slurm = AgentSlurm(None, "n1", clock, FakeProcesses(world))  # type: ignore[arg-type]  # no gateway is asked here
        spool = Spool(tmp_path / "events.jsonl")
        settings = MqttSettings(host="127.0.0.1", port=broker.port)
        bus = Bus(settings, cluster="c1", node="n1", clock=clock, slurm=slurm, spool=spool, wake=lambda: None)
        async with aiomqtt.Client("127.0.0.1", broker.port, identifier="test") as client:
            await client.subscribe("refloat/#", qos=1)
            scene = Scene(bus, slurm, spool, world, broker, client)
            tasks = [asyncio.create_task(_listen(scene)), asyncio.create_task(bus.run())]
            await scene.until(lambda: bus.connected)
            yield scene
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                    await task


async def test_a_grant_of_what_was_asked_is_taken(scene: Scene) -> None:
    await scene.beat()
    request = await scene.ask()
    assert (request.cycle, request.recipe, request.wave, request.node) == ("c1", "reboot", "w1", "n1")

    await scene.order(request=request.id)

    await scene.until(lambda: scene.bus.permit().granted == "c1")


async def test_a_denial_tells_why_and_a_later_grant_is_taken(scene: Scene) -> None:
    await scene.beat()
    request = await scene.ask()
    await scene.order(kind=OrderKind.DENY, request=request.id, why="budget: n2 is out", retry_after_s=10.0)
    await scene.until(lambda: scene.bus.permit().denied)
    assert scene.bus.permit().denied_why == "budget: n2 is out"
    assert (scene.bus.permit().rests, scene.bus.permit().again_s) == (True, scene.world.now_s + 10.0)
    await scene.bus.ask("c1", Purpose.CYCLE, "reboot", "w1")
    assert len(scene.of("request")) == 1

    scene.world.now_s += 11.0
    assert not scene.bus.permit().rests
    again = await scene.ask()
    await scene.order(request=again.id)

    await scene.until(lambda: scene.bus.permit().granted == "c1")
    assert not scene.bus.permit().denied


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"request": "an-older-one"}, "answer_to_nothing"),
        ({"cycle": "another"}, "answer_to_nothing"),
        ({"epoch": 0}, "stale_epoch"),
        ({"node": "n2"}, "not_for_us"),
    ],
)
async def test_a_grant_that_answers_nothing_is_ignored_and_counted(
    scene: Scene, changes: dict[str, Any], kind: str
) -> None:
    await scene.beat()
    request = await scene.ask()

    await scene.order(**{"request": request.id, **changes})

    await scene.until(lambda: scene.bus.ignored[kind])
    assert scene.bus.permit().granted == ""


async def test_a_grant_that_comes_too_late_is_expired(scene: Scene) -> None:
    await scene.beat()
    request = await scene.ask()
    scene.world.now_s += 61.0

    await scene.order(request=request.id)

    await scene.until(lambda: scene.bus.ignored["expired"])
    assert scene.bus.permit().granted == ""


async def test_a_poke_makes_the_agent_doubt_what_it_knows(scene: Scene) -> None:
    view = SlurmView(node="n1", epoch=1, seq=1, flags=("IDLE",))
    await scene.say(f"{ROOT}/node/n1/slurm", view, retain=True)
    await scene.beat()
    await scene.until(lambda: scene.slurm.latest() is not None)

    await scene.order(kind=OrderKind.POKE)

    await scene.until(lambda: scene.slurm.latest() is None)


async def test_a_grant_may_be_withdrawn(scene: Scene) -> None:
    await scene.beat()
    request = await scene.ask()
    await scene.order(request=request.id)
    await scene.until(lambda: scene.bus.permit().granted)

    await scene.order(kind=OrderKind.CANCEL)

    await scene.until(lambda: not scene.bus.permit().granted)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (f"{ROOT}/node/n1/order", b"not json"),
        (f"{ROOT}/node/n1/slurm", b'{"v": 2}'),
        ("refloat/v2/c1/node/n1/order", b"{}"),
        (f"{ROOT}/coordinator/status", b"\xff"),
    ],
)
async def test_a_malformed_message_is_counted_and_nothing_else(scene: Scene, topic: str, payload: bytes) -> None:
    await scene.say(topic, payload)

    await scene.until(lambda: scene.bus.ignored["malformed"] == 1)
    assert scene.bus.connected


async def test_events_are_told_in_order_and_none_is_lost_when_the_broker_restarts(scene: Scene) -> None:
    events = [Event(id=f"e{n}", node="n1", at_ns=n, kind=EventKind.HOLD, title="t", message="m") for n in range(6)]
    await scene.bus.deliver(events[:3])
    await scene.until(lambda: scene.spool.waiting == 0)
    await scene.broker.stop()
    await scene.until(lambda: not scene.bus.connected)
    await scene.bus.deliver(events[3:])
    assert scene.spool.waiting == 3

    await scene.broker.start()
    await scene.until(lambda: scene.spool.waiting == 0)

    def told() -> list[str]:
        events = [decode(Event, payload).id for topic, payload in scene.broker.published if topic.endswith("/event")]
        return list(dict.fromkeys(events))

    # amqtt acknowledges a message before it passes it on.
    await scene.until(lambda: len(told()) == len(events))
    assert told() == [event.id for event in events]


async def test_the_status_is_retained_and_not_repeated_while_it_is_no_news(scene: Scene) -> None:
    report = NodeReport(at=1.0, boot_id="b", phase=Phase.IN_SERVICE, since=0.0)
    for at in (1.0, 2.0, 3.0):
        scene.bus.report(report.model_copy(update={"at": at}))
        await asyncio.sleep(0.02)
    scene.bus.report(report.model_copy(update={"phase": Phase.HELD}))
    await scene.until(lambda: len(scene.of("status")) >= 2)

    told = [decode(NodeStatus, payload).report for payload in scene.of("status")]
    assert [each.phase for each in told if each] == [Phase.IN_SERVICE, Phase.HELD]
    async with aiomqtt.Client("127.0.0.1", scene.broker.port, identifier="late") as late:
        await late.subscribe(f"{ROOT}/node/n1/status", qos=1)
        first = await anext(late.messages)
    assert first.retain
    assert isinstance(first.payload, bytes)
    assert decode(NodeStatus, first.payload).online


async def test_the_feed_is_fresh_while_the_coordinator_s_heart_beats_and_stale_after(scene: Scene) -> None:
    view = SlurmView(node="n1", epoch=1, seq=1, flags=("IDLE", "DRAIN"), reason="reboot")
    await scene.say(f"{ROOT}/node/n1/slurm", view, retain=True)
    await scene.beat()
    await scene.until(lambda: scene.slurm.latest() is not None)
    latest = scene.slurm.latest()
    assert latest is not None
    assert (latest.fresh, latest.from_feed, latest.view.reason) == (False, True, "reboot")

    scene.world.now_s += 16.0

    assert scene.slurm.latest() is None
    assert scene.bus.permit().coordinator is False


async def test_a_coordinator_that_another_took_the_lead_from_is_not_heard_any_more(scene: Scene) -> None:
    await scene.beat(epoch=2)
    await scene.beat(epoch=1, seq=9)
    await scene.say(f"{ROOT}/coordinator/status", CoordinatorStatus(online=False, epoch=1))
    request = await scene.ask()
    await scene.order(request=request.id, epoch=1)
    await scene.until(lambda: scene.bus.ignored["stale_epoch"] == 3)
    assert scene.bus.permit().coordinator

    await scene.order(request=request.id, epoch=2)
    await scene.until(lambda: scene.bus.permit().granted)


async def test_once_nobody_is_heard_an_earlier_epoch_will_do(scene: Scene) -> None:
    await scene.beat(epoch=57)
    scene.world.now_s += ABSENT_AFTER_S + 1
    await scene.beat(epoch=1)
    request = await scene.ask()

    await scene.order(request=request.id, epoch=1)
    await scene.until(lambda: scene.bus.permit().granted)


async def test_a_retained_heartbeat_proves_no_life(scene: Scene) -> None:
    status = CoordinatorStatus(online=True, epoch=1, seq=1, slurm_ok=True)

    scene.bus._hear(f"{ROOT}/coordinator/status", encode(status), retained=True)

    assert scene.bus.permit().coordinator is None
    scene.world.now_s += 16.0
    assert scene.bus.permit().coordinator is False
    assert scene.slurm.feed_age_s() is None


async def test_flushing_waits_for_what_can_be_told(scene: Scene) -> None:
    event = Event(id="e", node="n1", at_ns=1, kind=EventKind.REBOOT, title="t", message="m")
    await scene.bus.deliver([event])

    await scene.bus.flush()

    assert scene.spool.waiting == 0


async def test_leave_for_an_idle_check_is_asked_for_beside_a_permit(scene: Scene) -> None:
    await scene.beat()
    permit = await scene.ask()
    asking = asyncio.create_task(scene.bus.ask_idle("burn"))
    await scene.until(lambda: len(scene.of("request")) == 2)
    asked = decode(Request, scene.of("request")[-1])

    await scene.order(request=asked.id, cycle="burn", kind=OrderKind.DENY, why="enough")
    assert await asking == "enough"
    await scene.order(request=permit.id)
    await scene.until(lambda: scene.bus.permit().granted)

    assert (asked.purpose, asked.cycle) == (Purpose.IDLE, "burn")
    assert scene.bus.permit().granted == "c1"
