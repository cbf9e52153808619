# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.coordinator.world import (
    T0,
    TRIGGER,
    WAVE,
    cycle,
    ended,
    fleet_of,
    idle_fleet,
    request,
    status,
    view,
    wave_over,
    will,
)

from refloat_contract.errors import Refused
from refloat_contract.words import EventKind, OnDeadline, Outcome, Phase, Purpose, Turn, Verdict, WaveState
from refloat_coordinator import fleet as fleets
from refloat_coordinator.fleet import Fact, Fleet, Heard, Read, Unread
from refloat_coordinator.permits.budget import Amount, Limit
from refloat_coordinator.permits.groups import Groups
from refloat_coordinator.permits.permit import Permit
from refloat_coordinator.waves import moves
from refloat_coordinator.waves import wave as rules
from refloat_coordinator.waves.blocker import AskBlocker, BlockerAnswer
from refloat_coordinator.waves.decisions import AskJobs, Decision, GiveBack, Mark, Tell
from refloat_coordinator.waves.wave import PauseCause, Wave
from refloat_coordinator.waves.world import Settled, World


def step(wave: Wave, fleet: Fleet, now: float = T0, limits: Sequence[Limit] = ()) -> tuple[Wave, tuple[Decision, ...]]:
    return moves.decide(wave, World(fleet, limits=tuple(limits)), now)


def marks(decisions: Sequence[Decision]) -> list[str]:
    return [d.node for d in decisions if isinstance(d, Mark)]


def tells(decisions: Sequence[Decision]) -> list[EventKind]:
    return [d.event.kind for d in decisions if isinstance(d, Tell)]


def after(fleet: Fleet, *facts: Fact, now: float) -> Fleet:
    return fleets.fold(fleet, facts, now)


def done(*names: str) -> list[Heard]:
    return [Heard(status(name, last=ended(cycle_id=f"c-{name}"), at=9.0)) for name in names]


def held(*names: str) -> list[Heard]:
    return [Heard(status(n, Phase.HELD, now=cycle(f"c-{n}"), why="no link", at=9.0)) for n in names]


def test_a_wave_is_announced_once_and_marks_up_to_its_own_limit() -> None:
    wave, decisions = step(wave_over("n1", "n2", "n3", max_unavailable=2), idle_fleet("n1", "n2", "n3"))
    _, again = step(wave, idle_fleet("n1", "n2", "n3"))

    assert tells(decisions) == [EventKind.WAVE_STARTED]
    assert marks(decisions) == ["n1", "n2"]
    assert wave.why == f"budget wave {WAVE}: 2 of 2 out: n1 (marked), n2 (marked)"
    assert (tells(again), marks(again)) == ([], ["n1", "n2"])  # level-triggered: until Slurm shows it


def test_a_mark_names_image_and_wave() -> None:
    _, decisions = step(wave_over("n1", image="B", recipe="reconfigure"), idle_fleet("n1"))

    assert Mark(WAVE, "n1", f"gpfs-restart image=B wave={WAVE}") in decisions


def test_a_mark_says_who_and_why() -> None:
    _, decisions = step(wave_over("n1", reason="new kernel = 6.9").but(by="alice"), idle_fleet("n1"))

    assert marks(decisions) == ["n1"]
    assert next(d.reason for d in decisions if isinstance(d, Mark)) == f"{TRIGGER} (alice: new kernel 6.9)"


def test_nodes_that_are_out_for_another_cause_count() -> None:
    fleet = fleet_of(view("n1", "DOWN"), view("n2"), view("n9", "IDLE+DRAIN", "bad DIMM"), status("n2"))
    own, _ = step(wave_over("n1", "n2"), fleet)
    site, _ = step(wave_over("n2"), fleet, limits=[Limit("cluster", Amount(2))])

    assert own.why == f"budget wave {WAVE}: 1 of 1 out: n1 (down)"
    assert site.why == "budget cluster: 2 of 2 out: n1 (down), n9 (drained: bad DIMM)"


