# SPDX-License-Identifier: Apache-2.0
"""Check the kernel's settings under /proc/sys."""

from typing import Self

from pydantic import Field, model_validator

from refloat_checks import sysfs
from refloat_checks.api import Finding, Limits, unknown
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.verdicts import verdict


class SysctlLimits(Limits):
    """What a kernel setting must be.

    ```toml
    [[check]]
    name = "no-overcommit"
    type = "sysctl"
    key = "vm.overcommit_memory"
    value = "2"

    [[check]]
    name = "receive-buffer"
    type = "sysctl"
    key = "net.core.rmem_max"
    at_least = 16777216
    ```
    """

    key: str = Field(
        pattern=r"^[A-Za-z0-9_-]+([./][A-Za-z0-9_@:-]+)+$",
        description="Its name as sysctl spells it: `net.core.rmem_max`, `net/ipv4/conf/eth0.1/forwarding`.",
    )
    value: MatchString | None = Field(
        None, description='Match string for its text, with single blanks between its parts: `"4096 *"`.'
    )
    at_least: float | None = Field(None, description="Its least value, where it is one number.")
    at_most: float | None = Field(None, description="Its largest value, where it is one number.")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.value is None and self.at_least is None and self.at_most is None:
            raise ValueError("one of the keys value, at_least or at_most must say what is asked for")
        return self

    @property
    def path(self) -> str:
        """Its place under /proc/sys: the separator that comes first in a name is its separator (sysctl(8))."""
        if self.key.find("/") != -1 and (self.key.find(".") == -1 or self.key.find("/") < self.key.find(".")):
            return self.key
        return self.key.translate(str.maketrans("./", "/."))


def judge(text: str | None, limits: SysctlLimits, name: str) -> Finding:
    """Compare a setting's text with what is asked for; None: this kernel has no such setting."""
    if text is None:
        return unknown(name, f"this kernel has no setting {limits.key}")
    text = " ".join(text.split())
    wrong = []
    if limits.value is not None and not matches(limits.value, text):
        wrong.append(f"{limits.key} is {text} (should be {limits.value})")
    if limits.at_least is None and limits.at_most is None:
        return verdict(name, f"{limits.key} is {text}", wrong)
    try:
        amount = float(text)
    except ValueError:
        return verdict(name, "", wrong, [f"{limits.key} is not one number: {text}"])
    if limits.at_least is not None and amount < limits.at_least:
        wrong.append(f"{limits.key} is {text} (at least {limits.at_least:.12g})")
    if limits.at_most is not None and amount > limits.at_most:
        wrong.append(f"{limits.key} is {text} (at most {limits.at_most:.12g})")
    return verdict(name, f"{limits.key} is {text}", wrong, measures={"value": amount})


async def look(facts: Facts, limits: SysctlLimits, name: str) -> Finding:
    """Read the setting."""
    place = facts.roots.proc / "sys" / limits.path
    return judge(await facts.read(f"/proc/sys/{limits.path}", lambda: sysfs.value(place)), limits, name)
