# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

from refloat_agent.usage import WINDOW_S, Spent, Usage, spent


class Meter:
    """A process that uses 1 % of a core and is woken twice a second, until it goes mad."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.cpu_s = 0.0
        self.wakeups = 0

    def runs(self, for_s: float, *, percent: float = 1.0, wakeups_per_s: int = 2) -> None:
        self.now_s += for_s
        self.cpu_s += for_s * percent / 100
        self.wakeups += int(for_s * wakeups_per_s)

    def spent(self, at_s: float) -> Spent:
        return Spent(at_s, self.cpu_s, self.wakeups)


def test_rates_are_those_since_the_last_minutes_began() -> None:
    meter = Meter()
    usage = Usage(lambda: meter.now_s, meter.spent)
    usage.note()
    for _ in range(100):
        meter.runs(10.0)
        usage.note()

    found = usage.as_dict()

    assert found["cpu_percent"] == 1.0
    assert found["wakeups_per_s"] == 2.0
    assert found["cpu_s"] == 10.0
    assert 0.8 * WINDOW_S <= found["rates_over_s"] <= 1.2 * WINDOW_S


def test_what_was_long_ago_is_not_in_the_rates() -> None:
    meter = Meter()
    usage = Usage(lambda: meter.now_s, meter.spent)
    for _ in range(10):
        meter.runs(30.0, percent=90.0, wakeups_per_s=1000)
        usage.note()
    for _ in range(20):
        meter.runs(30.0)
        usage.note()

    assert usage.as_dict()["cpu_percent"] == 1.0


def test_asked_before_anything_was_noted_it_knows_the_totals() -> None:
    found = Usage(lambda: 5.0).as_dict()

    assert found["rss_bytes"] > 1 << 20
    assert found["cpu_s"] > 0
    assert found["threads"] >= 1


def test_the_kernel_counts_upwards() -> None:
    before = spent(1.0)
    after = spent(2.0)

    assert after.cpu_s >= before.cpu_s > 0
    assert after.wakeups >= before.wakeups


def test_what_helpers_use_is_told_of_those_that_live_and_of_those_that_have_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as helper:
        found = Usage(lambda: 5.0).as_dict()
        helper.kill()
    subprocess.run([sys.executable, "-c", "sum(range(1000000))"], check=True)

    assert found["helpers_rss_bytes"] > 0
    assert Usage(lambda: 5.0).as_dict()["helpers_cpu_s"] > found["helpers_cpu_s"]
