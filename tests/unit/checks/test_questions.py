# SPDX-License-Identifier: Apache-2.0
"""Many questions that are put to one helper at once: nothing of what a probe promises changes by that."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from refloat_checks import probe_worker
from refloat_checks.probed import Unanswered
from refloat_checks.probes import DEADLINE_S, ProbePool
from refloat_checks.questions import Question, examination_of, usage_of, user_name_of

# The real worker, whose "uid" waits as its argument says, and writes down that it was begun.
WORKER = """
import os, sys, time
sys.path.insert(0, {folder!r})
import probe_worker
def look(root, what):
    with open({begun!r}, "a") as begun: begun.write(what + "\\n")
    if "hang" in what: time.sleep(600)
    if "late" in what: time.sleep(0.3)
    if "die" in what: os._exit(1)
    return what
probe_worker.LOOKS["uid"] = look
probe_worker.main()
"""

Make = Callable[..., ProbePool]


def asked(what: str, key: str = "") -> tuple[str, Question[str]]:
    return key or what, Question("uid", what, (what,), str, is_of_path=False)


@pytest.fixture
def begun(tmp_path: Path) -> Callable[[], list[str]]:
    """What helpers have begun with so far."""
    place = tmp_path / "begun"
    place.touch()
    return lambda: place.read_text().split()


@pytest.fixture
async def make(tmp_path: Path, begun: Callable[[], list[str]]) -> AsyncIterator[Make]:
    """Make pools whose helpers wait where they are told to."""
    pools: list[ProbePool] = []
    code = WORKER.format(folder=str(Path(probe_worker.__file__).parent), begun=str(tmp_path / "begun"))

    def make(patience_s: float = 5, **options: Any) -> ProbePool:
        pools.append(ProbePool(argv=(sys.executable, "-I", "-S", "-c", code), patience_s=patience_s, **options))
        return pools[-1]

    yield make
    for pool in pools:
        await pool.aclose()


async def warm(pool: ProbePool, patience_s: float) -> ProbePool:
    """Start the helper, so that the time it takes to start is not part of what is tested."""
    await pool.ask_together([asked("warm")])
    pool._patience_s = patience_s
    return pool


async def test_one_helper_answers_all(pool: ProbePool, tmp_path: Path) -> None:
    place = str(tmp_path)
    asked_at_once: list[tuple[str, Question[Any]]] = [
        ("a", usage_of(place)),
        ("b", examination_of(place)),
        ("c", user_name_of(0)),
    ]

    usage, found, name = await pool.ask_together(asked_at_once)

    assert (usage.size_kb > 0, found.itself.type, name) == (True, "directory", "root")
    assert pool.state().started_ever == 1


async def test_what_the_kernel_refuses_is_left_to_who_asks_for_it(pool: ProbePool, tmp_path: Path) -> None:
    answers = await pool.ask_together([("a", usage_of(str(tmp_path / "no"))), ("b", usage_of(str(tmp_path)))])

    assert answers[0] is None
    assert answers[1].size_kb > 0


async def test_nothing_behind_one_that_hangs_is_begun_and_all_of_it_can_be_asked_elsewhere(
    make: Make, begun: Callable[[], list[str]]
) -> None:
    pool = await warm(make(), 0.05)

    answers = await pool.ask_together([asked("first"), asked("hang"), asked("behind"), asked("last")])

    assert answers == [None] * 4
    assert begun() == ["warm", "first", "hang"]
    assert [await pool._put(question, 5) for _, question in map(asked, ("behind", "last", "first"))] == [
        "behind",
        "last",
        "first",
    ]
    assert begun() == ["warm", "first", "hang", "behind", "last", "first"]


async def test_who_asks_for_what_is_late_gets_that_answer_and_asks_nothing_again(
    make: Make, begun: Callable[[], list[str]]
) -> None:
    pool = await warm(make(), 0.05)
    assert await pool.ask_together([asked("late"), asked("behind")]) == [None, None]

    assert await pool._put(asked("late")[1], 5) == "late"
    assert begun() == ["warm", "late"]


async def test_another_question_for_a_key_that_is_late_waits_for_its_turn(
    make: Make, begun: Callable[[], list[str]]
) -> None:
    pool = await warm(make(), 0.05)
    await pool.ask_together([asked("late", "/mnt")])

    assert await pool._put(asked("other")[1], 5, "/mnt") == "other"
    assert begun() == ["warm", "late", "other"]


async def test_an_answer_that_nobody_waits_for_frees_the_key_and_the_helper(make: Make) -> None:
    pool = await warm(make(helpers=1), 0.05)
    await pool.ask_together([asked("late")])
    async with asyncio.timeout(5):
        while not pool.state().idle:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.001)

    pool._patience_s = 5
    assert await pool.ask_together([asked("late")]) == ["late"]
    assert pool.state().started_ever == 1


async def test_who_gives_up_on_what_hangs_kills_its_helper_and_is_told_since_when(make: Make) -> None:
    pool = await warm(make(), 0.05)
    await pool.ask_together([asked("hang")])

    with pytest.raises(Unanswered, match="hang has not answered") as raised:
        await pool._put(asked("hang")[1], 0.05)

    assert raised.value.for_s >= 0.1
    assert pool.state().abandoned_ever == 1


async def test_a_silent_key_is_not_asked_together_with_others(make: Make, begun: Callable[[], list[str]]) -> None:
    pool = await warm(make(), 0.05)
    await pool.ask_together([asked("hang")])
    pool._patience_s = 5

    assert await pool.ask_together([asked("hang"), asked("good")]) == [None, "good"]
    assert begun().count("hang") == 1


async def test_no_more_helpers_are_taken_than_there_are(make: Make) -> None:
    pool = await warm(make(helpers=1, max_abandoned=0), 0.05)
    await pool.ask_together([asked("hang")])

    assert await pool.ask_together([asked("good")]) == [None]
    assert pool.state().helpers == 1


async def test_a_helper_that_dies_leaves_all_to_be_asked_by_themselves(make: Make) -> None:
    pool = await warm(make(), 5)

    assert await pool.ask_together([asked("first"), asked("die")]) == [None, None]
    assert await pool._put(asked("first")[1], 5) == "first"


async def test_who_is_cancelled_meanwhile_kills_the_helper(make: Make) -> None:
    pool = await warm(make(), 5)
    asking = asyncio.ensure_future(pool.ask_together([asked("first"), asked("hang")]))
    await asyncio.sleep(0.05)

    asking.cancel()
    await asyncio.wait([asking])

    assert asking.cancelled()
    assert pool.state().abandoned_ever == 1


async def test_a_late_probe_that_nobody_ever_asks_for_is_given_up_in_the_end(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refloat_checks.probes.DEADLINE_S", 0.01)
    pool = await warm(make(), 0.05)
    await pool.ask_together([asked("hang")])

    async with asyncio.timeout(5):
        while not pool.state().abandoned_ever:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.001)
    assert DEADLINE_S > 1


async def test_a_helper_that_is_frozen_between_two_questions_begins_none_later(
    make: Make, begun: Callable[[], list[str]]
) -> None:
    pool = await warm(make(), 0.05)
    pid = next(iter(pool._all)).pid
    os.kill(pid, signal.SIGSTOP)
    answers = await pool.ask_together([asked("first"), asked("second")])

    os.kill(pid, signal.SIGCONT)

    assert answers == [None, None]
    assert await pool._put(asked("first")[1], 5) == "first"
    assert await pool._put(asked("second")[1], 5) == "second"
    assert begun() == ["warm", "first", "second"]
