# SPDX-License-Identifier: Apache-2.0
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.coordinator.cluster import TOPICS, Agent, Cluster, Killed, Run, open_killable, open_plain
from unit.coordinator.world import event, request, wave_over

from refloat_contract.errors import Refused, Transient
from refloat_contract.messages import Event, Order, WaveReport, decode, encode
from refloat_contract.topics import Kind
from refloat_contract.words import EventKind, NodeOrder, OrderKind, Turn, WaveState
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.record.ledger import Ledger
from refloat_coordinator.waves import wave as wave_rules
from refloat_coordinator.waves.blocker import judge
from refloat_coordinator.waves.wave import Wave
from refloat_slurm.gateway import JobEnd

TURNS = 400


def cluster_of(kills: frozenset[int] = frozenset(), **fates: str) -> Cluster:
    cluster = Cluster({name: Agent(name, fate) for name, fate in fates.items()}, kills=kills)
    for agent in cluster.agents.values():
        cluster.report(agent)
    return cluster


async def one_life(path: Path, cluster: Cluster, wave: Wave | None, limits: tuple[Limit, ...] = ()) -> WaveReport:
    """Start, take up what the last life left, and go on until all waves have ended."""
    ledger, epoch = await open_killable(path, cluster)
    async with ledger:
        run = Run(cluster, ledger, epoch, limits)
        await run.loop.load()
        run.connect()
        if wave is not None and not run.loop.waves and not await ledger.load_waves(ended=True):
            await run.loop.start(wave)
        for _ in range(TURNS):
            await run.turn()
            if not run.loop.waves:
                await run.turn()
                await run.turn()
                ended = await ledger.load_waves(ended=True)
                return wave_rules.report(ended[0], run.loop.fleet)
    raise AssertionError(f"the wave did not end: {run.loop.waves}")


async def to_the_end(path: Path, cluster: Cluster, wave: Wave, limits: tuple[Limit, ...] = ()) -> WaveReport:
    """Live until the end; after each kill live again."""
    while True:
        try:
            return await one_life(path, cluster, wave, limits)
        except Killed:
            continue


async def record_of(path: Path) -> list[Event]:
    ledger, _ = await open_plain(path)
    async with ledger:
        return await ledger.events()


def is_right(cluster: Cluster, report: WaveReport, record: list[Event]) -> None:
    assert cluster.violations == []
    assert report.counts == {Turn.DONE: 2}
    assert report.state is WaveState.DONE
    assert {agent.reboots for agent in cluster.agents.values()} == {1}
    assert cluster.max_out == 1
    ids = [event.id for event in record]
    assert len(ids) == len(set(ids))
    # Nothing is missing: every event of every agent, and the wave's own.
    expected = {f"{a.name}-{i + 1}" for a in cluster.agents.values() for i in range(a.events)}
    assert expected | {"w1-started", "w1-ended"} == set(ids) - {"w1-promoted"}
    assert ("w1-promoted" in ids) == bool(report.spec.canary)


async def test_a_wave_takes_its_nodes_through_one_after_the_other(tmp_path: Path) -> None:
    cluster = cluster_of(n1="good", n2="good")
    report = await to_the_end(tmp_path / "l", cluster, wave_over("n1", "n2", canary=1))

    is_right(cluster, report, await record_of(tmp_path / "l"))


async def kill_points(tmp_path: Path) -> int:
    cluster = cluster_of(n1="good", n2="good")
    await to_the_end(tmp_path / "count", cluster, wave_over("n1", "n2", canary=1))
    return cluster.boundaries


async def test_killed_at_any_boundary_the_wave_goes_on_and_ends_right(tmp_path: Path) -> None:
    count = await kill_points(tmp_path)
    for point in range(1, count + 1):
        cluster = cluster_of(frozenset({point}), n1="good", n2="good")
        path = tmp_path / f"k{point}"
        report = await to_the_end(path, cluster, wave_over("n1", "n2", canary=1))

        is_right(cluster, report, await record_of(path))
    assert count > 40


def strict_wave() -> Wave:
    """A wave with all that may stand in its way: its blocker, its canary, its order, a job that does not end."""
    spec: dict[str, object] = {"canary": 1, "soak_s": 5, "order": "soonest-free", "blocker": "/bin/may-i"}
    return wave_over("n1", "n2", **spec, deadline_s=20, on_deadline="requeue").but(by="alice")


def strict_cluster(kills: frozenset[int] = frozenset()) -> Cluster:
    cluster = cluster_of(kills, n1="good", n2="good")
    began = cluster.clock.now()
    cluster.run_job("7", "n1")
    cluster.blocker = lambda asked, at: judge(asked, int(at < began + 15), "backup is running", at)
    return cluster


