# SPDX-License-Identifier: Apache-2.0
import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.probed import Unanswered
from refloat_checks.probes import ASKED_UNTIL, ProbePool
from refloat_contract.errors import Transient

# Answers every request but those for paths with "hang" in them, as a helper in a hung filesystem would.
FAKE = """
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if "die" in request["arguments"][1]: sys.exit(1)
    if "hang" in request["arguments"][1]: time.sleep(600)
    if "slow" in request["arguments"][1]: time.sleep(0.05)
    print(json.dumps({"value": 42}), flush=True)
"""

Make = Callable[..., ProbePool]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Make pools whose helpers are a fake that hangs where it is told to."""
    pools: list[ProbePool] = []

    def make(**options: Any) -> ProbePool:
        pool = ProbePool(argv=(sys.executable, "-I", "-S", "-c", FAKE), patience_s=0.01, **options)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        for helper in pool._all:
            os.kill(helper.pid, signal.SIGKILL)
        await pool.aclose()


def freeze(pool: ProbePool) -> list[int]:
    """Stop all helpers that there are, and make SIGKILL look as if it had not arrived yet."""
    pids = [helper.pid for helper in pool._all]
    for helper in pool._all:
        os.kill(helper.pid, signal.SIGSTOP)
        setattr(helper, "kill", lambda: None)  # noqa: B010 - mypy forbids the plain form
    return pids


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    while not condition():  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.001)


async def refused(probe: Coroutine[Any, Any, Any]) -> str:
    """Give the sentence with which a probe was refused."""
    with pytest.raises(Unanswered) as raised:
        await probe
    return str(raised.value)


async def test_a_real_helper_measures_a_real_filesystem(pool: ProbePool, tmp_path: Path) -> None:
    usage = await pool.statvfs(str(tmp_path), 30)

    assert 0 < usage.free_kb <= usage.size_kb
    assert usage.size_kb == os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize // 1024


async def test_the_kernels_error_arrives_as_it_was(pool: ProbePool, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await pool.statvfs(str(tmp_path / "no"), 5)


async def test_bytes_survive_the_pipe(pool: ProbePool, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(range(256)))

    assert await pool.read(str(tmp_path / "f"), 5, cap_bytes=999) == bytes(range(256))


async def test_a_name_that_is_not_utf8_survives_the_pipe(pool: ProbePool, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    Path(name).write_text("xyz")  # noqa: ASYNC240 - a temporary directory

    assert (await pool.stat(name, 5)).size == 3


async def test_helpers_are_used_again(pool: ProbePool, tmp_path: Path) -> None:
    for _ in range(5):
        await pool.statvfs(str(tmp_path), 5)

    assert (pool.state().started_ever, pool.state().idle, pool.state().abandoned) == (1, 1, 0)


async def test_a_hung_probe_ends_at_its_deadline_and_says_who_hangs(make: Make) -> None:
    pool = make()

    message = await refused(pool.uid("hang", 0.03))

    assert re.fullmatch(r"user hang has not answered for 0\.0\d+ s", message)
    assert pool.state().abandoned_ever == 1


async def silence(probe: Coroutine[Any, Any, Any]) -> float:
    """Give for how long a probe that was refused says that nothing was answered."""
    with pytest.raises(Unanswered) as raised:
        await probe
    return raised.value.for_s


async def test_silence_is_counted_from_the_first_probe_that_got_no_answer(make: Make) -> None:
    pool = make()
    first = await silence(pool.list("hang", 0.1, key="/mnt"))
    await until(lambda: not pool.state().abandoned)

    assert await silence(pool.list("hang", 0.01, key="/mnt")) > first > 0.0


async def test_an_answer_ends_the_silence(make: Make) -> None:
    pool = make()
    await refused(pool.list("hang", 0.03, key="/mnt"))
    await until(lambda: not pool.state().abandoned)
    await pool.list("good", 5, key="/mnt")
    answered_s = asyncio.get_running_loop().time()

    silent_s = await silence(pool.list("hang", 0.03, key="/mnt"))

    assert silent_s <= asyncio.get_running_loop().time() - answered_s


async def test_a_probe_is_given_up_just_before_whoever_asked_gives_up(make: Make) -> None:
    pool = make()
    ASKED_UNTIL.set(asyncio.get_running_loop().time() + 0.05)

    async with asyncio.timeout(5):
        assert "has not answered" in await refused(pool.uid("hang"))


async def test_a_hung_key_refuses_at_once_until_its_helper_has_ended(make: Make) -> None:
    pool = make()
    asked = asyncio.ensure_future(pool.uid("hang", 0.05))
    await asyncio.sleep(0.02)
    freeze(pool)
    await refused(asked)  # type: ignore[arg-type]

    message = await refused(pool.uid("hang", 60))  # would take 60 s if it were probed

    assert "user hang has not answered for" in message
    assert [silence.key for silence in pool.state().silent] == ["user hang"]
    assert await pool.uid("good", 5) == 42


async def test_a_key_is_probed_again_when_its_helper_has_ended(make: Make) -> None:
    pool = make()
    await refused(pool.uid("hang", 0.03))
    await until(lambda: not pool.state().abandoned)

    await refused(pool.uid("hang", 0.03))

    assert pool.state().abandoned_ever == 2


async def test_many_hung_keys_delay_no_other(make: Make) -> None:
    pool = make(helpers=1, max_abandoned=8)
    hung = [asyncio.ensure_future(pool.uid(f"hang{number}", 60)) for number in range(8)]
    async with asyncio.timeout(30):
        answers = [await pool.uid(f"good{number}", 30) for number in range(3)]

    assert answers == [42, 42, 42]
    assert not any(probe.done() for probe in hung)
    for probe in hung:
        probe.cancel()
    await asyncio.wait(hung)


async def test_helpers_are_bounded_and_beyond_the_bound_all_is_refused_at_once(make: Make) -> None:
    pool = make(helpers=1, max_abandoned=2)
    hung = [asyncio.ensure_future(pool.uid(f"hang{number}", 0.3)) for number in range(3)]
    await until(lambda: pool.state().helpers == 3)
    freeze(pool)
    await asyncio.gather(*hung, return_exceptions=True)

    message = await refused(pool.uid("good", 60))

    assert pool.state().helpers == 3
    assert message == "not probed: all 1 probe helpers hang in other filesystems"


async def test_the_bound_is_free_again_when_the_helpers_have_ended(make: Make) -> None:
    pool = make(helpers=1, max_abandoned=1)
    hung = [asyncio.ensure_future(pool.uid(f"hang{number}", 0.1)) for number in range(2)]
    await until(lambda: pool.state().helpers == 2)
    pids = freeze(pool)
    await asyncio.gather(*hung, return_exceptions=True)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not pool.state().abandoned)

    assert await pool.uid("good", 5) == 42
    assert pool.state().silent == ()


async def test_one_key_has_one_probe_at_a_time(make: Make) -> None:
    pool = make(helpers=4)

    answers = await asyncio.gather(*(pool.uid("slow", 5) for _ in range(3)))

    assert answers == [42, 42, 42]
    assert pool.state().started_ever == 1


async def test_those_who_wait_for_a_key_that_hangs_are_refused_with_it(make: Make) -> None:
    pool = make()
    first = asyncio.ensure_future(pool.uid("hang", 0.05))
    await asyncio.sleep(0.02)
    freeze(pool)

    second = await refused(pool.uid("hang", 5))

    assert "has not answered" in second
    await refused(first)  # type: ignore[arg-type]


async def test_a_cancelled_asker_abandons_its_helper(make: Make) -> None:
    pool = make()
    asked = asyncio.ensure_future(pool.uid("hang", 60))
    await asyncio.sleep(0.02)

    asked.cancel()
    await asyncio.wait([asked])

    assert asked.cancelled()
    assert pool.state().abandoned_ever == 1


async def test_a_helper_that_dies_is_an_error_and_the_next_probe_gets_another(make: Make) -> None:
    pool = make(helpers=1)

    with pytest.raises(Transient, match="ended by itself"):
        await pool.uid("die", 5)

    assert await pool.uid("good", 5) == 42
    assert pool.state().helpers == 1


async def test_an_idle_helper_that_dies_is_replaced(make: Make) -> None:
    pool = make(helpers=1)
    await pool.uid("good", 5)
    os.kill(next(iter(pool._all)).pid, signal.SIGKILL)
    await until(lambda: not pool.state().idle)

    assert await pool.uid("good", 5) == 42


async def test_a_stopped_helper_is_killed_all_the_same(pool: ProbePool, tmp_path: Path) -> None:
    await pool.statvfs(str(tmp_path), 5)
    helper = next(iter(pool._all))
    os.kill(helper.pid, signal.SIGSTOP)

    await refused(pool.statvfs(str(tmp_path), 0.03))

    # Its pipes close a moment before the kernel lets go of it.
    await until(helper.reaped.is_set)
    assert not pool.state().abandoned
    with pytest.raises(ProcessLookupError):
        os.kill(helper.pid, 0)


async def test_a_helper_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    pool = ProbePool(argv=(str(tmp_path / "no-python"),))

    with pytest.raises(Transient, match="cannot start a probe helper"):
        await pool.statvfs("/", 5)
    with pytest.raises(Transient, match="cannot start a probe helper"):
        await pool.statvfs("/", 5)

    assert pool.state().helpers == 0


async def test_closing_leaves_no_process(tmp_path: Path) -> None:
    pool = ProbePool()
    await pool.statvfs(str(tmp_path), 5)
    pid = next(iter(pool._all)).pid

    await pool.aclose()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_closing_does_not_wait_for_a_helper_that_cannot_die(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refloat_checks.probes._CLOSE_GRACE_S", 0.02)
    pool = make()
    await pool.uid("good", 5)
    pids = freeze(pool)

    await pool.aclose()

    os.kill(pids[0], signal.SIGKILL)
    assert await asyncio.to_thread(os.waitpid, pids[0], 0) == (pids[0], signal.SIGKILL)
