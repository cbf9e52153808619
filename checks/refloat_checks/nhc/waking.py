# SPDX-License-Identifier: Apache-2.0
"""What wakes the lines of an nhc.conf: what wakes the same checks in TOML; and a pass over some lines only."""

from collections.abc import Collection

from refloat_checks import registry
from refloat_checks.nhc.forms import table
from refloat_checks.nhc.forms.form import NoForm
from refloat_checks.nhc.plan import Plan, Step
from refloat_checks.wakes import Wake
from refloat_contract.errors import Misconfigured
from refloat_contract.records import replace


def by_label(plan: Plan) -> dict[str, tuple[Wake, ...]]:
    """Give the wake-ups of each line that has any.

    Such a line needs neither bash nor variables, so that it can be looked at without the lines before it.
    """
    found = {step.label: _wakes(step) for step in plan.checks if not _is_of_the_site(step, plan) and not step.problem}
    return {label: wakes for label, wakes in found.items() if wakes}


def _is_of_the_site(step: Step, plan: Plan) -> bool:
    return step.command is not None and step.command.name in plan.functions


def _wakes(step: Step) -> tuple[Wake, ...]:
    try:
        tables = table.convert(step.text).tables
        specs = registry.build({"name": f"part-{number}", **keys} for number, keys in enumerate(tables))
    except (NoForm, Misconfigured):
        return ()
    return tuple(dict.fromkeys(wake for spec in specs for wake in registry.wakes_of(spec)))


def only(plan: Plan, labels: Collection[str]) -> Plan:
    """Plan a pass over these lines, with the variables that are set in plain words, which NHC's checks may go by."""
    steps = tuple(step for step in plan.steps if step.is_setting or step.label in labels)
    return replace(plan, steps=steps, hardware=False)
