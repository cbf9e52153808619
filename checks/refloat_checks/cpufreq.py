# SPDX-License-Identifier: Apache-2.0
"""Check how fast the processors may run: driver, governor, frequency limits, boost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import Field, model_validator

from refloat_checks import sysfs
from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.proc import Roots
from refloat_checks.verdicts import a_few, verdict

_KHZ: Final = 1000


class CpufreqLimits(Limits):
    """How processors must be clocked; it holds for each of them.

    ```toml
    [[check]]
    name = "performance"
    type = "cpufreq"
    governor = "performance"
    min_ceiling_mhz = 3000
    boost = true
    ```
    """

    driver: MatchString | None = Field(None, description="Match string for the driver, as in `intel_pstate`.")
    governor: MatchString | None = Field(None, description="Match string for the governor, as in `performance`.")
    min_ceiling_mhz: float | None = Field(None, gt=0, description="So fast at least it must be allowed to run.")
    max_ceiling_mhz: float | None = Field(None, gt=0, description="So fast at most it may be allowed to run.")
    min_floor_mhz: float | None = Field(None, gt=0, description="So slow it must not be allowed to run.")
    boost: bool | None = Field(None, description="true: turbo or boost must be on; false: off.")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("at least one of the keys must say what is asked for")
        return self


@dataclass(frozen=True, slots=True)
class Policy:
    """How one group of processors is clocked."""

    name: str
    driver: str
    governor: str
    floor_mhz: float
    ceiling_mhz: float


@dataclass(frozen=True, slots=True)
class Clocking:
    """How all processors are clocked. `boost` None: this machine does not tell."""

    policies: tuple[Policy, ...]
    boost: bool | None


def read(roots: Roots) -> Clocking:
    """Read all policies. Raises ValueError if one does not tell its limits."""
    cpu = roots.sys / "devices" / "system" / "cpu"
    policies = tuple(_policy(place) for place in sysfs.places(cpu / "cpufreq", "policy[0-9]*"))
    boost, no_turbo = sysfs.number(cpu / "cpufreq" / "boost"), sysfs.number(cpu / "intel_pstate" / "no_turbo")
    if boost is not None:
        return Clocking(policies, boost == 1)
    return Clocking(policies, None if no_turbo is None else no_turbo == 0)


def _policy(place: Path) -> Policy:
    floor, ceiling = sysfs.number(place / "scaling_min_freq"), sysfs.number(place / "scaling_max_freq")
    if floor is None or ceiling is None:
        raise ValueError(f"{place.name} of cpufreq does not tell its limits")
    driver, governor = sysfs.value(place / "scaling_driver"), sysfs.value(place / "scaling_governor")
    return Policy(place.name, driver or "", governor or "", floor / _KHZ, ceiling / _KHZ)


def judge(clocking: Clocking, limits: CpufreqLimits, name: str) -> Finding:
    """Compare how processors are clocked with what is asked for."""
    wrong, unread = [], []
    complaints: dict[str, list[str]] = {}
    for policy in clocking.policies:
        for complaint in _complaints(policy, limits):
            complaints.setdefault(complaint, []).append(policy.name)
    # Many processors, one complaint.
    wrong += [f"{complaint}: {a_few(policies)}" for complaint, policies in complaints.items()]
    if not clocking.policies and limits.model_fields_set - {"boost"}:
        unread.append("this machine does not tell how its processors are clocked")
    if limits.boost is not None and clocking.boost is None:
        unread.append("this machine does not tell whether boost is on")
    elif limits.boost is not None and clocking.boost is not limits.boost:
        wrong.append(f"boost is {'on' if clocking.boost else 'off'} (should be {'on' if limits.boost else 'off'})")
    ceilings = [policy.ceiling_mhz for policy in clocking.policies]
    measures = {"least_ceiling_mhz": min(ceilings), "policies": len(ceilings)} if ceilings else {}
    return verdict(name, "processors are clocked as they should be", wrong, unread, measures)


def _complaints(policy: Policy, limits: CpufreqLimits) -> list[str]:
    wrong = []
    if limits.driver is not None and not matches(limits.driver, policy.driver):
        wrong.append(f"driver {policy.driver or 'unknown'} (should be {limits.driver})")
    if limits.governor is not None and not matches(limits.governor, policy.governor):
        wrong.append(f"governor {policy.governor or 'unknown'} (should be {limits.governor})")
    if limits.min_ceiling_mhz is not None and policy.ceiling_mhz < limits.min_ceiling_mhz:
        wrong.append(f"at most {policy.ceiling_mhz:g} MHz (limit {limits.min_ceiling_mhz:g} MHz)")
    if limits.max_ceiling_mhz is not None and policy.ceiling_mhz > limits.max_ceiling_mhz:
        wrong.append(f"up to {policy.ceiling_mhz:g} MHz (limit {limits.max_ceiling_mhz:g} MHz)")
    if limits.min_floor_mhz is not None and policy.floor_mhz < limits.min_floor_mhz:
        wrong.append(f"down to {policy.floor_mhz:g} MHz (limit {limits.min_floor_mhz:g} MHz)")
    return wrong


async def look(facts: Facts, limits: CpufreqLimits, name: str) -> Finding:
    """Read the policies, once per pass."""
    return judge(await facts.read("processor frequencies", lambda: read(facts.roots)), limits, name)
