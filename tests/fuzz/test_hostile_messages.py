# SPDX-License-Identifier: Apache-2.0
"""Who can say anything at all over MQTT, or on the control socket, makes no node act and no daemon fall over."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from brokers import running_broker
from fakes import FakeClock, FakeProcesses, World
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from refloat_agent.bus import Bus
from refloat_agent.daemon import Agent
from refloat_agent.effects.slurm import AgentSlurm
from refloat_agent.simulated import SimulatedMachine
from refloat_agent.spool import Spool
from refloat_cli.demo.cluster import CLUSTER, DemoCluster, Plan
from refloat_contract.messages import CoordinatorStatus, Message, OperatorRequest, Order, SlurmView, encode
from refloat_contract.topics import NODE_KINDS, Kind, Topics
from refloat_contract.words import OrderKind
from refloat_coordinator.bus import Inbox
from refloat_coordinator.clock import SteadyClock
from refloat_coordinator.operators.operations import EFFECTS, is_look
from refloat_coordinator.operators.over_mqtt import Operators
from refloat_service import control
from refloat_service.control import ControlServer, Handler
from refloat_service.mqtt import MqttSettings, Publication
from refloat_slurm.gateway import AdminLevel
from refloat_slurm.simulated import SimulatedSlurmctld, run

TOPICS = Topics("c")
NODE, CALLS = "n1", 60
ALICE = "refloat-operator-alice"

KINDS = st.sampled_from([str(kind) for kind in OrderKind] + ["reboot", "", "GRANT"])
NUMBERS = st.one_of(st.integers(), st.floats(), st.just(2**70), st.just(-1))
WORDS = st.one_of(st.sampled_from([NODE, "n2", "reboot", "c1", "grant"]), st.text(max_size=20))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS), lambda v: st.lists(v, max_size=3), max_leaves=4
)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["v", "id", "node", "kind", "epoch", "request", "cycle", "ttl_s", "flags", "reason", "seq", "at", "online"]
    ),
    VALUES,
)
PAYLOADS = st.one_of(
    st.binary(max_size=60),
    FIELDS.map(lambda fields: json.dumps(fields).encode()),
    st.builds(
        lambda kind, more: json.dumps({"v": 1, "id": "o", "node": NODE, "kind": kind, "epoch": 1, **more}).encode(),
        KINDS,
        FIELDS,
    ),
)
PLACES = st.one_of(
    st.sampled_from([TOPICS.node(NODE, kind) for kind in sorted(NODE_KINDS)]),
    st.sampled_from([TOPICS.coordinator(), TOPICS.wave("w1"), TOPICS.answer(ALICE), "refloat/v9/c/node/n1/order", "x"]),
)


@settings(max_examples=30, deadline=None, database=None)
@given(st.lists(st.tuples(PLACES, PAYLOADS, st.booleans()), max_size=6))
def test_no_message_gives_leave_that_nobody_asked_for(said: list[tuple[str, bytes, bool]]) -> None:
    world = World()
    clock = FakeClock(world)
    slurm = AgentSlurm(None, NODE, clock, FakeProcesses(world))  # type: ignore[arg-type]  # no gateway is asked here
    bus = Bus(
        MqttSettings(),
        cluster="c",
        node=NODE,
        clock=clock,
        slurm=slurm,
        spool=Spool(Path("/nowhere")),
        wake=lambda: None,
    )

    with capture_logs():
        for topic, payload, retained in said:
            bus._hear(topic, payload, retained)

    assert bus.permit().granted == ""
    facts = slurm.latest()
    assert facts is None or not facts.fresh


class Forger:
    """Somebody with every right at the broker, who says that n1 is to reboot in every way that there is."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._topics = Topics(CLUSTER)

    async def say_everything(self) -> None:
        """All of it, with numbers that rise, as the coordinator's do."""
        for seq in range(1, 31):
            for flags, reason in (
                ({"IDLE", "DRAIN"}, "reboot"),
                ({"DOWN", "DRAIN"}, "rebooting refloat=c1 boot=aaaaaaaa"),
            ):
                await self._say(self._topics.coordinator(), self._beat(seq))
                await self._say(self._topics.node(NODE, Kind.SLURM), self._view(seq, flags, reason))
            for kind in OrderKind:
                order = Order(id=f"o{seq}", node=NODE, kind=kind, epoch=99, request=f"r{seq}", cycle="c1")
                await self._say(self._topics.node(NODE, Kind.ORDER), order)
            await asyncio.sleep(0.02)

    @staticmethod
    def _beat(seq: int) -> CoordinatorStatus:
        return CoordinatorStatus(online=True, epoch=99, seq=seq, period_s=0.5, slurm_ok=True)

    @staticmethod
    def _view(seq: int, flags: set[str], reason: str) -> SlurmView:
        return SlurmView.model_validate(
            {
                "node": NODE,
                "flags": sorted(flags),
                "reason": reason,
                "reason_user": "root",
                "reason_at": int(time.time()),
                "boot_time": 1.0,
                "epoch": 99,
                "seq": seq,
                "at": time.time(),
            }
        )

    async def _say(self, topic: str, message: Message) -> None:
        await self._client.publish(topic, encode(message), qos=1, retain=True)


