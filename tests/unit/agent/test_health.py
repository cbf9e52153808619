# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_agent import health
from refloat_agent.evidence import not_passed
from refloat_agent.health import NOTHING, Flapping, Gate, Tracks, fold, forget, judge
from refloat_agent.observation import HealthFacts
from refloat_checks.api import Finding, Result, When
from refloat_contract.words import Status, Verdict

OK, FAILED, UNKNOWN = Status.OK, Status.FAILED, Status.UNKNOWN


def _judge(gate: Gate, *statuses: Status) -> HealthFacts:
    tracks = NOTHING
    for at_s, status in enumerate(statuses):
        tracks = fold(tracks, gate, Result(Finding(gate.check, status, f"look {at_s}"), float(at_s), 0.1))
    return judge(tracks, [gate])


@pytest.mark.parametrize(
    ("gate", "statuses", "verdict"),
    [
        (Gate("a"), (), Verdict.UNKNOWN),
        (Gate("a"), (OK,), Verdict.HEALTHY),
        (Gate("a"), (FAILED,), Verdict.UNHEALTHY),
        (Gate("a"), (UNKNOWN,), Verdict.UNKNOWN),
        (Gate("a"), (OK, UNKNOWN, UNKNOWN), Verdict.HEALTHY),
        (Gate("a"), (FAILED, UNKNOWN, UNKNOWN), Verdict.UNHEALTHY),
        (Gate("a", fail_after=2), (OK, FAILED), Verdict.HEALTHY),
        (Gate("a", fail_after=2), (OK, FAILED, FAILED), Verdict.UNHEALTHY),
        (Gate("a", fail_after=2), (OK, FAILED, UNKNOWN, FAILED), Verdict.UNHEALTHY),
        (Gate("a", fail_after=2), (OK, FAILED, OK, FAILED), Verdict.HEALTHY),
        (Gate("a", fail_after=2), (FAILED,), Verdict.UNKNOWN),
        (Gate("a", pass_after=2), (FAILED, OK), Verdict.UNHEALTHY),
        (Gate("a", pass_after=2), (FAILED, OK, OK), Verdict.HEALTHY),
        (Gate("a", gates=False), (FAILED,), Verdict.HEALTHY),
        (Gate("a", when=When.RESUME), (FAILED,), Verdict.HEALTHY),
    ],
)
def test_findings_over_time_become_a_verdict(gate: Gate, statuses: tuple[Status, ...], verdict: Verdict) -> None:
    assert _judge(gate, *statuses).verdict is verdict


def test_damping_keeps_a_node_in_service_but_never_puts_one_back() -> None:
    facts = _judge(Gate("a", fail_after=3), OK, FAILED)

    assert facts.verdict is Verdict.HEALTHY
    assert not_passed(facts, since_s=0.0) == "check a FAILED: look 1"


def test_a_check_that_is_only_run_for_a_resume_must_have_passed_for_one() -> None:
    gates = [Gate("a"), Gate("b", when=When.RESUME)]
    tracks = fold(NOTHING, gates[0], Result(Finding("a", OK, ""), 5.0, 0.1))

    assert judge(tracks, gates).verdict is Verdict.HEALTHY
    assert not_passed(judge(tracks, gates), since_s=0.0) == "waiting for every check to have run"
    tracks = fold(tracks, gates[1], Result(Finding("b", UNKNOWN, "no tool"), 6.0, 0.1))
    assert not_passed(judge(tracks, gates), since_s=0.0) == "check b UNKNOWN: no tool"


def test_looks_from_before_do_not_count() -> None:
    facts = _judge(Gate("a"), OK)

    assert not_passed(facts, since_s=0.0) is None
    assert not_passed(facts, since_s=0.5) == "waiting for every check to have run"


def test_without_checks_there_is_nothing_to_wait_for() -> None:
    assert not_passed(health.judge(NOTHING, []), since_s=1e9) is None


FLAPPING = Gate("a", flapping=Flapping(limit=3, window_s=100.0, pass_s=10.0, pass_most_s=25.0))


def _tracks(gate: Gate, *looks: tuple[float, Status]) -> Tracks:
    tracks = NOTHING
    for at_s, status in looks:
        tracks = fold(tracks, gate, Result(Finding(gate.check, status, f"{status} at {at_s:g}"), at_s, 0.1))
    return tracks


FLAPS = ((0.0, OK), (1.0, FAILED), (2.0, OK), (3.0, FAILED))