@pytest.mark.timeout(120)  # every boundary with REFLOAT_CRASH=all
async def test_killed_at_some_boundary_a_wave_with_every_policy_ends_right(tmp_path: Path) -> None:
    cluster = strict_cluster()
    await to_the_end(tmp_path / "count", cluster, strict_wave())
    every = 1 if os.environ.get("REFLOAT_CRASH") == "all" else 4
    for point in range(1, cluster.boundaries + 1, every):
        cluster = strict_cluster(frozenset({point}))
        path = tmp_path / f"k{point}"
        report = await to_the_end(path, cluster, strict_wave())
        record = await record_of(path)

        is_right(cluster, report, [e for e in record if e.kind not in OF_JOBS])
        assert set(cluster.ended) == {("7", JobEnd.REQUEUE)}
        assert [(e.node, e.operator) for e in record if e.kind is EventKind.DEADLINE_PASSED] == [("n1", "alice")]


OF_JOBS = {EventKind.DEADLINE_PASSED, EventKind.JOBS_ENDED}


async def test_whose_jobs_were_ended_and_at_whose_wish_is_in_the_record(tmp_path: Path) -> None:
    cluster = strict_cluster()
    cluster.run_job("8", "n1")
    cluster.stubborn = {"8"}
    ledger, _ = await open_killable(tmp_path / "l", cluster)
    async with ledger:
        run = Run(cluster, ledger, 1)
        run.connect()
        await run.turn()
        await run.loop.start(strict_wave().but(spec=strict_wave().spec.model_copy(update={"order": NodeOrder.NAME})))
        for _ in range(60):
            await run.turn()
        told = await ledger.events(kinds=list(OF_JOBS))

    assert [(event.kind, event.node, event.operator) for event in told[:2]] == [
        (EventKind.DEADLINE_PASSED, "n1", "alice"),
        (EventKind.JOBS_ENDED, "n1", "alice"),
    ]
    assert told[1].message == (
        "w1: requeued, as alice asked: job 7 of alice, "
        "job 8 of alice (refused: Only batch jobs are accepted or processed)"
    )
    assert cluster.agents["n1"].reboots == 0  # the other job still runs


async def test_a_blocked_wave_begins_when_its_blocker_lets_it(tmp_path: Path) -> None:
    cluster = strict_cluster()
    del cluster.running["7"]
    ledger, _ = await open_killable(tmp_path / "l", cluster)
    async with ledger:
        run = Run(cluster, ledger, 1)
        run.connect()
        await run.turn()
        await run.loop.start(wave_over("n1", "n2", blocker="/bin/may-i"))
        for _ in range(3):
            await run.turn()
        blocked = run.reports("w1")
        for _ in range(40):
            await run.turn()

        assert (blocked.counts, blocked.why) == ({Turn.WAITING: 2}, "blocked by may-i: backup is running")
        assert run.reports("w1").counts == {Turn.DONE: 2}


async def test_killed_again_and_again_the_wave_still_ends_right(tmp_path: Path) -> None:
    for step in (4, 9):
        cluster = cluster_of(frozenset(range(step, 2000, step)), n1="good", n2="good")
        path = tmp_path / f"s{step}"
        report = await to_the_end(path, cluster, wave_over("n1", "n2"))

        is_right(cluster, report, await record_of(path))


async def test_bad_nodes_are_held_and_the_wave_still_ends(tmp_path: Path) -> None:
    cluster = cluster_of(n1="good", n2="dead", n3="bad", n4="good")
    wave = wave_over("n1", "n2", "n3", "n4", max_unavailable=3, max_failures=3, node_deadline_s=120)
    report = await to_the_end(tmp_path / "l", cluster, wave, (Limit("cluster", Amount(3)),))

    assert report.state is WaveState.FAILED
    assert report.counts == {Turn.DONE: 2, Turn.HELD: 2}
    assert {n.node: n.why for n in report.nodes} == {"n2": "did not come back within 120 s", "n3": "no link"}
    assert cluster.max_out <= 3
    kinds = [event.kind for event in await record_of(tmp_path / "l") if event.id.startswith("w1")]
    assert kinds == [EventKind.WAVE_STARTED, EventKind.NODE_LOST, EventKind.WAVE_ENDED]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fates=st.lists(st.sampled_from(["good", "good", "dead", "bad"]), min_size=2, max_size=5),
    own=st.integers(1, 3),
    site=st.integers(1, 3),
    kills=st.frozensets(st.integers(1, 120), max_size=4),
    canary=st.integers(0, 1),
    order=st.sampled_from(["name", "idle-first", "soonest-free"]),
    on_deadline=st.sampled_from([None, "hold", "skip", "requeue", "cancel-jobs"]),
    blocker=st.sampled_from(["", "/bin/may-i"]),
)
async def test_every_wave_ends_or_says_why_it_pauses_and_the_budget_holds(
    tmp_path_factory: pytest.TempPathFactory,
    fates: list[str],
    own: int,
    site: int,
    kills: frozenset[int],
    canary: int,
    order: str,
    on_deadline: str | None,
    blocker: str,
) -> None:
    names = [f"n{i}" for i in range(len(fates))]
    cluster = cluster_of(kills, **dict(zip(names, fates, strict=True)))
    spec: dict[str, object] = {"max_unavailable": own, "canary": canary, "max_failures": 9, "node_deadline_s": 60}
    spec |= {"order": order, "blocker": blocker}
    if on_deadline is not None:
        spec |= {"deadline_s": 30, "on_deadline": on_deadline}
        cluster.run_job("7", "n0")  # it never ends by itself
    wave = wave_over(*names, **spec)
    began = cluster.clock.now()
    cluster.blocker = lambda asked, at: judge(asked, int(at < began + 20), "backup is running", at)
    path = tmp_path_factory.mktemp("wave") / "l"
    limits = (Limit("cluster", Amount(site)),)

    lives = 0
    while lives < 20:
        lives += 1
        try:
            over = await _live(path, cluster, wave, limits)
        except Killed:
            continue
        break
    assert cluster.violations == []
    assert bool(cluster.ended) <= (on_deadline in {"requeue", "cancel-jobs"})
    assert cluster.max_out <= min(own, site)
    assert all(agent.reboots <= 1 for agent in cluster.agents.values())
    assert all(w.why for w in over)


