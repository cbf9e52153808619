# SPDX-License-Identifier: Apache-2.0
"""What a check is: pure `judge` functions that make a Finding of facts, and the records that they speak in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from refloat_contract.words import Status

NO_MEASURES: Final[Mapping[str, float]] = MappingProxyType({})

AbsolutePath = Annotated[str, Field(pattern=r"^/", description="Absolute path.")]


class Severity(StrEnum):
    """What a failed check may do to its node."""

    DRAIN = "drain"
    WARN = "warn"


class When(StrEnum):
    """When a check is looked at."""

    ALWAYS = "always"  # on its interval, and before a resume
    IDLE = "idle"  # on its interval, while the node is in no job's hands
    RESUME = "resume"  # before the node goes back to service
    BOOT = "boot"  # from the agent's start until it has passed once, and before a resume


class Profile(StrEnum):
    """On which occasions, beside its interval, a check is asked for."""

    PROLOG = "prolog"
    EPILOG = "epilog"
    BOOT = "boot"
    IMAGE = "image"


class Limits(BaseModel):
    """What a check measures against: the keys of its TOML table beside the ones that every check has."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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

    def as_dict(self) -> dict[str, Any]:
        """Give the result as what JSON can say; the keys are part of the command line's promise."""
        return {
            "check": self.finding.check,
            "status": self.finding.status.value,
            "message": self.finding.message,
            "measures": dict(self.finding.measures),
            "at_s": self.at_s,
            "duration_s": self.duration_s,
        }


def passed(check: str, message: str, **measures: float) -> Finding:
    """Find the check OK."""
    return Finding(check, Status.OK, message, measures)


def failed(check: str, message: str, **measures: float) -> Finding:
    """Find the check FAILED: what was measured breaks what was asked for."""
    return Finding(check, Status.FAILED, message, measures)


def unknown(check: str, message: str, **measures: float) -> Finding:
    """Find the check UNKNOWN: it could not be looked at, which proves neither health nor fault."""
    return Finding(check, Status.UNKNOWN, message, measures)
