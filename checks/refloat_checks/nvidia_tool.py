# SPDX-License-Identifier: Apache-2.0
"""Check how NVIDIA's own tools end: nvidia-smi, or on older machines nvidia-healthmon."""

from enum import StrEnum

from pydantic import Field

from refloat_checks.api import Finding, Limits, failed, passed, unknown
from refloat_checks.facts import Facts
from refloat_checks.nhc.checks.gpus import healthmon_fault, smi_fault
from refloat_checks.nhc.checks.launching import CANNOT_RUN, Ended, once
from refloat_checks.nhc.native import NhcRun


class Tool(StrEnum):
    """Which of them."""

    SMI = "nvidia-smi"
    HEALTHMON = "nvidia-healthmon"


class NvidiaToolLimits(Limits):
    """Which tool must end well. Better is `type = "gpu"`: it asks the driver itself, and starts no program.

    ```toml
    [[check]]
    name = "nvidia-smi"
    type = "nvidia_tool"
    tool = "nvidia-smi"
    deadline_s = 30
    ```
    """

    tool: Tool = Field(Tool.SMI, description='`"nvidia-smi"` or `"nvidia-healthmon"`: whose exit statuses are meant.')
    program: str | None = Field(None, min_length=1, description="Path of the program; without it the tool's name.")
    arguments: tuple[str, ...] | None = Field(
        None, description="Its arguments; without them none for nvidia-smi, `-e -v` for nvidia-healthmon."
    )

    @property
    def argv(self) -> tuple[str, ...]:
        """What is run."""
        usual = ("-e", "-v") if self.tool is Tool.HEALTHMON else ()
        return (self.program or self.tool.value, *(usual if self.arguments is None else self.arguments))


def judge(done: Ended, limits: NvidiaToolLimits, name: str) -> Finding:
    """Translate how the tool ended; one that cannot be run proves nothing."""
    if done.rc in CANNOT_RUN:
        return unknown(name, f"{limits.argv[0]} cannot be run: {done.error.strip() or done.rc}")
    fault = smi_fault(done.rc) if limits.tool is Tool.SMI else healthmon_fault(done.rc)
    return failed(name, f"{limits.argv[0]}: {fault}") if fault else passed(name, f"{limits.argv[0]} finds all well")


async def look(facts: Facts, limits: NvidiaToolLimits, name: str) -> Finding:
    """Run the tool, once per pass."""
    return judge(await once(limits.argv, NhcRun(facts, {})), limits, name)
