# SPDX-License-Identifier: Apache-2.0
"""What operators ask over MQTT, without a broker."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs
from unit.coordinator.world import FakeClock, eventually

from refloat_contract.errors import BadMessage, Refused, Transient
from refloat_contract.messages import OperatorAnswer, OperatorRequest, decode
from refloat_contract.operators import Assembly
from refloat_contract.topics import Topics
from refloat_coordinator.operators.over_mqtt import Operators, Rights
from refloat_coordinator.operators.tickets import LIFE_S
from refloat_service import callers
from refloat_service.control import Handler
from refloat_service.mqtt import Publication
from refloat_slurm.gateway import AdminLevel

ALICE = "refloat-operator-alice"


class Accounting:
    """What Slurm says of users, and whom it was asked about."""

    def __init__(self) -> None:
        self.says: AdminLevel | Exception = AdminLevel.OPERATOR
        self.asked: list[str] = []

    async def admin_level(self, user: str) -> AdminLevel:
        self.asked.append(user)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Counter:
    """An operator's counterpart: commands that look, act, hang and break, and all that was answered."""

    def __init__(self, clock: FakeClock, rights: Rights = "act") -> None:
        self.clock = clock
        self.slurm = Accounting()
        self.deeds: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.sent: list[Publication] = []
        self.lost = False
        handlers: dict[str, Handler] = {
            "status": self.status,
            "wave_watch": self.wave_watch,
            "wave_start": self.wave_start,
            "unheard_of": self.wave_start,
            "budget": self.budget,
        }
        self.operators = Operators(handlers, self.slurm.admin_level, self.publish, Topics("c"), clock, rights)
        self._ids = 0

    async def publish(self, publication: Publication) -> None:
        if self.lost:
            raise Transient("lost the broker")
        self.sent.append(publication)

    async def status(self, arguments: dict[str, Any]) -> dict[str, Any]:
        await self.open.wait()
        caller = callers.CALLER.get()
        return {**arguments, "may_act": caller is not None and caller.may_act}

    async def wave_watch(self, _arguments: dict[str, Any]) -> AsyncIterator[str]:
        yield "never"

    async def wave_start(self, _arguments: dict[str, Any]) -> str:
        await self.open.wait()
        self.deeds.append(await callers.name())
        return f"wave {len(self.deeds)}"

    async def budget(self, _arguments: dict[str, Any]) -> None:
        raise ZeroDivisionError

    def request(self, command: str, operator: str = ALICE, **arguments: Any) -> OperatorRequest:
        self._ids += 1
        return OperatorRequest(id=f"{self._ids:032x}", operator=operator, command=command, arguments=arguments)

    async def ask(self, request: OperatorRequest) -> dict[str, Any]:
        before = len(self.sent)
        self.operators.put(request)
        await eventually(lambda: len(self.sent) > before)
        return self.answers(request)[-1]

    def answers(self, request: OperatorRequest) -> list[dict[str, Any]]:
        texts = [Assembly(request.id).add(decode(OperatorAnswer, one.payload)) for one in self.sent]
        return [json.loads(text) for text in texts if text is not None]

    async def change(self, command: str = "wave_start") -> dict[str, Any]:
        """Ask, and ask again with the ticket, as the command line does."""
        request = self.request(command)
        given = await self.ask(request)
        if "ticket" not in given:
            return given
        return await self.ask(request.model_copy(update=given))


@contextlib.asynccontextmanager
async def serving(counter: Counter) -> AsyncIterator[Counter]:
    tasks = [asyncio.create_task(work) for work in counter.operators.works().values()]
    try:
        yield counter
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def counter(clock: FakeClock) -> AsyncIterator[Counter]:
    async with serving(Counter(clock)) as counter:
        yield counter


async def test_a_look_is_answered_as_on_the_socket_and_slurm_is_not_asked(counter: Counter) -> None:
    answer = await counter.ask(counter.request("status", nodes="n1"))

    assert answer == {"result": {"nodes": "n1", "may_act": False}}
    assert counter.slurm.asked == []
    assert {(one.topic, one.retain, one.qos) for one in counter.sent} == {
        ("refloat/v1/c/operator/refloat-operator-alice/answer", False, 1)
    }


async def test_a_change_is_made_by_whom_slurm_lets_and_the_record_has_their_name(counter: Counter) -> None:
    with capture_logs() as lines:
        answer = await counter.change()

    assert answer == {"result": "wave 1"}
    assert (counter.deeds, counter.slurm.asked) == (["alice over MQTT"], ["alice"])
    assert [(line["event"], line["operator"], line["command"]) for line in lines] == [
        ("operator_command", "alice", "wave_start")
    ]


