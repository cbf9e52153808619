# SPDX-License-Identifier: Apache-2.0
"""Times as people write and read them. Pure."""

import re
from datetime import datetime
from typing import Final

from refloat_contract.errors import Misconfigured
from refloat_contract.story import short

__all__ = ["clock", "moment", "moment_of_day", "parse", "short", "stamp"]

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def parse(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``10m``, ``2h`` or ``1d``.

    Raises:
        Misconfigured: none of these.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise Misconfigured(f"{text!r} is no duration: write 90, 90s, 10m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def moment(text: str, now: float) -> float:
    """Seconds since 1970 of a moment: a duration ago (``2h``), or a local date (``2026-01-31``, ``2026-01-31T12:00``).

    Raises:
        Misconfigured: neither.
    """
    if _DURATION.fullmatch(text.strip()):
        return now - parse(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise Misconfigured(f"{text!r} is no time: write 2h (ago), 2026-01-31 or 2026-01-31T12:00") from error


def past(text: str, now: float) -> float:
    """A moment that is over.

    Raises:
        Misconfigured: it is not, or is no moment.
    """
    at = moment(text, now)
    if at > now:
        raise Misconfigured(f"{text!r} lies in the future: nothing has happened then yet")
    return at


def clock(at: float) -> str:
    """The time of day of a moment, here: ``14:03:59``."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")


def stamp(at: float) -> str:
    """Date and time of a moment, here: ``2026-01-31 14:03:59``."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def moment_of_day(at: float, now: float) -> str:
    """A moment, here, as briefly as can be: the time of day, and the day where it is another than that of ``now``."""
    then, today = (datetime.fromtimestamp(one).astimezone() for one in (at, now))
    return then.strftime("%H:%M" if then.date() == today.date() else "%a %d %b %H:%M")