def test_a_full_rack_does_not_keep_nodes_of_another_from_their_turn() -> None:
    rack = Limit("group r1", Amount(1), frozenset({"n1", "n2"}))
    _, decisions = step(wave_over("n1", "n2", "n3", max_unavailable=3), idle_fleet("n1", "n2", "n3"), limits=[rack])

    assert marks(decisions) == ["n1", "n3"]


def test_nodes_that_other_waves_have_marked_count_for_the_site() -> None:
    world = World(idle_fleet("n1", "n2"), limits=(Limit("cluster", Amount(1)),), reserved={"n2": "wave w0"})
    wave, decisions = moves.decide(wave_over("n1"), world, T0)

    assert marks(decisions) == []
    assert wave.why == "budget cluster: 1 of 1 out: n2 (wave w0)"


def test_canaries_come_first_then_the_soak_then_the_rest() -> None:
    fleet = idle_fleet("n1", "n2", "n3")
    wave, first = step(wave_over("n1", "n2", "n3", canary=1, soak_s=60, max_unavailable=5), fleet)
    fleet = after(fleet, *done("n1"), now=T0 + 10)
    wave, unread = step(wave, fleet, T0 + 10)
    fleet = after(fleet, Read(T0 + 11, ()), now=T0 + 11)
    wave, soaking = step(wave, fleet, T0 + 11)
    wave, still = step(wave, fleet, T0 + 70)
    wave, rest = step(wave, fleet, T0 + 72)

    assert [marks(d) for d in (first, unread, soaking, still, rest)] == [["n1"], [], [], [], ["n2", "n3"]]
    assert tells(rest) == [EventKind.WAVE_PROMOTED]


def soaking(*facts: Fact, soak_s: float = 60, **spec: object) -> tuple[Wave, tuple[Decision, ...]]:
    """A wave whose canary n1 is done and has soaked for 30 s, after these facts."""
    wave, _ = step(wave_over("n1", "n2", canary=1, soak_s=soak_s, **spec), idle_fleet("n1", "n2"))
    fleet = after(idle_fleet("n1", "n2"), *done("n1"), now=T0)
    wave, _ = step(wave, fleet)
    fleet = after(fleet, Read(T0 + 1, ()), now=T0 + 1)
    wave, _ = step(wave, fleet, T0 + 1)
    return step(wave, after(fleet, *facts, now=T0 + 31), T0 + 31)


@pytest.mark.parametrize(
    ("fact", "why"),
    [
        (Heard(status("n1", verdict=Verdict.UNHEALTHY, at=10.0)), "canary n1 is not sound: unhealthy"),
        (Read(T0 + 30, (view("n1", "IDLE+DRAIN", "bad DIMM"),)), "canary n1 is not sound: drained: bad DIMM"),
        (Read(T0 + 30, (view("n1", "DOWN"),)), "canary n1 is not sound: down"),
    ],
)
def test_a_canary_that_turns_bad_while_it_soaks_pauses_the_wave(fact: Fact, why: str) -> None:
    wave, decisions = soaking(fact)

    assert (wave.state, wave.pause, wave.why) == (WaveState.PAUSED, PauseCause.CANARY, why)
    assert (marks(decisions), tells(decisions)) == ([], [EventKind.WAVE_PAUSED])


def test_a_resume_waives_a_canary_that_is_not_sound() -> None:
    wave, _ = soaking(Heard(status("n1", verdict=Verdict.UNHEALTHY, at=10.0)))
    fleet = after(idle_fleet("n1", "n2"), *done("n1"), Heard(status("n1", verdict=Verdict.UNHEALTHY)), now=T0)
    wave, _ = step(rules.resumed(wave), fleet, T0 + 40)
    wave, decisions = step(wave, fleet, T0 + 101)

    assert marks(decisions) == ["n2"]


