# SPDX-License-Identifier: Apache-2.0
"""Find devices by their names, and tell which InfiniBand ports can be used."""

from __future__ import annotations

from functools import lru_cache

from refloat_checks.nhc import globs, plain
from refloat_checks.nhc.language import BadPattern, matcher

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

_ACTIVE: Final = ("ACTIVE", "LinkUp")


def fitting(devices: Iterable[str], glob: str) -> list[str]:
    """Give the devices whose name fits; a glob that cannot be read fits none."""
    return [device for device in devices if _fits(glob, device)]


@lru_cache(maxsize=256)
def _fits(glob: str, name: str) -> bool:
    try:
        fits = plain.glob(glob) or matcher(globs.parse(glob), anywhere=False)
        return fits(name)
    except BadPattern:
        return False


def is_usable(state: str, phys_state: str, rate: str = "", wanted_rate: str = "") -> bool:
    """Tell whether data can pass through a port, at exactly the rate that is wanted, if one is."""
    return (state, phys_state) == _ACTIVE and wanted_rate in {"", rate}
