# SPDX-License-Identifier: Apache-2.0
import pytest

from refloat_checks.kswapd import KswapdLimits, judge
from refloat_checks.process_table import ProcessUse
from refloat_contract.words import Status


def threads(*seconds: int, ppid: int = 2) -> list[ProcessUse]:
    return [ProcessUse(50 + n, ppid, 0, f"[kswapd{n}]", 0, 0, 0, 0, each, 1) for n, each in enumerate(seconds)]


@pytest.mark.parametrize(
    ("seconds", "status"),
    [
        ((), Status.OK),
        ((900,), Status.OK),
        ((100, 30), Status.OK),
        ((101, 100), Status.FAILED),
        ((100, 20), Status.FAILED),
        ((51, 0), Status.FAILED),
        ((50, 0), Status.OK),
    ],
)
def test_reclaim_threads_are_compared(seconds: tuple[int, ...], status: Status) -> None:
    assert judge(threads(*seconds), KswapdLimits(max_cpu_s=100, max_ratio=4), "k").status is status


def test_the_message_says_what_they_had() -> None:
    finding = judge(threads(90, 10), KswapdLimits(max_cpu_s=100, max_ratio=4), "k")

    assert finding.message == "2 kswapd threads had 90, 10 s of processor time (limits: 100 s, 4 times)"


def test_a_process_that_calls_itself_so_is_none() -> None:
    assert judge(threads(900, 0, ppid=1), KswapdLimits(max_cpu_s=100, max_ratio=4), "k").status is Status.OK