@pytest.mark.parametrize(
    ("fact", "why"),
    [
        (Heard(status("n1", verdict=Verdict.UNKNOWN, at=10.0)), "its health is not known yet"),
        (Heard(will("n1")), "its agent is silent"),
        (Read(T0 + 30, (view("n1", "IDLE+NOT_RESPONDING"),)), "not responding"),
    ],
)
def test_the_soak_begins_anew_while_nothing_good_is_known_of_a_canary(fact: Fact, why: str) -> None:
    wave, _ = soaking(fact, node_deadline_s=100)
    fleet = after(idle_fleet("n1", "n2"), *done("n1"), fact, now=T0 + 31)
    late, decisions = step(wave, fleet, T0 + 132)

    assert (wave.state, wave.soaking_since, wave.why) == (WaveState.RUNNING, 0.0, f"waits for canary n1: {why}")
    assert (late.pause, tells(decisions)) == (PauseCause.CANARY, [EventKind.WAVE_PAUSED])


def test_once_promoted_a_canary_that_turns_bad_is_a_node_like_others() -> None:
    wave, _ = soaking(soak_s=20)
    fleet = after(idle_fleet("n1", "n2"), Heard(status("n1", verdict=Verdict.UNHEALTHY, at=10.0)), now=T0)
    wave, _ = step(wave, fleet, T0 + 40)

    assert (wave.promoted, wave.state) == (True, WaveState.RUNNING)


NIGHT = "22:00-06:00 UTC"
NOON, TEN_PM, SIX_AM = (T0 - T0 % 86400 + hours * 3600 for hours in (12, 22, 30))


def test_nodes_are_marked_inside_the_window_only() -> None:
    wave = wave_over("n1", "n2", window=NIGHT)
    before, none = step(wave, idle_fleet("n1", "n2"), NOON)
    _, some = step(before, idle_fleet("n1", "n2"), TEN_PM)

    assert marks(none) == []
    assert before.why.startswith("outside its window: it opens ")
    assert before.why.endswith(" 22:00 UTC")
    assert marks(some) == ["n1"]


def test_a_mark_that_slurm_does_not_show_is_taken_back_when_the_window_closes() -> None:
    fleet = idle_fleet("n1")
    wave, _ = step(wave_over("n1", window=NIGHT), fleet, TEN_PM)
    unread, silent = step(wave, fleet, SIX_AM)
    read, _ = step(wave, after(fleet, Read(SIX_AM, ()), now=SIX_AM), SIX_AM)

    assert (marks(silent), unread.members[0].turn) == ([], Turn.MARKED)  # the write may still be under way
    assert read.members[0].turn is Turn.WAITING


def test_a_node_that_is_marked_goes_on_outside_the_window() -> None:
    wave, _ = step(wave_over("n1", "n2", window=NIGHT), idle_fleet("n1", "n2"), TEN_PM)
    fleet = after(idle_fleet("n1", "n2"), Read(SIX_AM, (view("n1", "IDLE+DRAIN", TRIGGER),)), now=SIX_AM)
    wave, _ = step(wave, fleet, SIX_AM)
    done_, _ = step(wave, after(fleet, *done("n1"), now=SIX_AM), SIX_AM + 60)

    assert [m.turn for m in wave.members] == [Turn.MARKED, Turn.WAITING]
    assert [m.turn for m in done_.members] == [Turn.DONE, Turn.WAITING]


def test_a_deadline_for_waiting_nodes_does_not_pass_outside_the_window() -> None:
    wave, _ = step(wave_over("n1", window=NIGHT, node_deadline_s=100), fleet_of(view("n1")), NOON)
    later, _ = step(wave, fleet_of(view("n1")), NOON + 1000)

    assert later.members[0].turn is Turn.WAITING


BUSY = ("n1", "n3")


def order_fleet() -> Fleet:
    names = ("n1", "n2", "n3", "n4")
    states = {name: view(name, "ALLOCATED" if name in BUSY else "IDLE") for name in names}
    return fleet_of(*states.values(), *(status(name) for name in names))


