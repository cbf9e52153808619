# SPDX-License-Identifier: Apache-2.0
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.coordinator.world import T0, event, fleet_of, status, view, wave_over

from refloat_contract.words import EventKind
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.groups import Groups
from refloat_coordinator.waves.estimate import DEFAULT_OUT_S, Estimate, TimesOut, estimate, times_out
from refloat_coordinator.waves.world import World

OUT_S = 600.0
TIMES = TimesOut(typical_s=OUT_S, cycles=9)
NOON = T0 - T0 % 86400 + 12 * 3600


def world(nodes: Mapping[str, float | None], limits: tuple[Limit, ...] = (), **given_: Any) -> World:
    """Nodes by when their last job ends; None: idle, infinite: no known end."""
    views = [view(name, "IDLE" if end is None else "ALLOCATED") for name, end in nodes.items()]
    free_at = {name: end for name, end in nodes.items() if end is not None and end != float("inf")}
    return World(fleet_of(*views, *map(status, nodes)), limits=limits, free_at=free_at, jobs_at=T0, **given_)


def idle(count: int) -> dict[str, float | None]:
    return dict.fromkeys([f"n{number}" for number in range(1, count + 1)])


def play(nodes: Mapping[str, float | None], now: float = T0, **spec: Any) -> Estimate:
    limits, groups = spec.pop("limits", ()), spec.pop("groups", Groups())
    times = spec.pop("times", TIMES)
    return estimate(wave_over(*nodes, **spec), nodes, world(nodes, limits, groups=groups), times, now)


def test_idle_nodes_go_out_as_many_at_a_time_as_may() -> None:
    expected = play(idle(5), max_unavailable=2)

    assert expected.ends_at == T0 + 3 * OUT_S
    assert [(batch.nodes, batch.begins_at - T0, batch.ends_at - T0) for batch in expected.batches] == [
        (("n1", "n2"), 0, OUT_S),
        (("n3", "n4"), OUT_S, 2 * OUT_S),
        (("n5",), 2 * OUT_S, 3 * OUT_S),
    ]
    assert expected.lost_node_hours == pytest.approx(5 * OUT_S / 3600)


def test_a_job_that_runs_is_waited_for_and_costs_nothing() -> None:
    expected = play({"n1": T0 + 7200})

    assert expected.ends_at == T0 + 7200 + OUT_S
    assert expected.lost_node_hours == pytest.approx(OUT_S / 3600)


def test_nodes_taken_out_later_are_taken_to_wait_as_nodes_do_now_on_average() -> None:
    expected = play({"n1": None, "n2": T0 + 100, "n3": T0 + 800})

    assert expected.typical_wait_s == 300
    # n2's jobs have ended when its turn comes: it runs others by then. Those of n3 have not.
    assert [batch.ends_at - T0 for batch in expected.batches] == [600, 600 + 300 + 600, 1500 + 300 + 600]


def test_soonest_free_first_is_quicker() -> None:
    nodes = {"n1": T0 + 9000, "n2": T0 + 60, "n3": None}
    by_name, soonest = play(nodes), play(nodes, order="soonest-free")

    assert [batch.nodes for batch in soonest.batches] == [("n3",), ("n2",), ("n1",)]
    assert soonest.ends_at < by_name.ends_at


def test_canaries_come_first_and_soak() -> None:
    expected = play(idle(3), canary=1, soak_s=900, max_unavailable=5)

    assert [(b.nodes, b.is_canary, b.begins_at - T0) for b in expected.batches] == [
        (("n1",), True, 0),
        (("n2", "n3"), False, OUT_S + 900),
    ]


def test_one_of_each_rack_at_a_time() -> None:
    racks = Groups({"rack": {"r1": frozenset({"n1", "n2"}), "r2": frozenset({"n3", "n4"})}})
    expected = play(idle(4), max_unavailable=4, per_group={"rack": 1}, groups=racks)

    assert sorted(expected.batches[0].nodes) == ["n1", "n2", "n3", "n4"]
    assert expected.ends_at == T0 + 2 * OUT_S


def test_nodes_go_out_inside_the_window_only() -> None:
    expected = play(idle(20), NOON, window="22:00-23:00 UTC")

    night = NOON + 10 * 3600
    assert [b.begins_at for b in expected.batches][:7] == [
        *(night + number * OUT_S for number in range(6)),
        night + 86400,
    ]
    assert expected.ends_at == night + 3 * 86400 + 2 * OUT_S


