# SPDX-License-Identifier: Apache-2.0
"""What a shell completes beside commands and options: the ids of waves, as the coordinator knows them."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

from typing import Final

_DEADLINE_S: Final = 1.0


def waves(incomplete: str) -> list[str]:
    """The waves whose ids begin so, newest first; none where the coordinator does not answer at once."""
    import asyncio

    from refloat_cli.asking import coordinator
    from refloat_contract.errors import RefloatError

    try:
        reports = asyncio.run(coordinator(None, None).call("wave_list", _DEADLINE_S))
    except RefloatError:
        return []  # whoever types must not be disturbed
    return [report["id"] for report in reversed(reports) if report["id"].startswith(incomplete)]