@pytest.mark.parametrize(
    ("order", "free_at", "expected"),
    [
        ("name", {}, ["n1", "n2", "n3"]),
        ("idle-first", {}, ["n2", "n4", "n1"]),
        ("soonest-free", {"n1": T0 + 900, "n3": T0 + 60}, ["n2", "n4", "n3"]),
        ("soonest-free", {"n1": T0 + 900}, ["n2", "n4", "n1"]),  # nobody knows when n3 is free
    ],
)
def test_nodes_are_taken_in_the_order_asked_for(order: str, free_at: dict[str, float], expected: list[str]) -> None:
    wave = wave_over("n1", "n2", "n3", "n4", max_unavailable=3, order=order)
    _, decisions = moves.decide(wave, World(order_fleet(), free_at=free_at, jobs_at=T0), T0)

    assert sorted(marks(decisions)) == sorted(expected)


def test_slurm_is_asked_for_its_jobs_while_nodes_wait_for_their_turn_and_once_a_minute() -> None:
    wave = wave_over("n1", "n2", order="soonest-free")
    _, asked = moves.decide(wave, World(order_fleet()), T0)
    marked, fresh = moves.decide(wave, World(order_fleet(), jobs_at=T0 - 59), T0)
    _, nobody_waits = moves.decide(rules.skipped(marked, ["n1"], T0), World(order_fleet()), T0 + 99)

    assert [AskJobs() in decisions for decisions in (asked, fresh, nobody_waits)] == [True, False, False]
    assert [marks(decisions) for decisions in (asked, fresh)] == [[], ["n2"]]


def test_so_many_of_each_group_are_out_at_once() -> None:
    racks = Groups({"rack": {"r1": frozenset({"n1", "n2"}), "r2": frozenset({"n3", "n4"})}})
    wave = wave_over("n1", "n2", "n3", "n4", max_unavailable=4, per_group={"rack": 1})
    after_, decisions = moves.decide(wave, World(order_fleet(), groups=racks), T0)

    assert marks(decisions) == ["n1", "n3"]
    assert after_.why == f"budget wave {WAVE}, rack r1: 1 of 1 out: n1 (marked)"


def test_a_kind_of_group_that_is_gone_from_the_configuration_pauses_the_wave() -> None:
    wave, decisions = step(wave_over("n1", per_group={"rack": 1}), idle_fleet("n1"))

    assert (wave.pause, marks(decisions)) == (PauseCause.GROUPS, [])


def test_nothing_is_marked_until_the_groups_that_limit_it_have_been_read() -> None:
    world = World(idle_fleet("n1"), groups=Groups({"rack": {}}))
    wave, decisions = moves.decide(wave_over("n1", per_group={"rack": 1}), world, T0)

    assert (wave.state, marks(decisions)) == (WaveState.RUNNING, [])
    assert wave.why == "no node is known to be in any rack"


def test_a_share_is_one_of_the_waves_own_nodes() -> None:
    names = [f"n{number}" for number in range(1, 11)]
    _, decisions = step(wave_over(*names, max_unavailable="25%"), idle_fleet(*names, "x1", "x2"))

    assert marks(decisions) == ["n1", "n2"]


def blocked_step(wave: Wave, answer: BlockerAnswer | None, now: float = T0) -> tuple[Wave, tuple[Decision, ...]]:
    return moves.decide(wave, World(idle_fleet("n1", "n2", "n3"), answer=answer), now)


def test_nothing_is_marked_before_the_blocker_was_asked_about_it() -> None:
    wave = wave_over("n1", "n2", "n3", max_unavailable=2, blocker="/bin/may-i --now")
    asks, first = blocked_step(wave, None)
    free, second = blocked_step(asks, BlockerAnswer(frozenset({"n1", "n2"}), T0))

    assert AskBlocker(WAVE, "/bin/may-i --now", ("n1", "n2"), "reboot") in first
    assert (marks(first), asks.why) == ([], "asks its blocker about 2 nodes")
    assert marks(second) == ["n1", "n2"]
    assert not [d for d in second if isinstance(d, AskBlocker)]
    assert free.why.startswith("budget")


