# SPDX-License-Identifier: Apache-2.0
"""Maintenance windows: when a wave may take nodes out (``Mon-Fri 22:00-06:00 Europe/London``); pure.

A window belongs to the day on which it opens. Its times are those of the wall clocks in its zone: where these are set
back, an hour that comes twice counts when it comes first; where they are set forward, one that is left out counts as if
it had not been.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ALL: Final = frozenset(range(7))
_EVERY_DAY: Final = frozenset({"daily", "*"})
_TEXT: Final = re.compile(
    r"(?:(?P<days>[A-Za-z*][A-Za-z,*-]*)\s+)?"
    r"(?P<start>\d{1,2}:\d\d)\s*-\s*(?P<end>\d{1,2}:\d\d)"
    r"(?:\s+(?P<zone>\S+))?"
)
_MIDNIGHT: Final = "24:00"
_LOOKED_AHEAD_DAYS: Final = 9
"""A window that opens once a week opens within so many days, whatever the clocks do."""


@dataclass(frozen=True, slots=True)
class Window:
    """Some days of the week (0 is Monday), from ``start`` to ``end``, on the day after where that is not later.

    ``zone`` is None where the times are those of this host.
    """

    days: frozenset[int]
    start: time
    end: time
    zone: ZoneInfo | None

    def on(self, day: date) -> tuple[float, float]:
        """When the window of this day opens and closes, seconds since 1970."""
        last = day if self.end > self.start else day + timedelta(days=1)
        return self._at(day, self.start), self._at(last, self.end)

    def spans(self, now: float) -> Iterator[tuple[float, float]]:
        """The windows that are open or still to open, in the order in which they open."""
        today = datetime.fromtimestamp(now, self.zone).date()
        for ahead in range(-1, _LOOKED_AHEAD_DAYS):
            day = today + timedelta(days=ahead)
            if day.weekday() in self.days:
                opens_at, closes_at = self.on(day)
                if now < closes_at and opens_at < closes_at:
                    yield opens_at, closes_at

    def _at(self, day: date, at: time) -> float:
        return datetime.combine(day, at, tzinfo=self.zone).timestamp()


@lru_cache(maxsize=256)
def parse(text: str) -> tuple[Window, ...]:
    """Read ``Mon-Fri 22:00-06:00 Europe/London``; several are joined by ``;``.

    Without days it is every day, without a zone that of this host.

    Raises:
        ValueError: it is none; the sentence says how one is written.
    """
    windows = tuple(_parsed(part.strip()) for part in text.split(";") if part.strip())
    if not windows:
        raise ValueError("an empty window: write it like 'Mon-Fri 22:00-06:00 Europe/London'")
    return windows


def open_span(windows: Iterable[Window], now: float) -> tuple[float, float]:
    """From when till when nodes may be taken out: the span that is open now, or the one that opens next.

    Spans that touch or overlap are one. Without windows it is always.
    """
    spans = sorted(span for window in windows for span in window.spans(now))
    if not spans:
        return 0.0, float("inf")
    opens_at, closes_at = spans[0]
    for next_opens_at, next_closes_at in spans[1:]:
        if next_opens_at > closes_at:
            break
        closes_at = max(closes_at, next_closes_at)
    return opens_at, closes_at


def is_open(windows: Iterable[Window], now: float) -> bool:
    """Whether nodes may be taken out now."""
    return open_span(windows, now)[0] <= now


def opening(windows: Iterable[Window], now: float) -> str:
    """When nodes may be taken out next, in words, on the clocks of the window that opens."""
    chosen = tuple(windows)
    opens_at = open_span(chosen, now)[0]
    zone = next((w.zone for w in chosen if any(span[0] == opens_at for span in w.spans(now))), None)
    shown = datetime.fromtimestamp(opens_at, zone).strftime("%a %d %b %H:%M")
    return f"outside its window: it opens {shown}" + (f" {zone.key}" if zone else "")


def _parsed(text: str) -> Window:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no window: write it like 'Mon-Fri 22:00-06:00 Europe/London'")
    return Window(_days(match["days"]), _time(match["start"]), _time(match["end"], is_end=True), _zone(match["zone"]))


def _days(text: str | None) -> frozenset[int]:
    if text is None or text.lower() in _EVERY_DAY:
        return _ALL
    days = set[int]()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = _day(first)
        days |= {(begin + step) % 7 for step in range((_day(last) - begin) % 7 + 1)} if dash else {begin}
    return frozenset(days)


def _day(text: str) -> int:
    # At least three letters, so that "T" is not taken for either of its days.
    found = [number for number, day in enumerate(DAYS) if text.lower().startswith(day)]
    if not found or not _FULL_DAYS[found[0]].startswith(text.lower()):
        raise ValueError(f"{text!r} is no day of the week: write Mon, Tue, Wed, Thu, Fri, Sat or Sun")
    return found[0]


_FULL_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _time(text: str, *, is_end: bool = False) -> time:
    if is_end and text == _MIDNIGHT:
        return time(0, 0)
    hours, minutes = text.split(":")
    try:
        return time(int(hours), int(minutes))
    except ValueError as error:
        raise ValueError(f"{text!r} is no time of day: write 00:00 to 23:59") from error


def _zone(text: str | None) -> ZoneInfo | None:
    if text is None:
        return None
    try:
        return ZoneInfo(text)
    except (KeyError, OSError, ValueError) as error:  # KeyError: ZoneInfoNotFoundError
        raise ValueError(
            f"{text!r} is no time zone that this host knows: write Europe/London, or UTC (is tzdata installed?)"
        ) from error
