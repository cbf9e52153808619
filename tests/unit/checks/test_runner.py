# SPDX-License-Identifier: Apache-2.0
import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from refloat_checks.api import Finding, Limits, Result, passed
from refloat_checks.facts import Facts
from refloat_checks.probed import Unanswered
from refloat_checks.probes import ASKED_UNTIL
from refloat_checks.registry import CheckSpec, build
from refloat_checks.runner import MESSAGE_CAP, Runner
from refloat_contract.errors import Transient
from refloat_contract.words import Status

Behaviour = Callable[[], Awaitable[Finding]]


def spec(name: str, **more: Any) -> CheckSpec:
    return CheckSpec.model_validate({"name": name, "type": "test", "limits": Limits(), **more})


def runner(facts: Facts, behaviours: dict[str, Behaviour], *specs: CheckSpec, **options: Any) -> Runner:
    """A runner of checks that do as they are told."""

    def find_look(spec: CheckSpec) -> Any:
        async def look(facts: Facts, limits: Limits, name: str) -> Finding:
            return await behaviours[spec.name]()

        return look

    chosen = specs or [spec(name, deadline_s=0.03) for name in behaviours]
    ticks = itertools.count()
    return Runner(chosen, lambda: facts, lambda: float(next(ticks)), find_look=find_look, **options)


async def good() -> Finding:
    return passed("someone-else", "all well", depth_m=3.0)


async def hang() -> Finding:
    await asyncio.Event().wait()
    raise AssertionError


async def stumble() -> Finding:
    raise ZeroDivisionError("by zero")


async def no_answer() -> Finding:
    raise Transient("the mount table is busy")


async def timed_out_by_kernel() -> Finding:
    raise TimeoutError(110, "Connection timed out")


async def babble() -> Finding:
    return passed("babble", "a\nb\x1b[31m\u2028" + "x" * 10_000)


async def test_results_come_in_the_order_asked_with_the_checks_own_name(facts: Facts) -> None:
    results = await runner(facts, {"a": good, "b": good}).run(["b", "a", "b"])

    assert [result.finding.check for result in results] == ["b", "a"]
    assert results[0].finding.measures == {"depth_m": 3.0}


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (hang, "did not answer within 0.03 s"),
        (stumble, "could not be looked at: ZeroDivisionError: by zero"),
        (no_answer, "the mount table is busy"),
        (timed_out_by_kernel, "could not be looked at: [Errno 110] Connection timed out"),
    ],
)
async def test_whatever_goes_wrong_is_unknown_and_costs_the_others_nothing(
    facts: Facts, behaviour: Behaviour, message: str
) -> None:
    bad, fine = (each.finding for each in await runner(facts, {"bad": behaviour, "fine": good}).run())

    assert (bad.status, bad.message) == (Status.UNKNOWN, message)
    assert fine.status is Status.OK


@pytest.mark.parametrize(
    ("limit", "silent_s", "status"),
    [
        ({}, 1e6, Status.UNKNOWN),
        ({"fail_unanswered_s": 60.0}, 59.0, Status.UNKNOWN),
        ({"fail_unanswered_s": 60.0}, 60.0, Status.FAILED),
    ],
)
async def test_a_silent_filesystem_fails_its_check_only_where_that_is_asked_for(
    facts: Facts, limit: dict[str, float], silent_s: float, status: Status
) -> None:
    async def hung() -> Finding:
        raise Unanswered(f"/scratch has not answered for {silent_s:g} s", silent_s)

    (result,) = await runner(facts, {"scratch": hung}, spec("scratch", **limit)).run()

    assert (result.finding.status, result.finding.message) == (status, f"/scratch has not answered for {silent_s:g} s")


async def test_a_look_tells_its_probes_until_when_it_waits(facts: Facts) -> None:
    async def ask() -> Finding:
        return passed("a", "asked", left_s=ASKED_UNTIL.get() - asyncio.get_running_loop().time())

    (result,) = await runner(facts, {"a": ask}, spec("a", deadline_s=50.0)).run()

    assert 40.0 < result.finding.measures["left_s"] <= 50.0


