# SPDX-License-Identifier: Apache-2.0
"""Check which kernel runs, how it was started, and whether it has complained since."""

from dataclasses import dataclass
from typing import Final, Self

from pydantic import Field, model_validator

from refloat_checks.api import Finding, Limits
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.verdicts import verdict

# Bit numbers of /proc/sys/kernel/tainted, as letters (the kernel's tainted-kernels.rst).
_TAINTS: Final = "PFSRMBUDAWCIOELKXTNJ"


class KernelLimits(Limits):
    """Which kernel must run, and how.

    ```toml
    [[check]]
    name = "kernel"
    type = "kernel"
    release = "5.14.0-503.*"
    cmdline = ["mitigations=off", "!nosmt*"]
    untainted = "MDL"
    ```
    """

    release: MatchString | None = Field(None, description="Match string for what `uname -r` says.")
    cmdline: tuple[MatchString, ...] = Field(
        (),
        description="Match strings for words of its command line: each must match one; with `!` it must match none.",
    )
    untainted: str | None = Field(
        None,
        pattern=f"^[{_TAINTS}]+$",
        description="Letters of taints that it must not have: `M` machine check, `D` oops, `L` soft lockup.",
    )

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.release is None and not self.cmdline and self.untainted is None:
            raise ValueError("one of the keys release, cmdline or untainted must say what is asked for")
        return self


@dataclass(frozen=True, slots=True)
class Kernel:
    """What runs: its release, the words of its command line, the letters of its taints."""

    release: str
    cmdline: tuple[str, ...]
    taints: str


def taints_of(number: int) -> str:
    """Spell the bits of /proc/sys/kernel/tainted as letters; bits that have no letter yet are left out."""
    return "".join(letter for bit, letter in enumerate(_TAINTS) if number >> bit & 1)


def judge(kernel: Kernel, limits: KernelLimits, name: str) -> Finding:
    """Compare the kernel that runs with what is asked for."""
    wrong = []
    if limits.release is not None and not matches(limits.release, kernel.release):
        wrong.append(f"kernel {kernel.release} runs (should be {limits.release})")
    for pattern in limits.cmdline:
        found = [word for word in kernel.cmdline if matches(pattern.removeprefix("!"), word)]
        if pattern.startswith("!") and found:
            wrong.append(f"the kernel was started with {found[0]} (should not)")
        elif not pattern.startswith("!") and not found:
            wrong.append(f"the kernel was started without {pattern}")
    if bad := "".join(letter for letter in kernel.taints if letter in (limits.untainted or "")):
        wrong.append(f"the kernel is tainted {bad}")
    return verdict(name, f"kernel {kernel.release} runs as it should", wrong)


async def look(facts: Facts, limits: KernelLimits, name: str) -> Finding:
    """Read release and command line, and the taints if they are asked for."""
    release = (await facts.proc_text("sys/kernel/osrelease")).strip()
    words = tuple((await facts.proc_text("cmdline")).split()) if limits.cmdline else ()
    taints = taints_of(int(await facts.proc_text("sys/kernel/tainted"))) if limits.untainted else ""
    return judge(Kernel(release, words, taints), limits, name)