async def _live(path: Path, cluster: Cluster, wave: Wave, limits: tuple[Limit, ...]) -> list[Wave]:
    ledger, epoch = await open_killable(path, cluster)
    async with ledger:
        run = Run(cluster, ledger, epoch, limits)
        await run.loop.load()
        run.connect()
        ended = await ledger.load_waves(ended=True)
        if not run.loop.waves and not ended:
            await run.loop.start(wave)
        for _ in range(TURNS):
            await run.turn()
            if not run.loop.waves or all(w.pause for w in run.loop.waves.values()):
                return [*run.loop.waves.values(), *await ledger.load_waves(ended=True)]
    raise AssertionError(f"neither ended nor paused: {run.loop.waves}")


async def test_slurm_away_in_mid_wave_only_delays_it(tmp_path: Path, ledger: Ledger) -> None:
    cluster = cluster_of(n1="good", n2="good")
    run = Run(cluster, ledger, 1)
    run.connect()
    await run.turn()
    await run.loop.start(wave_over("n1", "n2"))
    await run.turn()
    cluster.slurm_down = True
    await run.turn()
    paused = run.reports("w1")
    cluster.slurm_down = False
    for _ in range(TURNS):
        await run.turn()

    assert (paused.state, paused.why) == (WaveState.PAUSED, "Slurm does not answer: connect failure")
    assert run.reports("w1").state is WaveState.DONE


async def test_a_ledger_that_cannot_be_written_loses_no_message_and_grants_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = cluster_of(n1="good")
    run = Run(cluster, ledger, 1)
    run.connect()
    await run.turn()
    cluster.agents["n1"].flags, cluster.agents["n1"].reason = frozenset({"IDLE", "DRAIN"}), "reboot"

    async def full(*_: object) -> None:
        raise Transient("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", full)
        for _ in range(3):
            await run.turn()
        trouble, waiting = run.loop.trouble, len(cluster.queue)
    for _ in range(5):
        await run.turn()

    assert trouble == "the disk is full"
    assert waiting > 0
    assert run.loop.trouble == ""
    assert not cluster.queue
    assert cluster.agents["n1"].reboots == 1


async def test_a_foreign_drain_that_appears_between_the_read_and_the_mark_stays(ledger: Ledger) -> None:
    cluster = cluster_of(n1="good")
    run = Run(cluster, ledger, 1)
    run.connect()
    await run.turn()
    await run.loop.start(wave_over("n1"))
    orders = await run.loop.step()
    cluster.agents["n1"].flags, cluster.agents["n1"].reason = frozenset({"IDLE", "DRAIN"}), "bad DIMM"
    outcomes = [await run.hands.perform(order) for order in orders]
    await run.turn()

    assert outcomes == ["not ours"]
    assert cluster.agents["n1"].reason == "bad DIMM"
    assert run.reports("w1").counts == {Turn.SKIPPED: 1}


async def test_a_second_wave_over_the_same_nodes_is_refused_and_named(ledger: Ledger) -> None:
    run = Run(cluster_of(n1="good", n2="good"), ledger, 1)
    await run.loop.start(wave_over("n1", "n2"))

    with pytest.raises(Refused, match="wave w1 is about n2 already"):
        await run.loop.start(wave_over("n2").but(id="w2"))


