# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_agent import health
from refloat_agent.evidence import not_passed
from refloat_agent.health import NOTHING, Gate, fold, judge
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