def test_only_nodes_that_the_blocker_was_asked_about_are_marked() -> None:
    wave = wave_over("n1", "n2", "n3", max_unavailable=3, blocker="/bin/may-i")
    _, decisions = blocked_step(wave, BlockerAnswer(frozenset({"n2"}), T0))
    _, others = blocked_step(wave, BlockerAnswer(frozenset({"n9"}), T0))

    assert marks(decisions) == ["n2"]
    assert (marks(others), any(isinstance(d, AskBlocker) for d in others)) == ([], True)


def test_a_blocked_wave_says_why_and_asks_again_after_a_minute() -> None:
    wave = wave_over("n1", blocker="/bin/may-i", node_deadline_s=10)
    answer = BlockerAnswer(frozenset({"n1"}), T0, "blocked by may-i: backup is running")
    now, soon = blocked_step(wave, answer)
    later, again = blocked_step(now, answer, T0 + 61)

    assert (now.why, marks(soon), now.state) == (answer.why, [], WaveState.RUNNING)
    assert not any(isinstance(d, AskBlocker) for d in soon)
    assert any(isinstance(d, AskBlocker) for d in again)
    assert (later.why, later.state) == (answer.why, WaveState.RUNNING)  # however long: nobody is held for that


def test_an_answer_of_an_hour_ago_lets_nothing_go() -> None:
    _, decisions = blocked_step(wave_over("n1", blocker="/bin/may-i"), BlockerAnswer(frozenset({"n1"}), T0 - 3600))

    assert marks(decisions) == []


def test_a_held_canary_pauses_whatever_failures_are_allowed() -> None:
    wave, _ = step(wave_over("n1", "n2", canary=1, max_failures=9), idle_fleet("n1", "n2"))
    wave, decisions = step(wave, after(idle_fleet("n1", "n2"), *held("n1"), now=T0), T0)
    resumed, on = step(rules.resumed(wave), after(idle_fleet("n1", "n2"), *held("n1"), now=T0), T0)

    assert (wave.state, wave.pause) == (WaveState.PAUSED, PauseCause.CANARY)
    assert wave.why == "a canary is held: n1 (no link)"
    assert tells(decisions) == [EventKind.WAVE_PAUSED]
    assert (resumed.state, marks(on)) == (WaveState.RUNNING, ["n2"])


def test_too_many_held_nodes_pause_and_a_resume_forgives_them() -> None:
    fleet = idle_fleet("n1", "n2", "n3")
    wave, _ = step(wave_over("n1", "n2", "n3"), fleet)
    fleet = after(fleet, *held("n1"), now=T0 + 1)
    wave, _ = step(wave, fleet, T0 + 1)
    resumed, decisions = step(rules.resumed(wave), fleet, T0 + 2)

    assert (wave.pause, wave.why) == (PauseCause.FAILURES, "1 held, 0 allowed: n1 (no link)")
    assert (resumed.state, marks(decisions)) == (WaveState.RUNNING, ["n2"])


def test_a_wave_with_held_nodes_within_what_is_allowed_still_ends_as_failed() -> None:
    wave, _ = step(wave_over("n1", "n2", "n3", max_unavailable=3, max_failures=3), idle_fleet("n1", "n2", "n3"))
    wave, decisions = step(wave, after(idle_fleet(), *done("n3"), *held("n1", "n2"), now=T0 + 5), T0 + 5)

    assert (wave.state, wave.ended_at) == (WaveState.FAILED, T0 + 5)
    assert wave.why == "1 done, 2 held: n1 (no link), n2 (no link)"
    assert tells(decisions) == [EventKind.WAVE_ENDED]


def test_a_wave_of_which_nothing_is_held_ends_as_done() -> None:
    fleet = fleet_of(view("n1"), view("n2", "IDLE+DRAIN", "bad DIMM"), status("n1"), status("n2"))
    wave, _ = step(wave_over("n1", "n2", max_unavailable=2), fleet)
    wave, _ = step(wave, after(fleet, *done("n1"), now=T0), T0)

    assert (wave.state, wave.why) == (WaveState.DONE, "1 done, 1 skipped")
    assert wave.with_turn(Turn.SKIPPED)[0].why == "drained: bad DIMM"


