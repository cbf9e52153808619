# SPDX-License-Identifier: Apache-2.0
from refloat_coordinator.operators.budget_desk import BudgetDesk
from refloat_coordinator.operators.desk import Desk
from refloat_coordinator.operators.operations import EFFECTS, Effect, changing, is_look

SERVED = {**Desk(None, None, None).handlers(), **BudgetDesk(None, None).handlers()}  # type: ignore[arg-type]


def test_every_operation_that_is_served_is_known_as_a_look_or_a_change_and_no_other() -> None:
    assert set(SERVED) == set(EFFECTS)


def test_what_changes_something_is_known_as_that() -> None:
    steering = {"start", "pause", "resume", "abort", "retry", "skip"}

    assert changing(SERVED) == {"breaker_close", *(f"wave_{verb}" for verb in steering)}


def test_what_nobody_has_thought_of_is_a_change() -> None:
    assert [is_look(name) for name in ("reboot_all", "", "STATUS", "status ")] == [False] * 4
    assert changing(["status", "reboot_all"]) == {"reboot_all"}
    assert EFFECTS["status"] is Effect.LOOK
