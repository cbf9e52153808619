# SPDX-License-Identifier: Apache-2.0
"""What each name may do at a real broker with the access list that is shipped."""

import asyncio
from pathlib import Path

import pytest
from mosquitto import ALICE, BOB, CLUSTER, Site

from refloat_cli.pki.authority import COORDINATOR, OPERATOR
from refloat_contract.topics import Kind, Topics

pytestmark = pytest.mark.broker

TOPICS = Topics(CLUSTER)
OWN = (Kind.STATUS, Kind.EVENT, Kind.REQUEST)
ORDERS = (Kind.ORDER, Kind.SLURM)

NOT_A_NODES = [
    *(TOPICS.node("n2", kind) for kind in (*OWN, *ORDERS)),
    *(TOPICS.node("n1", kind) for kind in ORDERS),
    TOPICS.wave("w1"),
    TOPICS.coordinator(),
    TOPICS.asks(ALICE),
    TOPICS.answer("n1"),
    Topics("other").node("n1", Kind.STATUS),
    f"refloat/v2/{CLUSTER}/node/n1/status",
    f"refloat/v1/{CLUSTER}/node/n1",
    f"refloat/v1/{CLUSTER}/node/n1/status/more",
    "elsewhere",
]


async def test_a_node_tells_about_itself_and_the_coordinator_hears_it(site: Site) -> None:
    async with site.client(COORDINATOR, *(TOPICS.node("+", kind) for kind in OWN)) as coordinator:
        async with site.client("n1") as n1:
            said = [await n1.says(TOPICS.node("n1", kind), f"{kind}".encode()) for kind in OWN]
        heard = [await coordinator.hears(TOPICS.node("n1", kind)) for kind in OWN]

    assert said == ["", "", ""]
    assert heard == [b"status", b"event", b"request"]


@pytest.mark.parametrize("topic", NOT_A_NODES)
async def test_a_node_can_tell_nothing_else_and_nobody_hears_it(site: Site, topic: str) -> None:
    async with site.client(OPERATOR, "#") as operator, site.client(COORDINATOR, "#") as coordinator:
        async with site.client("n1") as n1:
            refused = await n1.says(topic, b"forged", retain=True)
            await n1.says(TOPICS.node("n1", Kind.EVENT), b"the end")
        await operator.hears(TOPICS.node("n1", Kind.EVENT))

    assert f"refused {topic}: Not authorized" in refused
    assert b"forged" not in {payload for _, payload in (*operator.heard, *coordinator.heard)}
    await asyncio.to_thread(site.broker.logs, f"Denied PUBLISH from n1 (d0, q1, r1, m1, '{topic}'")


async def test_a_node_hears_its_own_and_what_is_for_all_and_nothing_of_another(site: Site) -> None:
    told = [TOPICS.node(node, kind) for node in ("n1", "n2") for kind in ORDERS]
    everything = ("#", "refloat/#", TOPICS.node("n2", Kind.ORDER), TOPICS.node("+", Kind.STATUS))
    async with site.client("n1", *everything, TOPICS.any_version("n1", Kind.ORDER)) as n1:
        async with site.client("n2") as n2, site.client(COORDINATOR) as coordinator:
            await n2.says(TOPICS.node("n2", Kind.STATUS), b"of n2")
            for topic in told:
                await coordinator.says(topic, topic.encode())
            await coordinator.says(TOPICS.wave("w1"), b"for all")
            await coordinator.says(TOPICS.coordinator(), b"alive")
        await n1.hears(TOPICS.coordinator())

    assert {topic for topic, _ in n1.heard if "/n2/" in topic} == set()
    assert {topic for topic, _ in n1.heard} >= {*told[:2], TOPICS.wave("w1"), TOPICS.coordinator()}


async def test_the_coordinator_orders_every_node_about_and_speaks_for_none(site: Site) -> None:
    async with site.client(COORDINATOR) as coordinator:
        orders = [await coordinator.says(TOPICS.node(node, kind)) for node in ("n1", "n2") for kind in ORDERS]
        forged = [await coordinator.says(TOPICS.node("n1", kind)) for kind in OWN]

    assert orders == [""] * 4
    assert all("Not authorized" in said for said in forged)


async def test_an_operator_hears_everything_and_can_tell_nothing(site: Site) -> None:
    async with site.client(OPERATOR, f"refloat/+/{CLUSTER}/#") as operator:
        async with site.client("n2") as n2:
            await n2.says(TOPICS.node("n2", Kind.REQUEST), b"please")
        heard = await operator.hears(TOPICS.node("n2", Kind.REQUEST))
        said = [await operator.says(topic) for topic in (*NOT_A_NODES, TOPICS.node("n1", Kind.STATUS))]

    assert heard == b"please"
    assert all("Not authorized" in each for each in said)


