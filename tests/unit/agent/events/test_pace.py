# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from refloat_agent.events.pace import Pace


def test_the_first_event_leads_to_a_look_after_the_debounce_time() -> None:
    pace = Pace(debounce_s=0.05)

    assert pace.want("mount", 10.0)
    assert pace.take(10.04) == ()
    assert pace.take(10.05) == ("mount",)
    assert pace.take(10.06) == ()


def test_events_within_the_debounce_time_make_one_look() -> None:
    pace = Pace(debounce_s=0.05)

    assert [pace.want("mount", 10.0 + n / 1000) for n in range(40)] == [True] + [False] * 39
    assert pace.take(10.05) == ("mount",)
    assert pace.pause_s(10.05) is None


def test_checks_that_are_woken_together_are_looked_at_together() -> None:
    pace = Pace()

    for check in ("home", "scratch", "software"):
        pace.want(check, 5.0)

    assert pace.take(5.0 + pace.debounce_s) == ("home", "scratch", "software")


def test_a_storm_costs_its_burst_and_then_one_look_each_interval() -> None:
    pace = Pace(debounce_s=0.05, burst=3, every_s=1.0)
    looks = []

    for tick in range(10_000):  # 10 s of one event each millisecond
        pace.want("link", tick / 1000)
        looks += [tick / 1000 for _ in pace.take(tick / 1000)]

    assert 10 <= len(looks) <= 3 + 10
    assert looks[2] < 0.2


def test_after_a_quiet_time_the_burst_is_there_again() -> None:
    pace = Pace(debounce_s=0.0, burst=2, every_s=1.0)

    def looks_at(*moments: float) -> int:
        for moment in moments:
            pace.want("link", moment)
            pace.take(moment)
        return sum(pace.want("link", moments[-1]) and bool(pace.take(moments[-1])) for _ in range(5))

    assert looks_at(0.0) == 1
    assert looks_at(100.0) == 1


@given(st.lists(st.floats(0, 5), min_size=1), st.integers(1, 4))
def test_every_event_is_followed_by_a_look_that_begins_after_it(moments: list[float], burst: int) -> None:
    pace = Pace(debounce_s=0.05, burst=burst, every_s=0.5)
    moments = sorted(moments)
    last_look = -1.0

    for moment in moments:
        if pace.take(moment):
            last_look = moment
        pace.want("check", moment)
    pause_s = pace.pause_s(moments[-1])
    while pause_s is not None:
        end = moments[-1] + pause_s
        assert pace.take(end + 1e-9)
        last_look, pause_s = end, pace.pause_s(end)

    assert last_look >= moments[-1]
    assert last_look <= moments[-1] + 0.05 + len(moments) * 0.5
