# SPDX-License-Identifier: Apache-2.0
"""What a check is: pure `judge` functions that make a Finding of facts, and the record that configures one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from refloat_contract.words import Status

NO_MEASURES: Final[Mapping[str, float]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look at one check found: a status, one sentence, and measures (units in their names)."""

    check: str
    status: Status
    message: str
    measures: Mapping[str, float] = field(default_factory=lambda: NO_MEASURES)


@dataclass(frozen=True, slots=True)
class Result:
    """A finding, when it was made (seconds of CLOCK_BOOTTIME, so of this boot) and how long the look took."""

    finding: Finding
    at_s: float
    duration_s: float