async def test_the_traceback_of_a_fault_of_ours_is_logged(facts: Facts) -> None:
    with capture_logs() as logs:
        await runner(facts, {"bad": stumble}).run()

    assert [(each["event"], each["check"]) for each in logs if each["log_level"] == "error"] == [
        ("check_raised", "bad")
    ]


async def test_each_result_is_given_when_it_is_there(facts: Facts) -> None:
    seen: list[str] = []

    await runner(facts, {"slow": hang, "a": good, "b": good}).run(
        on_result=lambda each: seen.append(each.finding.check)
    )

    assert seen == ["a", "b", "slow"]


async def test_those_who_hang_do_not_keep_the_others_from_their_place(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refloat_checks.runner.PATIENCE_S", 0.005)
    seen: list[str] = []
    checks = [spec("h1", deadline_s=0.2), spec("h2", deadline_s=0.2), spec("a")]

    await runner(facts, {"h1": hang, "h2": hang, "a": good}, *checks, concurrency=2).run(
        on_result=lambda each: seen.append(each.finding.check)
    )

    assert seen[0] == "a"


async def test_no_more_checks_than_allowed_run_at_once(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refloat_checks.runner.PATIENCE_S", 60.0)  # which a busy machine would try
    running: list[int] = [0]
    most: list[int] = [0]

    async def count() -> Finding:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0)
        running[0] -= 1
        return passed("x", "x")

    await runner(facts, {str(number): count for number in range(9)}, concurrency=3).run()

    assert most == [3]


async def test_a_message_is_one_printable_line_of_bounded_length(facts: Facts) -> None:
    (result,) = await runner(facts, {"babble": babble}).run()

    assert result.finding.message.startswith("a b [31m xxx")
    assert len(result.finding.message) == MESSAGE_CAP


async def test_a_message_keeps_its_blanks_as_log_scrapers_know_nhcs(facts: Facts) -> None:
    async def say() -> Finding:
        return passed("say", "check_hw_eth:  Ethernet device e0\n   not detected. ")

    (result,) = await runner(facts, {"say": say}).run()

    assert result.finding.message == "check_hw_eth:  Ethernet device e0 not detected."


async def test_a_result_says_when_and_how_long(facts: Facts) -> None:
    (result,) = await runner(facts, {"a": good}).run()

    assert result.as_dict() == {
        "check": "a",
        "status": "OK",
        "message": "all well",
        "measures": {"depth_m": 3.0},
        "at_s": 1.0,
        "duration_s": 1.0,
    }
    assert isinstance(result, Result)


async def test_a_disabled_check_is_not_there(facts: Facts) -> None:
    checks = runner(facts, {"a": good, "b": good}, spec("a", enabled=False), spec("b"))

    assert [each.finding.check for each in await checks.run()] == ["b"]
    assert checks.due(0) == ("b",)
    with pytest.raises(KeyError):
        await checks.run(["a"])


async def test_cancelling_a_run_ends_its_checks(facts: Facts) -> None:
    ended: list[str] = []

    async def tell() -> Finding:
        try:
            return await hang()
        finally:
            ended.append("told")

    running = asyncio.ensure_future(runner(facts, {"a": tell}, spec("a", deadline_s=60)).run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    assert ended == ["told"]


def test_checks_are_due_at_the_same_moments_on_all_nodes(facts: Facts) -> None:
    specs = [spec("fast", interval_s=10), spec("slow", interval_s=60), spec("gate", when="resume")]
    one = runner(facts, {}, *specs)
    other = runner(facts, {}, *specs)

    assert one.due(1003) == other.due(1007) == ("fast", "slow")
    assert one.due(1009) == other.due(1009) == ()
    assert one.due(1010) == other.due(1012) == ("fast",)
    assert one.due(1020) == other.due(1025) == ("fast", "slow")
    assert one.next_due(1025) == 1030
    assert one.next_due(1030) == 1040


def test_an_offset_moves_these_moments_on_all_nodes(facts: Facts) -> None:
    checks = runner(facts, {}, spec("a", interval_s=60), offset_s=17.0)
    checks.due(1020)

    assert checks.due(1036) == ()
    assert checks.next_due(1036) == 1037
    assert checks.due(1037) == ("a",)
    assert checks.next_due(1037) == 1097


def test_intervals_that_were_slept_through_are_due_once(facts: Facts) -> None:
    checks = runner(facts, {}, spec("a", interval_s=10))
    checks.due(1000)

    assert checks.due(1999) == ("a",)
    assert checks.due(1999) == ()


def test_a_clock_set_back_makes_checks_due_once_and_not_never(facts: Facts) -> None:
    checks = runner(facts, {}, spec("a", interval_s=10))
    checks.due(5000)

    assert checks.due(1000) == ("a",)
    assert checks.due(1001) == ()


def test_without_checks_nothing_is_ever_due(facts: Facts) -> None:
    assert runner(facts, {}, spec("gate", when="resume")).next_due(0) is None


async def test_a_configured_set_runs_from_end_to_end(facts: Facts, add_process: Callable[..., None]) -> None:
    add_process(11, "slurmd", b"/usr/sbin/slurmd\0")
    specs = build(
        [
            {"name": "lustre", "type": "mount", "path": "/lustre", "fstype": "tmpfs"},
            {"name": "root-space", "type": "filesystem", "path": "/", "min_free": "1"},
            {"name": "slurmd", "type": "process", "process": "slurmd"},
            {"name": "ib", "type": "link", "interface": "ib0"},
            {"name": "hosts", "type": "file", "path": "/etc/passwd", "readable": True},
            {"name": "true", "type": "command", "argv": ["true"]},
            {"name": "plugin", "type": "plugin", "argv": ["sh", "-c", "echo cannot; exit 2"]},
            {"name": "hang", "type": "command", "argv": ["sleep", "60"], "deadline_s": 0.05},
        ]
    )

    results = await Runner(specs, lambda: facts).run()

    assert {each.finding.check: each.finding.status.value for each in results} == {
        "lustre": "OK",
        "root-space": "OK",
        "slurmd": "OK",
        "ib": "FAILED",
        "hosts": "OK",
        "true": "OK",
        "plugin": "UNKNOWN",
        "hang": "UNKNOWN",
    }
    assert all(each.duration_s >= 0 for each in results)


class Tide:
    """Looks at all its checks in one go: tells of those that are named, and then does as it is told."""

    def __init__(self, then: Behaviour, *told: str) -> None:
        self.then = then
        self.told = told
        self.asked: list[list[str]] = []

    async def look_at(self, facts: Facts, specs: Sequence[CheckSpec], found: Callable[[str, Finding], None]) -> None:
        self.asked.append([spec.name for spec in specs])
        for name in self.told:
            found(name, passed(name, "seen"))
        await self.then()


async def test_checks_that_are_looked_at_together_are_asked_for_once_and_told_of_each(facts: Facts) -> None:
    tide = Tide(good, "b", "a")
    checks = Runner([spec("a"), spec("b")], lambda: facts, find_look=lambda _: tide)
    seen: list[str] = []

    results = await checks.run(on_result=lambda each: seen.append(each.finding.check))

    assert tide.asked == [["a", "b"]]
    assert seen == ["b", "a"]
    assert [(each.finding.check, each.finding.status) for each in results] == [("a", Status.OK), ("b", Status.OK)]


@pytest.mark.parametrize(
    ("then", "message"),
    [
        (hang, "did not answer within 0.03 s"),
        (stumble, "could not be looked at: ZeroDivisionError: by zero"),
        (good, "not looked at"),
    ],
)
async def test_those_that_were_not_told_of_are_unknown_each(facts: Facts, then: Behaviour, message: str) -> None:
    tide = Tide(then, "a")
    specs = [spec(name, deadline_s=0.03) for name in ("a", "b", "c")]

    found = [each.finding for each in await Runner(specs, lambda: facts, find_look=lambda _: tide).run()]

    assert [(each.status.value, each.message) for each in found] == [
        ("OK", "seen"),
        ("UNKNOWN", message),
        ("UNKNOWN", message),
    ]