@pytest.mark.parametrize(
    ("says", "kind", "sentence"),
    [
        (AdminLevel.NONE, "refused", "neither operator nor administrator in Slurm's accounting"),
        (Refused("no accounting"), "refused", "does not tell whether alice may: no accounting"),
        (Transient("Connection refused"), "transient", "did not tell whether alice may: Connection refused"),
        (ValueError("not the name of one user"), "transient", "did not tell whether alice may"),
    ],
)
async def test_what_slurm_does_not_allow_or_does_not_tell_is_not_done(
    counter: Counter, says: AdminLevel | Exception, kind: str, sentence: str
) -> None:
    counter.slurm.says = says
    answer = await counter.change()

    assert answer["error"]["kind"] == kind
    assert "nothing was done" in answer["error"]["message"]
    assert sentence in answer["error"]["message"]
    assert counter.deeds == []


async def test_slurm_is_asked_at_each_change(counter: Counter) -> None:
    await counter.change()
    counter.slurm.says = AdminLevel.NONE
    await counter.change()

    assert len(counter.deeds) == 1
    assert counter.slurm.asked == ["alice", "alice"]


async def test_an_operation_that_nobody_has_classified_needs_slurms_word(counter: Counter) -> None:
    counter.slurm.says = AdminLevel.NONE

    assert "nothing was done" in (await counter.change("unheard_of"))["error"]["message"]


async def test_where_operators_may_look_nothing_is_changed_whoever_asks(clock: FakeClock) -> None:
    async with serving(Counter(clock, "look")) as counter:
        answer = await counter.change()
        looked = await counter.ask(counter.request("status"))

    assert "may only look here" in answer["error"]["message"]
    assert "result" in looked
    assert (counter.deeds, counter.slurm.asked) == ([], [])


async def test_a_repeat_while_it_is_being_done_and_after_it_acts_once(counter: Counter) -> None:
    request = counter.request("wave_start")
    request = request.model_copy(update=await counter.ask(request))
    counter.open.clear()
    for _ in range(5):
        counter.operators.put(request)
    await eventually(lambda: counter.slurm.asked == ["alice"])
    counter.open.set()
    await eventually(lambda: len(counter.sent) == 2)
    again = await counter.ask(request)
    counter.clock.time += LIFE_S
    late = await counter.ask(request)

    assert again == {"result": "wave 1"}
    assert "is in the record" in late["error"]["message"]
    assert (len(counter.deeds), counter.slurm.asked) == (1, ["alice"])


async def test_a_repeat_whose_first_answer_was_lost_gets_the_same(counter: Counter) -> None:
    request = counter.request("wave_start")
    request = request.model_copy(update=await counter.ask(request))
    counter.lost = True
    counter.operators.put(request)
    await eventually(lambda: len(counter.deeds) == 1)
    await asyncio.sleep(0.01)
    counter.lost = False

    assert await counter.ask(request) == {"result": "wave 1"}
    assert len(counter.deeds) == 1


async def test_what_has_no_end_or_is_not_known_or_breaks_is_answered_with_a_sentence(counter: Counter) -> None:
    endless = await counter.ask(counter.request("wave_watch"))
    unknown = await counter.ask(counter.request("explode"))
    with capture_logs() as lines:
        broken = await counter.ask(counter.request("budget"))

    assert "on the control socket only" in endless["error"]["message"]
    assert "unknown command 'explode'" in unknown["error"]["message"]
    assert broken["error"] == {
        "kind": "internal",
        "message": "budget failed inside the daemon (ZeroDivisionError); its log has the traceback",
    }
    assert lines[0]["event"] == "operator_command_failed"


@pytest.mark.parametrize("name", ["n1", "refloat-operator", "refloat-coordinator"])
async def test_who_is_no_operator_is_not_answered(counter: Counter, name: str) -> None:
    with pytest.raises(BadMessage, match="is not the name of an operator"):
        counter.operators.put(counter.request("status", operator=name))


async def test_a_flood_of_one_is_dropped_and_others_are_answered(counter: Counter) -> None:
    for _ in range(1000):
        counter.operators.put(counter.request("status"))
        await asyncio.sleep(0)
    counter.clock.time += 1
    others = await counter.ask(counter.request("status", operator="refloat-operator-bob"))
    theirs = await counter.ask(counter.request("status"))

    assert len(counter.sent) < 30
    assert counter.operators.dropped > 970
    assert "result" in others
    assert "result" in theirs


async def test_what_waits_is_bounded_whoever_asks(counter: Counter) -> None:
    counter.open.clear()
    for number in range(2000):
        counter.operators.put(counter.request("status", operator=f"refloat-operator-u{number}"))

    assert counter.operators.dropped == 2000 - 32
    assert len(counter.operators._allowances) <= 1000