def test_a_node_without_an_agent_is_waited_for_and_then_skipped() -> None:
    wave, _ = step(wave_over("n1", node_deadline_s=100), fleet_of(view("n1")))
    waiting, _ = step(wave, fleet_of(view("n1")), T0 + 100)
    over, _ = step(waiting, fleet_of(view("n1")), T0 + 101)

    assert waiting.why == "waits for n1: no agent is online there"
    assert over.members[0].turn is Turn.SKIPPED
    assert over.members[0].why == "waited 100 s: no agent is online there"


def test_a_node_that_is_not_ready_has_time_while_others_take_their_turn() -> None:
    fleet = fleet_of(view("n1"), view("n2"), view("n3"), status("n2"), status("n3"))
    wave, _ = step(wave_over("n1", "n2", "n3", node_deadline_s=100), fleet)
    wave, _ = step(wave, fleet, T0 + 500)

    assert wave.members[0].turn is Turn.WAITING


def test_a_silent_slurmctld_pauses_and_the_wave_goes_on_by_itself() -> None:
    fleet = idle_fleet("n1")
    paused, decisions = step(wave_over("n1"), after(fleet, Unread("connect failure"), now=T0))
    wave, on = step(paused, fleet)

    assert (paused.state, paused.why) == (WaveState.PAUSED, "Slurm does not answer: connect failure")
    assert tells(decisions) == [EventKind.WAVE_STARTED, EventKind.WAVE_PAUSED]
    assert (wave.state, marks(on)) == (WaveState.RUNNING, ["n1"])


def test_a_wave_that_only_its_budget_stops_pauses_in_the_end() -> None:
    fleet = fleet_of(view("n1"), view("n9", "DOWN"), status("n1"))
    limits = [Limit("cluster", Amount(1))]
    wave, _ = step(wave_over("n1", node_deadline_s=100), fleet, limits=limits)
    wave, _ = step(wave, fleet, T0 + 101, limits)

    assert (wave.pause, wave.why) == (PauseCause.BUDGET, "budget cluster: 1 of 1 out: n9 (down)")


def test_a_paused_wave_marks_nothing_but_sees_its_nodes_finish() -> None:
    fleet = idle_fleet("n1", "n2")
    wave, _ = step(wave_over("n1", "n2"), fleet)
    wave, decisions = step(rules.paused(wave), after(fleet, *done("n1"), now=T0), T0)

    assert (tells(decisions), marks(decisions)) == ([EventKind.WAVE_PAUSED], [])
    assert wave.members[0].turn is Turn.DONE


def test_an_abort_gives_drains_back_and_lets_nodes_under_way_finish() -> None:
    names = ("n1", "n2", "n3")
    wave, _ = step(wave_over(*names, max_unavailable=2), idle_fleet(*names))
    fleet = fleet_of(
        view("n1", "MIXED+DRAIN", TRIGGER),
        view("n2", "IDLE+DRAIN", TRIGGER),
        status("n1", Phase.DRAINING, now=cycle()),
        status("n2", Phase.DRAINING, now=cycle("c2")),
        now=T0 + 5,
    )
    permit = Permit(node="n2", cycle="c2", purpose=Purpose.CYCLE, granted_at=T0)
    world = World(fleet, {"n2": permit})
    wave, decisions = moves.decide(rules.aborted(wave), world, T0 + 5)
    back = after(fleet, Read(T0 + 9, (view("n1"),)), *done("n2"), now=T0 + 9)
    over, _ = moves.decide(wave, World(back), T0 + 9)

    assert [d for d in decisions if isinstance(d, GiveBack)] == [GiveBack(WAVE, "n1", TRIGGER)]
    assert [m.turn for m in wave.members] == [Turn.MARKED, Turn.MARKED, Turn.SKIPPED]
    assert (over.state, over.why) == (WaveState.ABORTED, "1 done, 2 skipped")


