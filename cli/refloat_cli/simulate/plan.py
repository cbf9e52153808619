# SPDX-License-Identifier: Apache-2.0
"""What to simulate: a TOML file, validated."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from refloat_contract.errors import Misconfigured
from refloat_coordinator import group_sources
from refloat_coordinator.limit_settings import GroupKindSettings, LimitSettings, unknown_kind
from refloat_coordinator.permits.budget import parse_amount
from refloat_coordinator.permits.rules import Rules
from refloat_service.settings import Settings


def count_of(share: int | str, total: int) -> int:
    """How many of ``total`` that is; unlike a limit a share may be none at all.

    Raises:
        ValueError: it is neither a number nor a percentage.
    """
    return 0 if str(share).strip() == "0%" else min(total, parse_amount(share).of(total))


def _share(given: int | str) -> int | str:
    count_of(given, 1)
    return given


Share = Annotated[int | str, AfterValidator(_share)]


class Times(Settings):
    """How long things take on a node, in seconds. Each node draws its own, evenly, within ``spread`` of these."""

    shutdown_s: float = Field(10.0, ge=0, description="from the reboot command until the node is silent")
    boot_s: float = Field(180.0, gt=0, description="from there until the agent runs again")
    unmount_s: float = Field(5.0, ge=0, description="to unmount all storage")
    mount_s: float = Field(10.0, ge=0, description="to mount it")
    check_s: float = Field(2.0, ge=0, description="for a pass over all checks")
    spread: float = Field(0.2, ge=0, lt=1, description="0.2: between 80 % and 120 % of each")


class Faults(Settings):
    """What goes wrong. Which nodes it hits is drawn by the seed."""

    never_return: Share = Field(0, description='nodes that do not come back from their reboot: 3, or "2%"')
    fail_check: Share = Field(0, description="nodes that fail a check after it")


class Jobs(Settings):
    """What users do meanwhile, where no dump of a queue says it."""

    load: float = Field(0.9, ge=0, le=1, description="the share of the nodes in service that jobs are submitted for")
    mean_s: float = Field(3600.0, gt=0, description="the mean run time; times are drawn exponentially around it")
    limit_s: float = Field(86400.0, gt=0, description="the time limit that every job asks for, and no job outlives")
    nodes: tuple[int, ...] = Field((1, 1, 1, 2, 4), min_length=1, description="node counts, drawn evenly")


class Plan(Settings):
    """A simulation."""

    nodes: str = Field("", description="a hostlist: n[1-1000]; empty: the nodes of the dump")
    seed: int = Field(1, description="another one draws other jobs, times and faults")
    start: str = Field("", description="when it begins: 2026-11-23T20:00, local time; empty: now")
    until_s: float = Field(14 * 86400.0, gt=0, description="give up after so much simulated time")
    turn_s: float = Field(
        0.0, ge=0, description="how often the coordinator looks; 0: every 5 s, less in the end of what lasts"
    )
    warm_up_s: float = Field(0.0, ge=0, description="jobs run for so long before the wave is started")
    wave: dict[str, Any] = Field(default_factory=dict, description="the wave, as `refloat wave start --spec` takes it")
    limits: LimitSettings = Field(
        default_factory=lambda: LimitSettings.model_validate({}), description="the budget, as in coordinator.toml"
    )
    groups: dict[str, GroupKindSettings] = Field(
        default_factory=dict, description="kinds of group, as in coordinator.toml"
    )
    times: Times = Field(default_factory=lambda: Times.model_validate({}), description="how long things take")
    faults: Faults = Field(default_factory=lambda: Faults.model_validate({}), description="what goes wrong")
    jobs: Jobs = Field(default_factory=lambda: Jobs.model_validate({}), description="what users do")
    nodes_file: Path | None = Field(None, description="a dump of the nodes")
    jobs_file: Path | None = Field(None, description="a dump of the queue")
    history_file: Path | None = Field(None, description="a dump of the accounting, to draw jobs from")

    @model_validator(mode="after")
    def _knows_its_groups(self) -> "Plan":
        if wrong := unknown_kind(self.limits, self.groups):
            raise ValueError(wrong)
        return self

    def rules(self, names: Iterable[str]) -> Rules:
        """The limits over these nodes, which are one partition, main.

        Raises:
            Misconfigured: a file of groups cannot be read.
        """
        listed = group_sources.listed(self.groups)
        return replace(self.limits.rules(self.groups), listed=listed, told={"main": frozenset(names)})


def merged(plan: Plan, given: dict[str, Any]) -> Plan:
    """The plan with these settings laid over it; what is None, or empty, is not given.

    Raises:
        Misconfigured: a setting is wrong.
    """
    data = plan.model_dump(exclude_unset=True)
    _lay(data, given)
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise Misconfigured(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _lay(data: dict[str, Any], given: dict[str, Any]) -> None:
    for key, value in given.items():
        if isinstance(value, dict):
            table = data.setdefault(key, {})
            _lay(table, value)
        elif value is not None:
            data[key] = value
