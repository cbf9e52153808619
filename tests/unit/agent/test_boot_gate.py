# SPDX-License-Identifier: Apache-2.0
"""What slurmd waits for at boot, and what becomes of a node whose storage does not come."""

from dataclasses import replace
from typing import Any

import pytest

from refloat_agent import boot_gate, in_service
from refloat_agent.actions import DrainForHealth
from refloat_agent.boot_gate import Answer, Rules
from refloat_agent.boot_profile import is_awaited, names_slurmd
from refloat_agent.effects.gatekeeper import SILENT_S, Gatekeeper
from refloat_agent.moves import Decision
from refloat_agent.observation import GateFacts, HealthFacts, Observation, ServiceFacts, SlurmFacts, StorageFacts
from refloat_agent.recipes import Recipe, short_form
from refloat_agent.state import Policy, State, initial
from refloat_checks import registry
from refloat_contract.messages import Failure
from refloat_contract.words import EventKind, Verdict
from refloat_slurm.gateway import NodeView

GONE = StorageFacts("scratch", mounted=False, right=False, why="nothing is mounted on /scratch")
THERE = StorageFacts("scratch", mounted=True, right=True)
CHECK = Failure(check="ib0", message="is down")
RULES = Rules(300.0, acts=True, drains=True)
POLICY = Policy("n1", {"reboot": Recipe("reboot", short_form(reboot=True))})
STATE = initial("aaaaaaaa-0000-4000-8000-000000000000", "nonce0")
WELL = HealthFacts(Verdict.HEALTHY, oldest_s=999.0)
LATE = GateFacts(holds=True, overdue=True)
LINE = "refloat: boot: nothing is mounted on /scratch"


def _view(flags: str, reason: str = "") -> NodeView:
    return NodeView("n1", frozenset(flags.split("+")), reason, "slurm", 1)


@pytest.mark.parametrize(
    ("storage", "waiting", "lacking"),
    [
        ((), (), ""),
        ((THERE,), (), ""),
        ((GONE,), (), "nothing is mounted on /scratch"),
        ((THERE,), (CHECK,), "ib0: is down"),
        ((GONE, THERE), (CHECK,), "nothing is mounted on /scratch; ib0: is down"),
        (None, (), "the mount table could not be read"),
    ],
)
def test_the_gate_waits_for_storage_and_checks(storage: Any, waiting: tuple[Failure, ...], lacking: str) -> None:
    assert boot_gate.lacks(storage, waiting) == lacking


@pytest.mark.parametrize(
    ("lacking", "waited_s", "rules", "view", "drainable", "opens", "overdue", "says"),
    [
        ("", 0.0, RULES, None, False, True, False, "storage is mounted"),
        ("no /x", 299.0, RULES, _view("IDLE"), True, False, False, "waiting: no /x"),
        ("no /x", 299.0, RULES, _view("DOWN+DRAIN"), True, False, False, "waiting: no /x"),
        ("no /x", 0.0, replace(RULES, acts=False), None, True, True, False, "observing only"),
        ("no /x", 300.0, RULES, _view("IDLE"), True, False, True, "draining the node first"),
        ("no /x", 300.0, RULES, None, True, False, True, "draining the node first"),
        ("no /x", 300.0, RULES, _view("IDLE+DRAIN", LINE), True, True, True, f"the node is drained: {LINE}"),
        ("no /x", 300.0, RULES, _view("IDLE+DRAIN", "bad DIMM"), True, True, True, "the node is drained: bad DIMM"),
        ("no /x", 360.0, RULES, None, True, True, True, "the node is NOT drained yet"),
        ("no /x", 300.0, replace(RULES, drains=False), None, True, True, False, "health.drain is off"),
        ("gpu: no answer", 300.0, RULES, None, False, True, False, "what cannot be looked at drains nobody"),
    ],
)
def test_the_gates_answer(
    lacking: str, waited_s: float, rules: Rules, view: Any, *, drainable: bool, opens: bool, overdue: bool, says: str
) -> None:
    answer = boot_gate.answer(lacking, waited_s, rules, view, drainable=drainable, trouble="")

    assert (answer.opens, answer.overdue) == (opens, overdue)
    assert says in answer.why


def _decide(flags: str, reason: str = "", state: State = STATE, **facts: Any) -> Decision:
    facts = {"now_s": 1000.0, "wall_ns": 10**18, "boot_id": STATE.boot_id, "health": WELL, "gate": LATE, **facts}
    seen = Observation(slurm=SlurmFacts(_view(flags, reason), fresh=True), **facts)
    return in_service.decide(state, boot_gate.judged(state, seen), POLICY)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("IDLE", ""),
        ("IDLE+NOT_RESPONDING", ""),
        ("DOWN+NOT_RESPONDING", "Not responding"),
        ("DOWN", "Node unexpectedly rebooted"),
    ],
)
def test_a_node_is_drained_before_its_slurmd_starts_without_storage(flags: str, reason: str) -> None:
    decision = _decide(flags, reason, storage=(GONE,))

    assert decision.actions == (DrainForHealth(LINE),)
    assert decision.state.boot_failed