@pytest.mark.parametrize(
    ("on_deadline", "hours", "lost_s"),
    [("hold", 1.0, 0.0), ("skip", 1.0, 0.0), ("requeue", 1.0 + (60 + OUT_S) / 3600, OUT_S)],
)
def test_a_node_past_the_deadline_is_named(on_deadline: str, hours: float, lost_s: float) -> None:
    expected = play({"n1": T0 + 7200}, deadline_s=3600, on_deadline=on_deadline)

    assert expected.overdue == ("n1",)
    assert (expected.ends_at - T0) / 3600 == pytest.approx(hours)
    assert expected.lost_node_hours == pytest.approx(lost_s / 3600)


def test_a_job_without_an_end_is_taken_to_end_like_others_and_to_pass_any_deadline() -> None:
    nodes = {"n1": float("inf"), "n2": T0 + 100}
    endless, with_deadline = play(nodes), play(nodes, deadline_s=3600)

    assert (endless.endless, endless.overdue) == (("n1",), ())
    assert endless.ends_at < T0 + 7200
    assert with_deadline.overdue == ("n1",)


def test_what_can_never_go_out_is_left_and_said_why() -> None:
    nodes = idle(3)
    broken = world({**nodes, "x1": None}, (Limit("cluster", Amount(1)),))
    broken = World(fleet_of(view("x1", "DOWN", "bad DIMM"), base=broken.fleet), limits=broken.limits)
    expected = estimate(wave_over(*nodes, canary=1), nodes, broken, TIMES, T0)

    assert expected.batches == ()
    assert set(expected.left) == set(nodes)
    assert expected.stuck == "budget cluster: 1 of 1 out: x1 (down: bad DIMM)"


def test_ten_thousand_nodes_in_racks_with_jobs_are_played_to_the_end() -> None:
    names = [f"n{number}" for number in range(10_000)]
    racks = Groups({"rack": {f"r{k}": frozenset(names[k::200]) for k in range(200)}})
    nodes = {name: T0 + 60.0 * (number % 300) for number, name in enumerate(names)}
    expected = play(nodes, max_unavailable="5%", per_group={"rack": 2}, groups=racks, order="soonest-free")

    assert sum(len(batch.nodes) for batch in expected.batches) == 10_000
    assert expected.left == ()


@settings(deadline=None)
@given(
    ends=st.lists(st.one_of(st.none(), st.floats(T0 + 1, T0 + 90_000)), min_size=1, max_size=12),
    most=st.integers(1, 5),
    canary=st.integers(0, 3),
    order=st.sampled_from(["name", "idle-first", "soonest-free"]),
)
def test_every_node_is_played_once_and_never_more_than_may(
    ends: list[float | None], most: int, canary: int, order: str
) -> None:
    nodes = {f"n{number}": end for number, end in enumerate(ends)}
    expected = play(nodes, max_unavailable=most, canary=canary, order=order)

    played = [node for batch in expected.batches for node in batch.nodes]
    assert sorted(played) == sorted(nodes)
    assert all(len(batch.nodes) <= most for batch in expected.batches)
    assert expected.ends_at >= T0 + OUT_S
    assert expected.lost_node_hours == pytest.approx(len(nodes) * OUT_S / 3600)
    # No fewer turns than it takes, whatever the order.
    assert expected.ends_at - T0 >= OUT_S * -(-len(nodes) // most)


def told(node: str, cycle_id: str, kind: EventKind, at_s: float) -> Any:
    return event(f"{node}{cycle_id}{kind}{at_s}", node, kind, at_ns=int((T0 + at_s) * 1e9), cycle_id=cycle_id)


def test_how_long_nodes_were_out_comes_from_past_cycles() -> None:
    events = [
        told("n1", "a", EventKind.PHASE_ENTERED, 0),  # left DRAINING
        told("n1", "a", EventKind.PHASE_ENTERED, 50),
        told("n1", "a", EventKind.RESUMED, 100),
        told("n1", "b", EventKind.PHASE_ENTERED, 1000),
        told("n1", "b", EventKind.RESUMED, 1300),
        told("n2", "c", EventKind.PHASE_ENTERED, 0),
        told("n2", "c", EventKind.RESUMED, 400),
        told("n3", "d", EventKind.RESUMED, 400),  # its beginning is not in the record any more
        told("n3", "e", EventKind.PHASE_ENTERED, 0),
        told("n3", "e", EventKind.RESUMED, 90_000),  # waited for a human
    ]
    times = times_out(events, "reboot")

    assert (times.of("n1"), times.of("n2"), times.of("n9")) == (200, 400, 300)
    assert times.cycles == 3
    assert times_out(events, "reconfigure") == TimesOut(typical_s=DEFAULT_OUT_S)
