# SPDX-License-Identifier: Apache-2.0
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat_coordinator.waves import window

LONDON = ZoneInfo("Europe/London")
NIGHTS = "Mon-Fri 22:00-06:00 Europe/London"


def at(text: str, zone: str = "Europe/London", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("text", "moment", "is_open"),
    [
        (NIGHTS, "2026-11-20T22:00", True),  # a Friday
        (NIGHTS, "2026-11-20T21:59", False),
        (NIGHTS, "2026-11-21T05:59", True),  # Saturday morning belongs to Friday
        (NIGHTS, "2026-11-21T06:00", False),
        (NIGHTS, "2026-11-21T22:30", False),  # Saturday night
        (NIGHTS, "2026-11-23T05:00", False),  # Monday morning belongs to Sunday
        ("Fri-Mon 01:00-02:00 Europe/London", "2026-11-22T01:30", True),  # around the week's end
        ("Fri-Mon 01:00-02:00 Europe/London", "2026-11-24T01:30", False),
        ("sat,Sun 00:00-24:00 Europe/London", "2026-11-22T23:59", True),
        ("Saturday 10:00-11:00 Europe/London", "2026-11-21T10:59", True),
        ("daily 08:00-09:00 UTC", "2026-11-21T08:30", True),
        ("* 8:00-9:00 UTC", "2026-11-21T08:30", True),
        ("00:00-00:00 Europe/London", "2026-11-21T13:00", True),  # the whole day
        (f"{NIGHTS}; Sat,Sun 00:00-24:00 Europe/London", "2026-11-21T12:00", True),
    ],
)
def test_a_moment_is_inside_or_outside(text: str, moment: str, *, is_open: bool) -> None:
    assert window.is_open(window.parse(text), at(moment)) is is_open


@pytest.mark.parametrize(
    ("text", "opens", "closes"),
    [
        # Set forward on 2026-03-29 at 01:00 to 02:00: the night has seven hours.
        ("Sat 22:00-06:00 Europe/London", "2026-03-28T22:00", "2026-03-29T06:00"),
        # Its beginning is left out: as if the clocks had not been set, 01:30 is 02:30.
        ("Sun 01:30-04:00 Europe/London", "2026-03-29T02:30", "2026-03-29T04:00"),
    ],
)
def test_a_night_in_which_the_clocks_are_set_forward(text: str, opens: str, closes: str) -> None:
    assert window.open_span(window.parse(text), at("2026-03-28T12:00")) == (at(opens), at(closes))


def test_a_window_that_is_left_out_altogether_opens_a_week_later() -> None:
    span = window.open_span(window.parse("Sun 01:15-02:00 Europe/London"), at("2026-03-28T12:00"))

    assert span == (at("2026-04-05T01:15"), at("2026-04-05T02:00"))


def test_an_hour_that_comes_twice_counts_when_it_comes_first() -> None:
    windows = window.parse("Sat 22:00-01:30 Europe/London")  # set back on 2026-10-25 at 02:00

    assert window.open_span(windows, at("2026-10-24T12:00")) == (at("2026-10-24T22:00"), at("2026-10-25T01:30"))
    assert not window.is_open(windows, at("2026-10-25T01:15", fold=1))


def test_a_night_in_which_the_clocks_are_set_back_is_an_hour_longer() -> None:
    opens_at, closes_at = window.open_span(window.parse(NIGHTS.replace("Fri", "Sun")), at("2026-10-24T22:00"))

    assert closes_at - opens_at == 9 * 3600


def test_windows_that_touch_are_one() -> None:
    windows = window.parse("Fri 22:00-24:00 UTC; Sat 00:00-04:00 UTC; Sat 03:00-05:00 UTC")

    assert window.open_span(windows, at("2026-11-20T12:00", "UTC")) == (
        at("2026-11-20T22:00", "UTC"),
        at("2026-11-21T05:00", "UTC"),
    )


def test_without_windows_it_is_always_open() -> None:
    assert window.is_open((), 0.0)
    assert window.open_span((), 5.0) == (0.0, float("inf"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "an empty window"),
        (";", "an empty window"),
        ("tonight", "is no window"),
        ("Mon 22:00", "is no window"),
        ("Mon 22:00-06:00 Europe/London extra", "is no window"),
        ("Mo 22:00-06:00", "'Mo' is no day of the week"),
        ("Munday 22:00-06:00", "is no day of the week"),
        ("Mon-Fry 22:00-06:00", "'Fry' is no day"),
        ("Mon, Tue 22:00-06:00", "is no window"),
        ("25:00-06:00", "'25:00' is no time of day"),
        ("24:00-06:00", "'24:00' is no time of day"),
        ("22:00-06:61", "is no time of day"),
        ("22:00-06:00 Europe/Londres", "no time zone that this host knows"),
        ("22:00-06:00 ../../etc/passwd", "no time zone"),
    ],
)
def test_what_is_no_window_is_refused_with_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        window.parse(text)


@settings(deadline=None)
@given(
    moment=st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31)),  # noqa: DTZ001 - the zone is added below
    start=st.integers(0, 23),
    hours=st.integers(1, 24),
    days=st.sets(st.sampled_from(window.DAYS), min_size=1),
)
def test_inside_a_window_the_wall_clock_says_so(moment: datetime, start: int, hours: int, days: set[str]) -> None:
    end = (start + hours) % 24
    windows = window.parse(f"{','.join(sorted(days))} {start}:00-{end}:00 Europe/London")
    now = moment.replace(tzinfo=LONDON).timestamp()
    opens_at, closes_at = window.open_span(windows, now)

    assert now < closes_at
    assert opens_at < closes_at
    wall = datetime.fromtimestamp(now, LONDON)
    since_midnight = wall.hour + wall.minute / 60
    inside = any(
        (wall - timedelta(days=back)).weekday() in {window.DAYS.index(day) for day in days}
        and start <= since_midnight + 24 * back < start + hours
        for back in (0, 1)
    )
    if window.is_open(windows, now) != inside:
        # Only in an hour that comes twice, or follows one that is left out, may the two differ.
        offsets = {
            datetime.fromtimestamp(now + away, LONDON).utcoffset() for away in range(-26 * 3600, 26 * 3600, 1800)
        }
        assert len(offsets) == 2


@settings(deadline=None)
@given(st.floats(1.7e9, 2.0e9))
def test_a_span_is_found_open_from_its_first_to_its_last_second(now: float) -> None:
    windows = window.parse(NIGHTS)
    opens_at, closes_at = window.open_span(windows, now)

    assert window.is_open(windows, opens_at)
    assert window.is_open(windows, closes_at - 1)
    assert not window.is_open(windows, closes_at)
    assert not window.is_open(windows, opens_at - 1)