@pytest.mark.parametrize(
    ("flags", "reason"),
    [("DOWN", "broken PSU, back on Monday"), ("IDLE+DRAIN", "bad DIMM"), ("IDLE+FAIL", ""), ("IDLE+REBOOT_ISSUED", "")],
)
def test_what_others_took_out_is_left_to_them(flags: str, reason: str) -> None:
    assert _decide(flags, reason, storage=(GONE,)).actions == ()


@pytest.mark.parametrize("facts", [{"storage": (THERE,)}, {"storage": None}, {"storage": (GONE,), "gate": GateFacts()}])
def test_nothing_is_drained_for_storage_that_is_there_or_not_known_or_not_asked_for(facts: dict[str, Any]) -> None:
    decision = _decide("IDLE", **facts)

    assert (decision.actions, decision.state.boot_failed) == ((), False)


def test_a_drain_that_was_not_taken_comes_when_slurmctld_is_back_although_the_gate_is_gone() -> None:
    state = replace(STATE, boot_failed=True)

    assert _decide("IDLE", state=state, storage=(GONE,), gate=GateFacts()).actions == (DrainForHealth(LINE),)


def test_it_asks_for_no_permit_while_slurmd_is_held_back() -> None:
    policy = replace(POLICY, has_coordinator=True, proceed_without_coordinator=False)
    view = SlurmFacts(_view("IDLE"), fresh=True)
    facts = Observation(1000.0, 10**18, STATE.boot_id, view, storage=(GONE,), health=WELL, gate=LATE)

    decision = in_service.decide(STATE, boot_gate.judged(STATE, facts), policy)

    assert decision.actions == (DrainForHealth(LINE),)


def test_the_reason_stands_and_storage_is_tried_again_until_it_is_there() -> None:
    state = replace(STATE, boot_failed=True, health_drained=True, health_since_s=900.0)
    up: dict[str, Any] = {"services": (ServiceFacts("a", active=True),), "registered": True, "gate": GateFacts()}

    missing = _decide("IDLE+DRAIN", LINE, state, storage=(GONE,), **up)
    back = _decide("IDLE+DRAIN", LINE, missing.state, storage=(THERE,), **up)

    assert (missing.actions, missing.state.restore) == ((), True)
    assert not back.state.boot_failed


def test_the_record_is_told_that_a_boot_failed_and_that_it_is_mended() -> None:
    drained = replace(STATE, health_drained=True, health_retry_s=1001.0)
    failed = _decide("IDLE+DRAIN", LINE, drained, storage=(GONE,)).state
    mended = _decide("IDLE", state=replace(failed, outbox=()), storage=(THERE,), gate=GateFacts()).state

    assert [failure.check for failure in failed.failing] == [boot_gate.CHECK]
    assert [event.kind for event in mended.outbox if event.check == boot_gate.CHECK] == [EventKind.CHECK_PASSED]


def test_storage_and_slurm_are_read_afresh_for_a_gate_that_is_late() -> None:
    hint = SlurmFacts(_view("IDLE"), fresh=False, from_feed=True)

    wanted = in_service.wants(STATE, hint, WELL, POLICY, LATE)

    assert (wanted.slurm, wanted.storage) == (True, True)
    assert not in_service.wants(STATE, hint, WELL, POLICY).storage


class _Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def boottime_s(self) -> float:
        return self.now_s

    def wall_ns(self) -> int:
        return 0


def test_a_gate_that_asks_no_more_holds_nothing_back() -> None:
    clock = _Clock()
    keeper = Gatekeeper(clock)
    never = keeper.facts()
    keeper.told(Answer(opens=False, why="", overdue=True))
    asked = keeper.facts()
    clock.now_s = SILENT_S

    assert (never, asked, keeper.facts()) == (GateFacts(), LATE, GateFacts())


@pytest.mark.parametrize(
    ("table", "awaited"),
    [
        ({"name": "s", "type": "mount", "path": "/scratch"}, True),
        ({"name": "s", "type": "mount", "path": "/scratch", "when": "boot"}, True),
        ({"name": "s", "type": "mount", "path": "/scratch", "when": "idle"}, False),
        ({"name": "s", "type": "mount", "path": "/scratch", "profiles": ["prolog"]}, False),
        ({"name": "s", "type": "mount", "path": "/scratch", "severity": "warn"}, False),
        ({"name": "s", "type": "process", "process": "slurmd"}, False),
        ({"name": "slurmd", "type": "command", "argv": ["true"]}, False),
        ({"name": "s", "type": "command", "argv": ["systemctl", "is-active", "slurmd.service"]}, False),
        ({"name": "s", "type": "process", "process": "slurmdbd"}, True),
    ],
)
def test_the_boots_profile_is_awaited_but_for_what_looks_at_slurmd(table: dict[str, Any], *, awaited: bool) -> None:
    (spec,) = registry.build([table])

    assert is_awaited(spec) == awaited
    assert names_slurmd(spec) == ("slurmd" in str(table) and "slurmdbd" not in str(table))
