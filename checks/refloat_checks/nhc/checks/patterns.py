# SPDX-License-Identifier: Apache-2.0
"""Match strings among a check's arguments: where they mean nothing they are configuration errors, not silence."""

from __future__ import annotations

from refloat_checks.nhc.match import matches
from refloat_checks.nhc.native import NhcRun


def require_meaning(run: NhcRun, *patterns: str) -> None:
    """Raise BadPattern for a match string that matches nothing because it cannot be read; strict mode takes it."""
    if not run.strict:
        for pattern in patterns:
            matches(pattern, "", strict=True)
