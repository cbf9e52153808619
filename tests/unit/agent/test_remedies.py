# SPDX-License-Identifier: Apache-2.0
"""The remedy of a check: when it is begun, how often, and what comes after."""

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from refloat_agent import in_service
from refloat_agent.actions import Action, WriteReason
from refloat_agent.config import AgentSettings
from refloat_agent.moves import Decision
from refloat_agent.observation import HealthFacts, Observation, SlurmFacts
from refloat_agent.recipes import Recipe, short_form
from refloat_agent.state import Policy, Remedied, State, after_boot, initial
from refloat_contract.messages import Failure
from refloat_contract.words import EventKind, Phase, Verdict
from refloat_slurm.gateway import NodeView

BOOT = "aaaaaaaa-0000-4000-8000-000000000000"
NOW = 1_800_000_000.0
POLICY = Policy(
    "n1",
    MappingProxyType({"reboot": Recipe("reboot", short_form(reboot=True))}),
    remedies=MappingProxyType({"labd": "reboot"}),
)
DRAINED = replace(initial(BOOT, "nonce0"), health_drained=True, health_since_s=900.0)
HOUR = 3600.0


def sick(*checks: str) -> HealthFacts:
    failing = tuple(Failure(check=check, message="not running") for check in checks)
    return HealthFacts(Verdict.UNHEALTHY, failing, oldest_s=999.0, raw_failing=failing)


def seen(flags: str, reason: str, health: HealthFacts, **facts: Any) -> Observation:
    view = NodeView("n1", frozenset(flags.split("+")), reason, "alice", 1)
    facts = {"now_s": 1000.0, "wall_ns": int(NOW * 1e9), "boot_id": BOOT, **facts}
    return Observation(slurm=SlurmFacts(view, fresh=True), health=health, **facts)


def decide(
    state: State = DRAINED, flags: str = "IDLE+DRAIN", checks: tuple[str, ...] = ("labd",), policy: Policy = POLICY
) -> Decision:
    more = f" (+{len(checks) - 1} more)" if len(checks) > 1 else ""
    return in_service.decide(state, seen(flags, f"refloat: {checks[0]}: not running{more}", sick(*checks)), policy)


def after(*ago_s: float) -> State:
    return replace(DRAINED, remedied=(Remedied("labd", tuple(NOW - ago for ago in ago_s)),))


LOOPED = "refloat-hold: labd failed again after 2 cycles; needs a human: refloat cycle release n1 refloat="


@pytest.mark.parametrize(
    ("state", "flags", "checks", "actions"),
    [
        pytest.param(DRAINED, "MIXED+DRAIN", ("labd",), (), id="not while a job is on the node"),
        pytest.param(DRAINED, "IDLE+COMPLETING+DRAIN", ("labd",), (), id="not while an epilog runs"),
        pytest.param(DRAINED, "IDLE+DRAIN", ("labd",), (WriteReason("reboot cause=labd loop=1"),), id="once empty"),
        pytest.param(DRAINED, "IDLE+DRAIN", ("dimm", "labd"), (), id="not for what has no remedy"),
        pytest.param(after(HOUR), "IDLE+DRAIN", ("labd",), (WriteReason("reboot cause=labd loop=2"),), id="again"),
        pytest.param(after(HOUR, 2 * HOUR), "MIXED+DRAIN", ("labd",), (), id="past the limit, with a job"),
        pytest.param(
            after(HOUR, 25 * HOUR), "IDLE+DRAIN", ("labd",), (WriteReason("reboot cause=labd loop=2"),), id="one is old"
        ),
    ],
)
def test_a_remedy_is_begun(state: State, flags: str, checks: tuple[str, ...], actions: tuple[Action, ...]) -> None:
    assert decide(state, flags, checks).actions == actions


def test_past_the_limit_the_node_is_held_and_told_of_once() -> None:
    (write,) = decide(after(HOUR, 2 * HOUR)).actions
    assert isinstance(write, WriteReason)
    assert write.reason.startswith(LOOPED)

    held = in_service.decide(after(HOUR), seen("IDLE+DRAIN", write.reason, sick("labd")), POLICY).state

    assert held.cycle is not None
    assert held.cycle.phase is Phase.HELD
    assert [event.kind for event in held.outbox] == [EventKind.HOLD]


@pytest.mark.parametrize(
    "policy", [replace(POLICY, acts=False), replace(POLICY, drains=False), replace(POLICY, remedies={})]
)
def test_without_leave_to_act_or_a_remedy_nothing_is_begun(policy: Policy) -> None:
    assert decide(policy=policy).actions == ()


@pytest.mark.parametrize("reason", ["reboot cause=labd loop=2", "rebooting refloat=c1 boot=bbbbbbbb cause=labd loop=2"])
def test_a_node_that_forgets_all_at_a_reboot_counts_on_by_the_reason(reason: str) -> None:
    begun = in_service.decide(initial(BOOT, "nonce0"), seen("DOWN+DRAIN", reason, HealthFacts()), POLICY).state
    assert begun.cycle is not None
    assert (begun.cycle.cause, begun.cycle.loop) == ("labd", 2)

    again = replace(begun, cycle=None, health_drained=True)
    (write,) = decide(again).actions

    assert isinstance(write, WriteReason)
    assert write.reason.startswith(LOOPED)


def test_a_disk_that_is_kept_counts_a_cycle_once() -> None:
    begun = in_service.decide(after(HOUR), seen("IDLE+DRAIN", "reboot cause=labd loop=2", HealthFacts()), POLICY).state
    other = after_boot(begun, "bbbbbbbb", "nonce1")
    line = "rebooting refloat=c1 boot=aaaaaaaa cause=labd loop=2"
    adopted = in_service.decide(other, seen("DOWN+DRAIN", line, HealthFacts(), boot_id="bbbbbbbb"), POLICY).state

    assert [len(each.at) for each in adopted.remedied] == [2]
    assert begun.outbox[-1].check == "labd"


def test_a_release_begins_the_count_anew_and_says_who() -> None:
    line = "refloat-release: released by alice refloat=c1"
    released = in_service.decide(after(HOUR), seen("IDLE+DRAIN", line, HealthFacts()), POLICY).state

    assert released.remedied == ()
    assert released.outbox[-1].kind is EventKind.RELEASED
    assert "alice gave the node back: released by alice" in released.outbox[-1].message


def check(**more: object) -> dict[str, object]:
    return {"name": "labd", "type": "file", "path": "/x", **more}


def test_the_remedies_are_in_the_policy() -> None:
    settings = AgentSettings.model_validate({"node": "n1", "check": (check(remedy="reboot"), check(name="other"))})

    assert settings.policy().remedies == {"labd": "reboot"}


@pytest.mark.parametrize(
    ("more", "why"),
    [({"remedy": "flash"}, "no recipe 'flash'"), ({"remedy": "reboot", "severity": "warn"}, "only a drained node")],
)
def test_a_remedy_that_cannot_be_is_refused(more: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        AgentSettings.model_validate({"node": "n1", "check": (check(**more),)})
