# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime

import pytest

from refloat_contract import story
from refloat_contract.messages import CycleInfo, Event, LastCycle, NodeReport
from refloat_contract.words import EventKind, Outcome, Phase

NOW = datetime(2026, 3, 1, 13, 0, tzinfo=UTC).astimezone().replace(hour=13).timestamp()


def event(
    number: int, kind: EventKind = EventKind.PHASE_ENTERED, cycle: str = "c1", took: float | None = None
) -> Event:
    return Event(
        id=f"e{number}", node="n1", at_ns=number * 10**9, kind=kind, title="", message="m", cycle=cycle, duration_s=took
    )


def report(
    phase: Phase = Phase.UNMOUNTING, cycle: CycleInfo | None = None, last: LastCycle | None = None
) -> NodeReport:
    return NodeReport(at=NOW, boot_id="b", phase=phase, since=NOW - 303, cycle=cycle, last_cycle=last)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], ""),
        ([("7", "alice", int(NOW) + 3900)], "job 7 of alice until ~14:05"),
        ([("7", "alice", int(NOW) + 3900), ("8", "bob", int(NOW) + 60)], "job 7 of alice until ~14:05 and 1 more"),
        ([("7", "alice", int(NOW) + 3900), ("8", "bob", 0)], "job 8 of bob without a known end and 1 more"),
        ([("7", "alice", int(NOW) + 86400)], "job 7 of alice until ~Mar 02 13:00"),
    ],
)
def test_the_job_that_ends_last_is_named(found: list[tuple[str, str, int]], told: str) -> None:
    assert story.jobs(found, NOW) == told


def test_a_cycle_tells_since_when_it_waits_and_what_comes_next() -> None:
    cycle = CycleInfo(id="c1", recipe="reboot", image="i2", started_at=NOW - 600, left=("reboot", "mount"))

    waits, told, after = story.wait(report(cycle=cycle), NOW)

    assert waits == f"in UNMOUNTING since {story.stamp(NOW - 303)} (5m03s)"
    assert told == f"cycle c1, recipe reboot, image i2, begun {story.stamp(NOW - 600)} (10m00s)"
    assert after == "next: reboot, mount"
    assert story.wait(report(Phase.IN_SERVICE), NOW) == []


def test_the_history_is_that_of_this_cycle_or_of_the_last() -> None:
    events = [
        event(1, cycle="c0", kind=EventKind.RESUMED, took=65.0),
        event(2),
        event(3, kind=EventKind.CHECK_FAILED),
        event(4, cycle=""),
    ]
    last = LastCycle(id="c0", outcome=Outcome.DONE)

    assert story.history(report(cycle=CycleInfo(id="c1", recipe="reboot")), events) == [story.line(events[1])]
    assert story.history(report(Phase.IN_SERVICE, last=last), events) == ["1970-01-01T00:00:01Z resumed: m (1m05s)"]
    assert story.history(None, events) == []
