# SPDX-License-Identifier: Apache-2.0
import re
from typing import Any

import pytest
from pydantic_core import to_json
from unit.coordinator.cluster import TOPICS, Agent, Cluster, Run
from unit.coordinator.world import T0, request

from refloat_contract.errors import BadMessage, Refused
from refloat_contract.messages import Failure, NodeReport, NodeStatus, Order, Request, decode, encode
from refloat_contract.topics import Kind
from refloat_contract.words import EventKind, Phase, Purpose, RequestKind, Verdict
from refloat_coordinator.loop import Loop
from refloat_coordinator.operators.budget_desk import BudgetDesk
from refloat_coordinator.permits.boots import BootRule
from refloat_coordinator.permits.breaker import Trip
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.rules import Rules
from refloat_coordinator.record.ledger import Ledger

NAMES = tuple(f"n{number}" for number in range(1, 9))


class Room:
    """A desk over a loop that has read eight nodes."""

    def __init__(self, ledger: Ledger) -> None:
        self.cluster = Cluster({name: Agent(name) for name in NAMES})
        self.run = Run(self.cluster, ledger, 1)
        self.loop: Loop = self.run.loop
        self.loop.rule(
            Rules(
                fixed=(Limit("cluster", Amount(2)),),
                health=Amount(1),
                boot=BootRule(at_once=Amount(1)),
                partitions={"gpu": Amount(1)},
                told={},
            )
        )
        self.desk = BudgetDesk(self.loop, self.cluster.clock, {"groups": "/etc/racks:3: no group"})

    async def ask(self, command: str, **arguments: Any) -> Any:
        answer = await self.desk.handlers()[command](arguments)  # type: ignore[misc]
        to_json(answer)
        return answer

    async def hears(self, *messages: NodeStatus | Request) -> None:
        for message in messages:
            kind = Kind.STATUS if isinstance(message, NodeStatus) else Kind.REQUEST
            self.run.inbox.receive(TOPICS.node(message.node, kind), encode(message), lambda: None)
        await self.run.turn(1)


@pytest.fixture
async def room(ledger: Ledger) -> Room:
    room = Room(ledger)
    await room.run.turn(1)
    return room


def failing(node: str) -> NodeStatus:
    report = NodeReport(
        at=1.0,
        boot_id="b",
        phase=Phase.IN_SERVICE,
        since=1.0,
        verdict=Verdict.UNHEALTHY,
        failing=(Failure(check="lustre", message="stale"),),
    )
    return NodeStatus(node=node, online=True, report=report)


async def test_who_uses_a_limit_is_told_with_why_and_since_when(room: Room) -> None:
    room.cluster.agents["n3"].flags = frozenset({"DOWN", "NOT_RESPONDING"})
    asked = request("n1", wave="").model_copy(update={"recipe": "reboot", "cause": "gpu"})
    await room.hears(asked)
    answer = await room.ask("budget")

    by_name = {one["limit"]: one for one in answer["limits"]}
    assert list(by_name) == ["cluster", "health_drain", "boot", "idle checks"]
    assert by_name["cluster"] == {
        "limit": "cluster",
        "allowed": 2,
        "used": 2,
        "word": "out",
        "holders": [
            {"node": "n1", "why": "permit: reboot for gpu", "since": T0 + 2},
            {"node": "n3", "why": "down", "since": 0.0},
        ],
    }
    assert [holder["node"] for holder in by_name["boot"]["holders"]] == ["n1"]
    assert answer["warnings"] == [
        "Slurm has no partition 'gpu': its limit binds nothing",
        "groups: /etc/racks:3: no group",
    ]


async def test_an_incident_is_shown_and_closed_and_both_are_in_the_record(room: Room, ledger: Ledger) -> None:
    room.loop.breaker = type(room.loop.breaker)(Trip(percent=10, nodes=3))
    await room.hears(*(failing(name) for name in NAMES[:3]))
    health = request("n1", "h1", purpose=Purpose.HEALTH)
    await room.hears(health)
    denied = dict(room.loop.permits)
    shown = await room.ask("budget")
    closed = await room.ask("breaker_close", id="lustre")
    await room.hears(health)
    listed = await room.ask("breaker_list")

    assert denied == {}
    assert [(one["id"], one["failing"], one["closed_by"]) for one in shown["incidents"]] == [
        ("b1", ["n1", "n2", "n3"], "")
    ]
    assert (closed["id"], closed["closed_by"], closed["failing"]) == ("b1", "somebody", [])
    assert [one["id"] for one in listed] == ["b1"]
    assert list(room.loop.permits) == ["n1"]
    told = [event.kind for event in await ledger.events(kinds=[EventKind.INCIDENT_OPENED, EventKind.INCIDENT_CLOSED])]
    assert told == [EventKind.INCIDENT_OPENED, EventKind.INCIDENT_CLOSED]
    assert [one.closed_by for one in await ledger.load_incidents()] == ["somebody"]


async def test_an_incident_outlives_the_coordinator(room: Room, ledger: Ledger) -> None:
    room.loop.breaker = type(room.loop.breaker)(Trip(percent=10, nodes=3))
    await room.hears(*(failing(name) for name in NAMES[:3]))
    again = Run(room.cluster, ledger, 2)
    await again.loop.load()

    assert [one.check for one in again.loop.breaker.open] == ["lustre"]


async def test_what_is_not_open_cannot_be_closed(room: Room) -> None:
    with pytest.raises(Refused, match="no incident 'b9' is open"):
        await room.ask("breaker_close", id="b9")
    with pytest.raises(BadMessage):
        await room.ask("breaker_close")


async def test_leave_for_idle_checks_is_shown(room: Room) -> None:
    leaves = room.loop.leaves
    room.loop.leaves = type(leaves)(most=2, since=T0 - 1000)
    await room.hears(request("n5", "scratch-speed", purpose=Purpose.IDLE, kind=RequestKind.PERMIT))
    answer = await room.ask("budget")

    assert answer["limits"][-1]["used"] == 1
    assert [holder["node"] for holder in answer["limits"][-1]["holders"]] == ["n5"]


async def test_a_node_that_is_new_in_slurm_is_in_its_rack_at_once(room: Room) -> None:
    room.loop.rule(Rules(per_group={"rack": Amount(1)}, patterns=(("rack", re.compile(r"(r\d+)n\d+")),)))
    for name in ("r1n1", "r1n2"):
        room.cluster.agents[name] = Agent(name)
    await room.run.turn(1)
    await room.hears(request("r1n1"), request("r1n2"))

    assert list(room.loop.permits) == ["r1n1"]


async def test_those_who_are_denied_come_again_one_after_the_other(room: Room) -> None:
    room.loop.rule(Rules(fixed=(Limit("cluster", Amount(0)),)))
    for name in NAMES:
        room.run.inbox.receive(TOPICS.node(name, Kind.REQUEST), encode(request(name)), lambda: None)
    await room.loop.step()
    orders = [decode(Order, one.payload) for one in room.run.posted if one.topic.endswith("/order")]
    pauses = [order.retry_after_s for order in orders]

    assert len(pauses) == len(NAMES)
    assert pauses == sorted(set(pauses))


async def test_a_remedy_waits_while_its_check_is_an_incident_and_a_cycle_by_hand_does_not(room: Room) -> None:
    room.loop.breaker = type(room.loop.breaker)(Trip(percent=10, nodes=3))
    await room.hears(*(failing(name) for name in NAMES[:3]))
    remedy = request("n1").model_copy(update={"cause": "lustre"})
    await room.hears(remedy, request("n2", "c2"))

    assert list(room.loop.permits) == ["n2"]
