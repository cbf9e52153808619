# SPDX-License-Identifier: Apache-2.0
"""Events as they happen, after those that have happened: none missing in between, none twice."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from refloat_service import control


async def events(path: Path, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """What ``events`` answers to ``asked``, and then every new event.

    Raises:
        Transient: the coordinator went away.
    """
    only = {name: value for name, value in asked.items() if name not in {"since", "limit"}}
    async with aclosing(control.stream(path, "events_follow", **only)) as stream:
        # Listening begins before the past is asked for; what is in both is told once.
        first = asyncio.ensure_future(anext(stream))
        try:
            past = await control.call(path, "events", **asked)
            for event in past:
                yield event
            told = {event["id"] for event in past}
            newest = await first
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        if newest["id"] not in told:
            yield newest
        async for event in stream:
            if event["id"] not in told:
                yield event