@pytest.mark.parametrize(
    ("looks", "believed", "must_pass_s"),
    [
        (FLAPS[:3], OK, 0.0),
        (FLAPS, FAILED, 10.0),
        ((*FLAPS, (4.0, OK), (13.0, OK)), FAILED, 10.0),
        ((*FLAPS, (4.0, OK), (14.0, OK)), OK, 10.0),
        ((*FLAPS, (4.0, OK), (9.0, FAILED), (10.0, OK), (19.0, OK)), FAILED, 10.0),
        ((*FLAPS, (4.0, OK), (9.0, UNKNOWN), (10.0, OK), (19.0, OK)), FAILED, 10.0),
        ((*FLAPS, (4.0, OK), (14.0, OK), (20.0, FAILED), (21.0, OK), (40.0, OK)), FAILED, 20.0),
        ((*FLAPS, (4.0, OK), (14.0, OK), (20.0, FAILED), (21.0, OK), (41.0, OK)), OK, 20.0),
        (
            (*FLAPS, (4.0, OK), (14.0, OK), (20.0, FAILED), (21.0, OK), (41.0, OK), (42.0, FAILED)),
            FAILED,
            25.0,
        ),
        ((*FLAPS, (4.0, OK), (14.0, OK), (200.0, FAILED), (201.0, OK)), OK, 0.0),
    ],
    ids=str,
)
def test_what_flaps_must_pass_for_longer_each_time_up_to_a_ceiling(
    looks: tuple[tuple[float, Status], ...], believed: Status, must_pass_s: float
) -> None:
    track = _tracks(FLAPPING, *looks)["a"]

    assert (track.believed, track.must_pass_s) == (believed, must_pass_s)


def test_without_a_limit_nothing_flaps() -> None:
    looks = tuple((float(at), FAILED if at % 2 else OK) for at in range(99))

    assert _tracks(Gate("a"), *looks)["a"].must_pass_s == 0.0


def test_a_failure_that_sticks_stays_and_says_what_takes_it_away() -> None:
    gate = Gate("a", sticky=True)
    tracks = _tracks(gate, (0.0, FAILED), (1.0, OK), (2.0, OK))

    (failure,) = judge(tracks, [gate]).failing
    assert failure.message == "FAILED at 0 (sticks until the next boot or 'refloat check clear')"
    assert judge(forget(tracks, "a"), [gate]).failing == ()


def test_a_failure_that_is_still_believed_tells_what_failed_and_not_what_passes() -> None:
    gate = Gate("a", pass_after=2)

    (failure,) = judge(_tracks(gate, (0.0, FAILED), (1.0, OK)), [gate]).failing
    (blind,) = judge(_tracks(gate, (0.0, FAILED), (1.0, UNKNOWN)), [gate]).failing
    assert failure.message == "FAILED at 0"
    assert blind.message == "FAILED at 0"


def test_what_has_failed_for_longest_is_told_first_and_what_only_warns_apart() -> None:
    gates = [Gate("a"), Gate("b", fail_after=2), Gate("c"), Gate("w", gates=False)]
    tracks = NOTHING
    for at_s, name in enumerate("wbbca"):
        tracks = fold(tracks, gates["abcw".index(name)], Result(Finding(name, FAILED, ""), float(at_s), 0.1))
    facts = judge(tracks, gates)

    assert [failure.check for failure in facts.failing] == ["b", "c", "a"]
    assert [failure.check for failure in facts.warning] == ["w"]


def test_an_idle_nodes_check_is_not_waited_for_but_its_failure_counts() -> None:
    gates = [Gate("a"), Gate("burn", when=When.IDLE)]
    tracks = _tracks(gates[0], (5.0, OK))

    assert judge(tracks, gates).verdict is Verdict.HEALTHY
    assert not_passed(judge(tracks, gates), since_s=0.0) is None
    tracks = fold(tracks, gates[1], Result(Finding("burn", FAILED, "slow"), 6.0, 0.1))
    assert judge(tracks, gates).verdict is Verdict.UNHEALTHY
    assert not_passed(judge(tracks, gates), since_s=0.0) == "check burn FAILED: slow"


def test_a_check_for_the_boot_is_waited_for() -> None:
    gates = [Gate("a", when=When.BOOT)]

    assert judge(NOTHING, gates).verdict is Verdict.UNKNOWN
    assert judge(_tracks(gates[0], (5.0, OK)), gates).verdict is Verdict.HEALTHY
