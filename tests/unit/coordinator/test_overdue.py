# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from unit.coordinator.world import T0, TRIGGER, WAVE, cycle, fleet_of, request, status, view, wave_over

from refloat_contract.words import EventKind, Phase, Turn, WaveState
from refloat_coordinator.fleet import Fleet
from refloat_coordinator.waves import moves
from refloat_coordinator.waves import wave as rules
from refloat_coordinator.waves.decisions import Decision, EndJobs, GiveBack, Tell
from refloat_coordinator.waves.wave import Wave
from refloat_coordinator.waves.world import World
from refloat_slurm.gateway import JobEnd

HOUR = 3600.0


def fleet(
    state: str = "ALLOCATED+DRAIN", phase: Phase = Phase.DRAINING, now: float = T0, reason: str = TRIGGER
) -> Fleet:
    return fleet_of(view("n1", state, reason), status("n1", phase, now=cycle()), now=now)


def marked(**spec: Any) -> Wave:
    """A wave whose only node was marked at T0 and still runs jobs."""
    given = {"deadline_s": HOUR, **spec}
    wave = wave_over("n1", **given).but(by="alice")
    members = tuple(m.entering(Turn.MARKED, T0).but(confirmed=True) for m in wave.members)
    return wave.but(members=members, announced=True, promoted=True)


def step(wave: Wave, at: float, world: Fleet | None = None) -> tuple[Wave, tuple[Decision, ...]]:
    return moves.decide(wave, World(world or fleet(now=at)), at)


@pytest.mark.parametrize("on_deadline", ["hold", "skip", "requeue", "cancel-jobs"])
def test_nothing_happens_before_the_deadline_or_without_one(on_deadline: str) -> None:
    early, none = step(marked(on_deadline=on_deadline), T0 + HOUR)
    endless, nothing = step(marked(deadline_s=None), T0 + 1000 * HOUR)

    assert [m.turn for m in (*early.members, *endless.members)] == [Turn.MARKED, Turn.MARKED]
    assert (none, nothing) == ((), ())


def test_hold_leaves_the_node_drained_and_counts_it_as_held() -> None:
    wave, decisions = step(marked(max_failures=0), T0 + HOUR + 1)

    assert wave.members[0].turn is Turn.HELD
    assert wave.members[0].why == "its jobs have not ended within 1h00m; it stays drained"
    assert wave.state is WaveState.FAILED
    assert not [d for d in decisions if not isinstance(d, Tell)]


def test_a_held_node_whose_jobs_end_after_all_may_be_tried_again_in_the_same_cycle() -> None:
    wave = marked(max_failures=1)
    both = fleet_of(view("n2"), base=fleet(now=T0 + HOUR), now=T0 + HOUR)
    wave, _ = step(wave.but(members=(*wave.members, *wave_over("n2").members)), T0 + HOUR + 1, both)
    again = rules.retried(wave, ["n1"], fleet(), T0 + HOUR + 2)
    taken_up, decisions = step(again, T0 + HOUR + 3, both)

    assert taken_up.members[0].turn is Turn.MARKED
    assert (taken_up.members[0].confirmed, taken_up.members[0].spent) == (True, ())
    assert not [d for d in decisions if not isinstance(d, Tell)]


def test_skip_gives_the_drain_back_and_goes_on_without_the_node() -> None:
    wave, decisions = step(marked(on_deadline="skip"), T0 + HOUR + 1)
    denied = moves.objection([wave], request("n1", wave=WAVE))
    gone, _ = step(wave, T0 + HOUR + 9, fleet("ALLOCATED", Phase.IN_SERVICE, T0 + HOUR + 8, ""))

    assert GiveBack(WAVE, "n1", TRIGGER) in decisions
    assert denied == f"wave {WAVE} gives the node back: its jobs have not ended within 1h00m"
    assert (gone.members[0].turn, gone.state) == (Turn.SKIPPED, WaveState.DONE)
    assert gone.members[0].why == "its jobs have not ended within 1h00m; its drain was given back"


def test_a_node_whose_cycle_has_begun_is_not_given_back() -> None:
    wave, _ = step(marked(on_deadline="skip"), T0 + HOUR + 1)
    begun = fleet("DOWN+DRAIN", Phase.REBOOTING, T0 + HOUR + 5, f"rebooting refloat=c1 wave={WAVE}")
    wave, decisions = step(wave, T0 + HOUR + 6, begun)

    assert wave.members[0].turn is Turn.MARKED
    assert not [d for d in decisions if isinstance(d, GiveBack)]


@pytest.mark.parametrize(("word", "how"), [("requeue", JobEnd.REQUEUE), ("cancel-jobs", JobEnd.CANCEL)])
def test_jobs_are_ended_because_an_operator_said_so_and_the_record_says_who(word: str, how: JobEnd) -> None:
    wave, decisions = step(marked(on_deadline=word), T0 + HOUR + 1)
    _, again = step(wave, T0 + HOUR + 2)
    (told,) = [d.event for d in decisions if isinstance(d, Tell)]

    assert EndJobs(WAVE, "n1", TRIGGER, how, "alice", 1) in decisions
    assert EndJobs(WAVE, "n1", TRIGGER, how, "alice", 1) in again  # until Slurm shows that they are gone
    assert not [d for d in again if isinstance(d, Tell)]
    assert (told.kind, told.node, told.operator) == (EventKind.DEADLINE_PASSED, "n1", "alice")
    assert "as alice asked" in told.message


@pytest.mark.parametrize(
    "changed",
    [
        {"state": WaveState.PAUSED},
        {"spec": marked(on_deadline="requeue", window="00:00-00:01 UTC").spec},
    ],
)
def test_no_job_is_ended_while_the_wave_is_paused_or_its_window_closed(changed: dict[str, Any]) -> None:
    wave = marked(on_deadline="requeue").but(**changed)
    _, decisions = step(wave, T0 + HOUR + 1)

    assert not [d for d in decisions if isinstance(d, EndJobs)]


def test_no_job_is_ended_where_the_mark_is_gone_or_slurm_is_silent() -> None:
    wave, _ = step(marked(on_deadline="requeue"), T0 + HOUR + 1)
    foreign = fleet(reason="bad DIMM", now=T0 + HOUR + 2)

    assert not [d for d in step(wave, T0 + HOUR + 3, foreign)[1] if isinstance(d, EndJobs)]


def test_a_node_whose_jobs_do_not_end_though_they_were_told_to_is_held() -> None:
    wave, _ = step(marked(on_deadline="requeue"), T0 + HOUR + 1)
    wave, _ = step(wave, T0 + HOUR + 1 + 901)

    assert wave.members[0].turn is Turn.HELD
    assert wave.members[0].why == "its jobs have not ended, though they are requeued, as alice asked"