def test_no_permit_is_given_for_a_wave_that_is_being_aborted() -> None:
    wave = rules.aborted(wave_over("n1"))

    assert moves.objection([wave], request(wave=WAVE)) == f"wave {WAVE} is being aborted"
    assert moves.objection([wave_over("n1")], request(wave=WAVE)) == ""


def test_a_lost_node_is_told_once() -> None:
    fleet = idle_fleet("n1")
    wave, _ = step(wave_over("n1", node_deadline_s=100, max_failures=1), fleet)
    gone = after(fleet, Heard(status("n1", Phase.REBOOTING, now=cycle(), at=2.0)), now=T0)
    wave, _ = step(wave, gone, T0 + 1)
    wave, decisions = step(wave, gone, T0 + 102)

    assert tells(decisions) == [EventKind.NODE_LOST, EventKind.WAVE_ENDED]
    assert step(wave, gone, T0 + 103) == (wave, ())


def test_a_retry_marks_again_over_the_hold_of_the_wave_itself() -> None:
    fleet = idle_fleet("n1", "n2")
    wave, _ = step(wave_over("n1", "n2"), fleet)
    fleet = after(fleet, *held("n1"), Read(T0, (view("n1", "IDLE+DRAIN", "refloat-hold: x refloat=c-n1"),)), now=T0)
    wave, _ = step(wave, fleet, T0 + 1)
    wave = rules.resumed(rules.retried(wave, ["n1"], fleet, T0 + 2))
    wave, decisions = step(wave, fleet, T0 + 2)

    assert Mark(WAVE, "n1", TRIGGER, ("c-n1",)) in decisions
    assert wave.members[0].attempt == 2


def test_a_node_taken_out_of_the_wave_no_longer_counts_for_its_own_limit() -> None:
    fleet = fleet_of(view("n1", "DOWN"), view("n2"), status("n2"))
    wave, _ = step(wave_over("n1", "n2"), fleet)
    _, decisions = step(rules.skipped(wave, ["n1"], T0), fleet)

    assert marks(decisions) == ["n2"]


@pytest.mark.parametrize(
    "change",
    [
        rules.resumed,
        lambda wave: rules.retried(wave, ["n1"], Fleet(), T0),
        lambda wave: rules.retried(wave, ["n7"], Fleet(), T0),
        lambda wave: rules.skipped(wave, ["n7"], T0),
        lambda wave: rules.paused(rules.aborted(wave)),
        lambda wave: rules.paused(wave.but(state=WaveState.DONE)),
        lambda wave: rules.aborted(wave.but(state=WaveState.DONE)),
    ],
)
def test_what_makes_no_sense_is_refused(change: object) -> None:
    with pytest.raises(Refused):
        change(wave_over("n1"))  # type: ignore[operator]


def test_an_abort_asked_for_twice_is_one() -> None:
    wave = rules.aborted(wave_over("n1"))

    assert rules.aborted(wave) is wave


def test_the_report_counts_all_and_shows_those_under_way_or_held() -> None:
    wave, _ = step(wave_over("n1", "n2"), idle_fleet("n1", "n2"))
    fleet = after(idle_fleet("n1"), Heard(status("n1", Phase.DRAINING, now=cycle(), why="job 7", at=2.0)), now=T0)
    report = rules.report(wave, fleet)

    assert report.counts == {Turn.MARKED: 1, Turn.WAITING: 1}
    assert [(n.node, n.phase, n.why) for n in report.nodes] == [("n1", Phase.DRAINING, "job 7")]


def test_a_wave_reads_back_from_json_as_it_was() -> None:
    wave, _ = step(wave_over("n1", "n2", canary=1), idle_fleet("n1", "n2"))

    assert Wave.model_validate_json(wave.model_dump_json()) == wave