async def test_whatever_is_forged_over_mqtt_a_node_that_slurm_has_in_service_stays_so(tmp_path: Path) -> None:
    slurmctld = SimulatedSlurmctld([NODE], clock=time.time)
    async with running_broker() as broker:
        cluster = DemoCluster(Plan(nodes=1), tmp_path, slurmctld, broker.port)
        wanted = cluster.agent_settings(NODE)
        machine = SimulatedMachine(NODE, tmp_path / "tree", slurmctld, wanted.storage, daemons=("nvidia-persiste",))
        machine.start(first=True)
        agent = Agent(wanted, cluster.gateway(), machine=machine.machine())
        tasks = [asyncio.create_task(agent.run()), asyncio.create_task(run(slurmctld, 0.05))]
        try:
            async with aiomqtt.Client("127.0.0.1", broker.port, identifier="forger") as client:
                async with asyncio.timeout(10):
                    while not (agent.bus.connected and agent.health.is_known):  # noqa: ASYNC110 - it has no event
                        await asyncio.sleep(0.02)
                looks = agent.loop.ticks if agent.loop is not None else 0
                await Forger(client).say_everything()
            state = agent.loop.state if agent.loop is not None else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    shown = slurmctld.view(NODE)
    assert state is not None
    assert agent.loop is not None
    assert agent.loop.ticks > looks  # it was heard, and made the agent look at Slurm itself
    assert state.cycle is None
    assert not machine.rebooting.is_set()
    assert "DRAIN" not in shown.flags
    assert shown.reason == ""


ASKED = {"v": 1, "id": "0" * 32, "operator": ALICE, "command": "wave_start", "ticket": "t", "arguments": {}}
REQUESTS = st.one_of(
    PAYLOADS,
    st.dictionaries(
        st.sampled_from(list(ASKED)), st.one_of(VALUES, st.sampled_from(list(ASKED.values()))), max_size=6
    ).map(lambda fields: json.dumps({**ASKED, **fields}).encode()),
    st.sampled_from(["status", "wave_plan", "breaker_close", "wave_abort", "explode"]).map(
        lambda command: json.dumps({**ASKED, "command": command}).encode()
    ),
)


@settings(max_examples=30, deadline=None, database=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([ALICE, "refloat-operator-bob", NODE, "refloat-operator"]), REQUESTS), max_size=8
    )
)
def test_whatever_an_operator_sends_nothing_is_done_without_slurms_word_and_the_next_is_answered(
    said: list[tuple[str, bytes]],
) -> None:
    deeds, published = Deeds(), []

    async def no_one(_user: str) -> AdminLevel:
        return AdminLevel.NONE

    async def publish(publication: Publication) -> None:
        published.append(publication)

    async def story() -> None:
        handlers: dict[str, Handler] = dict.fromkeys(EFFECTS, deeds.act) | {"status": deeds.status}
        changes = {name: handler for name, handler in handlers.items() if name == "status" or not is_look(name)}
        operators = Operators(changes, no_one, publish, TOPICS, SteadyClock(), "act")
        inbox = Inbox(SteadyClock(), lambda: None, operators.put)
        works = [asyncio.create_task(work) for work in operators.works().values()]
        for name, payload in said:
            inbox.receive(TOPICS.asks(name), payload, lambda: None)
        await asyncio.sleep(0)
        last = OperatorRequest(id="f" * 32, operator="refloat-operator-carol", command="status")
        inbox.receive(TOPICS.asks(last.operator), encode(last), lambda: None)
        async with asyncio.timeout(5):
            while TOPICS.answer(last.operator) not in {one.topic for one in published}:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    with capture_logs():
        asyncio.run(story())

    assert deeds.done == 0
    assert {one.topic for one in published} <= {
        TOPICS.answer(f"refloat-operator-{user}") for user in ("alice", "bob", "carol")
    }