async def test_an_order_that_waited_is_dropped_when_its_wave_was_paused(ledger: Ledger) -> None:
    run = Run(cluster_of(n1="good"), ledger, 1)
    run.connect()
    await run.turn()
    await run.loop.start(wave_over("n1"))
    (order,) = await run.loop.step()
    assert run.loop.wants(order)
    await run.loop.change("w1", lambda wave, _fleet, _now: wave_rules.paused(wave), EventKind.WAVE_PAUSED)

    assert not run.loop.wants(order)


async def test_a_mark_is_tried_once_for_each_read_of_the_table(ledger: Ledger) -> None:
    run = Run(cluster_of(n1="good"), ledger, 1)
    run.connect()
    await run.turn()
    await run.loop.start(wave_over("n1"))
    first, second = await run.loop.step(), await run.loop.step()
    run.loop.observe(await run.feed.read())
    third = await run.loop.step()

    assert [len(orders) for orders in (first, second, third)] == [1, 0, 1]


async def test_a_node_that_was_marked_and_went_through_while_nobody_looked_is_not_marked_again(
    tmp_path: Path,
) -> None:
    # The worst case: killed after the mark, the broker lost the agent's words, and its retained status is an old one.
    cluster = cluster_of(n1="good")
    ledger, epoch = await open_plain(tmp_path / "l")
    async with ledger:
        run = Run(cluster, ledger, epoch)
        run.connect()
        await run.turn()
        await run.loop.start(wave_over("n1"))
        await run.turn()
    old = dict(cluster.retained)
    agent = cluster.agents["n1"]
    agent.granted = True
    for _ in range(6):
        cluster.live()
        agent.granted = True
    cluster.queue.clear()
    cluster.retained = old
    ledger, epoch = await open_plain(tmp_path / "l")
    async with ledger:
        run = Run(cluster, ledger, epoch)
        await run.loop.load()
        run.connect()
        for _ in range(5):
            await run.turn()
        unknown = run.reports("w1").counts
        cluster.report(agent)
        await run.turn()

        assert unknown == {Turn.MARKED: 1}
        assert run.reports("w1").counts == {Turn.DONE: 1}
    assert agent.reboots == 1


async def test_every_event_of_the_coordinator_has_a_time_of_its_own(ledger: Ledger) -> None:
    run = Run(cluster_of(n1="good", n2="good"), ledger, 1)
    await run.loop.start(wave_over("n1"))
    await run.loop.start(wave_over("n2").but(id="w2"))
    await run.turn()
    times = [event.at_ns for event in await ledger.events()]

    assert len(times) == len(set(times)) > 1


async def test_a_follower_hears_every_new_event_once(ledger: Ledger) -> None:
    cluster = cluster_of(n1="good")
    run = Run(cluster, ledger, 1)
    queue = run.loop.followers.follow()
    run.connect()
    await run.turn()
    await run.loop.start(wave_over("n1"))
    await run.turn()
    run.loop.followers.unfollow(queue)
    await run.turn()

    assert [queue.get_nowait().id for _ in range(queue.qsize())] == ["w1-started"]


async def test_a_node_that_forgets_its_remedies_is_stopped_by_the_record(ledger: Ledger) -> None:
    cluster = cluster_of(n1="good")
    run = Run(cluster, ledger, 1)
    run.connect()
    await run.turn()
    begun = [
        event(f"e{n}", kind=EventKind.DRAIN_SEEN, cycle_id=f"c{n}").model_copy(update={"check": "labd"}) for n in (1, 2)
    ]
    await ledger.record(begun)
    asked = [request("n1", f"c{n}", request_id=f"r{n}").model_copy(update={"cause": "labd"}) for n in (2, 3)]
    for one in asked[::-1]:
        run.inbox.receive(TOPICS.node("n1", Kind.REQUEST), encode(one), lambda: None)
    await run.loop.step()

    told = [decode(Order, each.payload) for each in run.posted if each.topic.endswith("/order")]
    assert [(order.request, order.kind) for order in told] == [("r3", OrderKind.DENY), ("r2", OrderKind.GRANT)]
    assert told[0].why.startswith("labd failed again after 2 cycles; needs a human")


async def test_one_that_may_have_been_deposed_decides_nothing_and_acknowledges_nothing(ledger: Ledger) -> None:
    cluster = cluster_of(n1="good")
    run = Run(cluster, ledger, 1)
    await run.turn()
    await run.loop.start(wave_over("n1"))
    leads = [False]
    run.loop._ports = replace(run.loop._ports, leads=lambda: leads[0])
    run.receive()
    before, posted = len(cluster.queue), len(run.posted)

    assert await run.loop.step() == []
    assert (len(cluster.queue), len(run.posted)) == (before, posted)
    assert "lease could not be renewed" in run.loop.trouble
    leads[0] = True
    assert await run.loop.step() != []
    assert run.loop.trouble == ""
