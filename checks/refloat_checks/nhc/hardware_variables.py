# SPDX-License-Identifier: Apache-2.0
"""NHC's HW_ variables: what the machine has, for the lines of a configuration to calculate with."""

from __future__ import annotations

from refloat_checks import hardware

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Final

    from refloat_checks.facts import Facts

_NAMES: Final = "HW_SOCKETS HW_CORES HW_THREADS HW_RAM_TOTAL HW_RAM_FREE HW_SWAP_TOTAL HW_SWAP_FREE"
NAMES: Final = tuple(_NAMES.split())


async def values(facts: Facts) -> dict[str, str]:
    """Give them all."""
    cpus, memory = await hardware.processors(facts), await hardware.memory(facts)
    processors = (cpus.sockets, cpus.cores, cpus.threads)
    found = (*processors, memory.ram_kb, memory.ram_free_kb, memory.swap_kb, memory.swap_free_kb)
    return {name: str(value) for name, value in zip(NAMES, found, strict=True)}