class Deeds:
    """A daemon that counts what it is made to do."""

    def __init__(self) -> None:
        self.done = 0

    async def act(self, _: dict[str, Any]) -> str:
        self.done += 1
        return "done"

    async def status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"node": NODE}


LINES = (
    b'{"command": "status", "arguments": {}}',
    b'{"command": "act", "arguments": 3}',
    b'{"command": ["act"]}',
    b'{"command": null}',
    b"[" * 5000,
    b'{"a":' * 5000,
    b"\xff\xfe\0",
    b"",
    b'"act"',
    b'{"command": "act\\u0000"}',
    b'{"command": "../act", "arguments": {"__class__": "x"}}',
    b'{"command": "status", "arguments": {"deep": ' + b"[" * 3000 + b"]" * 3000 + b"}}",
    b"9" * 5000,
)


@contextlib.asynccontextmanager
async def serving(path: Path, deeds: Deeds) -> AsyncIterator[None]:
    server = asyncio.create_task(
        ControlServer(path, {"act": deeds.act, "status": deeds.status}, acting={"act"}).serve()
    )
    try:
        async with asyncio.timeout(5):
            while not path.exists():  # noqa: ASYNC110, ASYNC240 - a file has no event
                await asyncio.sleep(0.005)
        yield
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


async def said_back(path: Path, line: bytes) -> list[dict[str, Any]]:
    """Send this and hang up for writing; every line of the answer."""
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 22)
    with contextlib.suppress(ConnectionError):
        writer.write(line)
        writer.write_eof()
        await writer.drain()
    answer = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(5):
            answer = await reader.read()
    writer.close()
    return [json.loads(each) for each in answer.splitlines()]


async def test_whatever_comes_on_the_control_socket_is_answered_and_the_next_is_served(tmp_path: Path) -> None:
    dice, deeds, path = random.Random(3), Deeds(), tmp_path / "c.sock"  # noqa: S311 - the same on every run
    async with serving(path, deeds):
        for line in (*LINES, *(spoiled(dice) for _ in range(CALLS))):
            for answer in await said_back(path, line + b"\n"):
                assert set(answer) <= {"result", "error"}
        alive = await control.call(path, "status")

    assert alive == {"node": NODE}
    assert deeds.done == 0


async def test_a_request_without_end_is_refused_and_not_kept(tmp_path: Path) -> None:
    async with serving(tmp_path / "c.sock", Deeds()):
        answers = await said_back(tmp_path / "c.sock", b"a" * (3 << 20))

    assert not answers or answers[0]["error"]["kind"] == "bad_message"


def spoiled(dice: random.Random) -> bytes:
    """A request with some of its bytes changed; never the one that acts."""
    line = bytearray(dice.choice(LINES[:4] + LINES[8:11]))
    for _ in range(dice.randint(1, 6)):
        line[dice.randrange(len(line))] = dice.randrange(256)
    return bytes(line).replace(b'"act"', b'"axt"').replace(b"\n", b" ")


@pytest.mark.parametrize("line", LINES)
async def test_no_request_is_quoted_back_at_length(tmp_path: Path, line: bytes) -> None:
    async with serving(tmp_path / "c.sock", Deeds()):
        answers = await said_back(tmp_path / "c.sock", line + b"\n")

    assert all(len(json.dumps(answer)) < 2000 for answer in answers)
