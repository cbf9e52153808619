# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from unit.coordinator.cluster import TOPICS, Cluster, Run, open_plain
from unit.coordinator.world import request

from refloat_contract.messages import Order, decode, encode
from refloat_contract.topics import Kind
from refloat_contract.words import OrderKind, Purpose, RequestKind
from refloat_coordinator.permits.leaves import LEAVE_S, Leaves, answer

START = Leaves(most=2, since=0.0)
ASK, RELEASE = RequestKind.PERMIT, RequestKind.RELEASE
T0 = LEAVE_S


def test_no_more_nodes_than_allowed_have_leave_and_one_that_is_given_back_goes_to_the_next() -> None:
    leaves, first = answer(START, "n1", ASK, T0)
    leaves, second = answer(leaves, "n2", ASK, T0)
    leaves, third = answer(leaves, "n3", ASK, T0)
    leaves, _ = answer(leaves, "n1", RELEASE, T0)
    leaves, again = answer(leaves, "n3", ASK, T0)

    assert (first, second, again) == (None, None, None)
    assert third == "idle checks run on 2 of at most 2 nodes"
    assert set(leaves.until) == {"n2", "n3"}


def test_a_leave_that_is_renewed_goes_on_and_one_that_is_not_ends() -> None:
    leaves, _ = answer(START, "n1", ASK, T0)
    leaves, _ = answer(leaves, "n2", ASK, T0)
    leaves, renewed = answer(leaves, "n1", ASK, T0 + 60)
    leaves, third = answer(leaves, "n3", ASK, T0 + LEAVE_S)

    assert (renewed, third) == (None, None)
    assert set(leaves.until) == {"n1", "n3"}


def test_after_a_start_nobody_has_leave_until_all_that_was_given_before_has_ended() -> None:
    _, early = answer(START, "n1", ASK, LEAVE_S - 1)
    _, later = answer(START, "n1", ASK, LEAVE_S)

    assert early == "the coordinator has started: no idle checks for 90 s"
    assert later is None


def test_a_limit_of_0_gives_none() -> None:
    assert answer(Leaves(0, since=0.0), "n1", ASK, T0)[1] is not None


async def test_the_loop_answers_by_its_leaves_and_takes_no_node_out_for_one(tmp_path: Path) -> None:
    cluster = Cluster({})
    ledger, epoch = await open_plain(tmp_path / "ledger")
    async with ledger:
        run = Run(cluster, ledger, epoch)
        run.loop.leaves = Leaves(1, since=cluster.clock.time - LEAVE_S)
        for node in ("n1", "n2"):
            asked = request(node, "burn", purpose=Purpose.IDLE, request_id=f"r-{node}")
            run.inbox.receive(TOPICS.node(node, Kind.REQUEST), encode(asked), lambda: None)
        await run.loop.step()

    orders = [decode(Order, said.payload) for said in run.posted if said.topic.endswith("/order")]
    assert [(order.node, order.kind, order.request) for order in orders] == [
        ("n1", OrderKind.GRANT, "r-n1"),
        ("n2", OrderKind.DENY, "r-n2"),
    ]
    assert run.loop.permits == {}
