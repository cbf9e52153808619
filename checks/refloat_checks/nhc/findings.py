# SPDX-License-Identifier: Apache-2.0
"""What a pass over an nhc.conf found, line by line, and what NHC would make of it: an exit status and one message."""

from __future__ import annotations

from types import MappingProxyType

from refloat_contract.records import record
from refloat_contract.status import Status

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

TIMED_OUT: Final = 142
CANNOT_RUN: Final = frozenset({126, 127})


# NamedTuples, for the nhc command: to import dataclasses takes longer than all that is here.
@record
class LineFinding:
    """What one line found. `deaths` counts its declared failures; without one a failure only returned a status."""

    number: int
    label: str
    check: str
    status: Status
    rc: int = 0
    message: str = ""
    deaths: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Give the finding as what JSON can say."""
        return {
            "line": self.number,
            "name": self.label,
            "check": self.check,
            "status": self.status.value,
            "rc": self.rc,
            "message": self.message,
            "deaths": self.deaths,
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> LineFinding:
        """Read back what as_dict wrote."""
        return cls(
            said["line"],
            said["name"],
            said["check"],
            Status(said["status"]),
            said["rc"],
            said["message"],
            said["deaths"],
        )


@record
class Verdict:
    """NHC's answer: its exit status, the first failure's message, and whether every line was looked at and is good.

    `message` is None where nothing failed: the node is not drained then. It is resumed only when `is_good`.
    """

    rc: int
    message: str | None = None
    failures: int = 0
    is_good: bool = False


@record
class PassResult:
    """A pass: its findings in the order of the file, its verdict, and NHC's variables as the lines left them."""

    findings: tuple[LineFinding, ...]
    verdict: Verdict
    variables: Mapping[str, str] = MappingProxyType({})


def verdict(findings: Sequence[LineFinding], *, check_all: bool, exited: int | None = None, whole: bool) -> Verdict:
    """Fold findings as NHC does. `exited`: a line ended the run itself; `whole`: every line was looked at."""
    failed = [finding for finding in findings if finding.status is Status.FAILED]
    unknown = [finding for finding in findings if finding.status is Status.UNKNOWN]
    if failed:
        count = sum(max(1, finding.deaths) for finding in failed)
        rc = min(count, 255) if check_all else failed[0].rc
        return Verdict(rc, failed[0].message, count)
    if exited is not None:
        return Verdict(exited, f"Check ended the run with {exited}" if exited else None)
    if unknown:
        return Verdict(unknown[0].rc or 1)
    return Verdict(0, is_good=whole)