async def test_an_operators_own_certificate_lets_them_ask_and_hear_the_answer_and_nothing_else(site: Site) -> None:
    everything = ("#", "refloat/#", TOPICS.answer("+"), TOPICS.asks("+"), TOPICS.node("+", Kind.STATUS))
    async with site.client(COORDINATOR, TOPICS.any_asks()) as coordinator, site.client(ALICE, *everything) as alice:
        async with site.client("n2") as n2:
            await n2.says(TOPICS.node("n2", Kind.STATUS), b"of n2")
        asked = await alice.says(TOPICS.asks(ALICE), b"please")
        refused = [
            await alice.says(topic) for topic in (*NOT_A_NODES[2:], TOPICS.asks(BOB)) if topic != TOPICS.asks(ALICE)
        ]
        said = [await coordinator.says(TOPICS.answer(name), name.encode()) for name in (BOB, ALICE)]
        heard = await alice.hears(TOPICS.answer(ALICE))
        await coordinator.hears(TOPICS.asks(ALICE))

    assert (asked, said, heard) == ("", ["", ""], ALICE.encode())
    assert all("Not authorized" in each for each in refused)
    assert {topic for topic, _ in alice.heard} <= {TOPICS.answer(ALICE), TOPICS.coordinator(), TOPICS.wave("w1")}


async def test_a_node_can_neither_push_another_off_nor_take_what_waits_for_the_coordinator(site: Site) -> None:
    their_name = "refloat-coordinator-lab-0123456789abcdef"
    events = TOPICS.node("+", Kind.EVENT)
    async with site.client(COORDINATOR, events, client_id=their_name, persistent=True):
        pass
    async with site.client("n2", client_id="refloat-agent-lab-n2") as n2:
        await n2.says(TOPICS.node("n2", Kind.EVENT), b"while it was away")
        async with site.client("n1", events, client_id=their_name, persistent=True) as thief:
            await thief.says(TOPICS.node("n1", Kind.REQUEST))
            async with site.client(COORDINATOR, events, client_id=their_name, persistent=True) as coordinator:
                heard = await coordinator.hears(TOPICS.node("n2", Kind.EVENT))
                async with site.client("n1", client_id="refloat-agent-lab-n2"):
                    await asyncio.sleep(0.2)
                still_there = [
                    await coordinator.says(TOPICS.coordinator()),
                    await n2.says(TOPICS.node("n2", Kind.STATUS)),
                ]

    assert thief.heard == []
    assert heard == b"while it was away"
    assert still_there == ["", ""]


async def test_the_coordinator_and_its_operators_may_come_several_times(site: Site) -> None:
    async with (
        site.client(COORDINATOR, client_id="leader") as leader,
        site.client(COORDINATOR, client_id="lookout") as beside,
    ):
        await asyncio.sleep(0.2)

        assert leader.link.connected
        assert beside.link.connected


async def test_what_is_retained_and_what_waits_outlive_a_restart_of_the_broker(site: Site) -> None:
    events = TOPICS.node("+", Kind.EVENT)
    async with site.client(COORDINATOR, events, persistent=True):
        pass
    async with site.client("n1") as n1:
        await n1.says(TOPICS.node("n1", Kind.STATUS), b"retained", retain=True)
        await n1.says(TOPICS.node("n1", Kind.EVENT), b"waits")
        site.broker.stop()
        site.broker.start()
    async with site.client(COORDINATOR, events, TOPICS.node("+", Kind.STATUS), persistent=True) as coordinator:
        heard = (
            await coordinator.hears(TOPICS.node("n1", Kind.EVENT)),
            await coordinator.hears(TOPICS.node("n1", Kind.STATUS)),
        )

    assert heard == (b"waits", b"retained")


async def test_who_sends_more_than_any_of_us_would_is_cut_off(site: Site) -> None:
    async with site.client(OPERATOR, "refloat/#") as operator:
        async with site.client("n1", protocol="3.1.1") as n1:
            refused = await n1.says(TOPICS.node("n1", Kind.REQUEST), b"x" * (1 << 21))
        async with site.client("n2") as n2:
            await n2.says(TOPICS.node("n2", Kind.EVENT), b"the end")
        await operator.hears(TOPICS.node("n2", Kind.EVENT))

    assert "lost the broker" in refused
    assert max(len(payload) for _, payload in operator.heard) < 1 << 20


def test_the_access_list_names_every_topic_of_the_contract(site: Site) -> None:
    named = Path(site.broker.folder, "acl").read_text()

    for kind in OWN:
        assert f"pattern write {TOPICS.node('%u', kind)}\n" in named
        assert f"topic read {TOPICS.any_version('+', kind)}\n" in named
    for kind in ORDERS:
        assert f"topic write {TOPICS.node('+', kind)}\n" in named
    assert f"pattern write {TOPICS.asks('%u')}\n" in named
    assert f"pattern read {TOPICS.answer('%u')}\n" in named
    assert f"topic read {TOPICS.any_asks()}\n" in named
    assert f"topic write {TOPICS.answer('+')}\n" in named