def test_a_cancelled_cycle_is_skipped_and_a_late_success_still_counts() -> None:
    wave, _ = step(wave_over("n1", "n2", max_unavailable=2), idle_fleet("n1", "n2"))
    cancelled = Heard(status("n1", last=ended(Outcome.CANCELLED), at=2.0))
    wave, _ = step(wave, after(idle_fleet("n1", "n2"), cancelled, now=T0), T0)
    skipped = wave.members[0].turn
    wave, _ = step(wave, after(idle_fleet("n1", "n2"), *done("n1"), now=T0), T0)

    assert (skipped, wave.members[0].turn) == (Turn.SKIPPED, Turn.DONE)


STORIES = st.lists(
    st.tuples(
        st.sampled_from(["n1", "n2", "n3", "n4"]),
        st.sampled_from(
            [
                *("idle", "mixed", "drained", "marked", "draining", "gone", "booted"),
                *("done", "held", "online", "offline", "observing", "retry", "unread", "read", "later"),
            ]
        ),
        st.booleans(),
    ),
    max_size=25,
)
DEADLINES = st.fixed_dictionaries(
    {"deadline_s": st.sampled_from([None, 20]), "on_deadline": st.sampled_from(list(OnDeadline))}
)


def of_n1(*happens: str, unsaved: str = "") -> list[tuple[str, str, bool]]:
    return [("n1", what, what != unsaved) for what in happens]


@settings(deadline=None)
@given(STORIES, DEADLINES)
@example(of_n1("draining", "read", "later"), {"deadline_s": 20})
@example(of_n1("draining", "read", "later", "read", "later"), {"deadline_s": 20, "on_deadline": "requeue"})
@example(of_n1("marked", "offline", "read", "later"), {})
@example(of_n1("marked", "idle", "read", "read", "later"), {})
@example(of_n1("read", "observing", "read"), {})
@example(of_n1("drained", "read", unsaved="drained"), {})
@example(of_n1("marked", "done", "read", unsaved="done"), {})
def test_what_is_settled_only_saves_time(story: list[tuple[str, str, bool]], deadline: dict[str, object]) -> None:
    names = ("n1", "n2", "n3", "n4")
    quick = slow = wave_over(*names, max_unavailable=2, canary=1, max_failures=4, node_deadline_s=40, **deadline)
    fleet, settled, now = idle_fleet(*names), Settled(), T0
    for name, what, is_saved in story:
        now += 1000 if what == "later" else 10
        if what == "retry":
            if any(m.node == name and m.turn in {Turn.HELD, Turn.SKIPPED} for m in slow.members) and not slow.is_ended:
                quick = rules.retried(quick, [name], fleet, now)
                slow = rules.retried(slow, [name], fleet, now)
        else:
            fleet = after(fleet, *happened(name, what, now), now=now)
        if not is_saved:  # the disk is full, say: the wave stays as it was
            moves.decide(quick, World(fleet, settled=settled), now)
            continue
        quick, actions = moves.decide(quick, World(fleet, settled=settled), now)
        slow, expected = moves.decide(slow, World(fleet), now)
        assert (quick, actions) == (slow, expected)


def happened(name: str, what: str, now: float) -> list[Fact]:
    match what:
        case "idle" | "mixed" | "drained" | "marked" | "draining":
            drained = {"drained": "IDLE+DRAIN", "marked": "IDLE+DRAIN", "draining": "MIXED+DRAIN"}
            reason = {"drained": "fan broken", "marked": TRIGGER, "draining": TRIGGER}.get(what, "")
            return [Read(now, (view(name, drained.get(what, what.upper()), reason),))]
        case "booted":
            return [Read(now, (view(name, boot_time=2000, slurmd_start_time=2010),))]
        case "unread":
            return [Unread("Connection refused")]
        case "read" | "later":
            return [Read(now, ())]
        case "online" | "observing":
            return [Heard(status(name, observe_only=what == "observing", at=now))]
        case "gone":
            return [Read(now, (view(name).model_copy(update={"known": False}),))]
        case "done":
            return list(done(name))
        case "held":
            return list(held(name))
        case _:
            return [Heard(status(name, online=False))]
