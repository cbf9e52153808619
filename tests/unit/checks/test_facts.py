# SPDX-License-Identifier: Apache-2.0
import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from refloat_checks.facts import NOTES, Asked, Facts, Threads, source
from refloat_checks.probes import ProbePool
from refloat_checks.proc import Roots
from refloat_contract.errors import Transient


async def test_a_pass_reads_each_source_once_and_the_next_pass_again(roots: Roots, pool: ProbePool) -> None:
    (roots.proc / "loadavg").write_text("1.0")
    passes = source(roots, pool)
    first = passes()

    before = await first.proc_text("loadavg")
    (roots.proc / "loadavg").write_text("2.0")

    assert (before, await first.proc_text("loadavg")) == ("1.0", "1.0")
    assert await passes().proc_text("loadavg") == "2.0"


async def test_those_who_ask_at_the_same_time_share_one_read(facts: Facts) -> None:
    reads = itertools.count(1)

    answers = await asyncio.gather(*(facts.read("x", lambda: next(reads)) for _ in range(5)))

    assert answers == [1, 1, 1, 1, 1]


async def test_one_askers_deadline_does_not_take_the_answer_from_the_others(facts: Facts) -> None:
    go = threading.Event()
    other = asyncio.ensure_future(facts.read("x", lambda: go.wait(5)))
    await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await facts.read("x", lambda: False)
    go.set()

    assert await other is True


async def test_a_read_that_hangs_is_not_started_again_in_the_next_pass() -> None:
    threads, go = Threads(), threading.Event()
    first = threads.start("x", lambda: go.wait(5))

    with pytest.raises(Transient, match="an earlier read of x has not returned"):
        threads.start("x", lambda: True)
    go.set()

    assert await first is True
    assert await threads.start("x", lambda: 7) == 7


async def test_a_read_waits_for_that_of_another_pass_and_then_looks_itself(passes: Callable[[], Facts]) -> None:
    go = threading.Event()
    before = asyncio.ensure_future(passes().read("x", lambda: go.wait(5) and "before"))
    await asyncio.sleep(0)
    reads = itertools.count(1)
    behind = [asyncio.ensure_future(passes().read("x", lambda: next(reads))) for _ in range(3)]
    await asyncio.sleep(0)
    go.set()

    assert await asyncio.gather(before, *behind) == ["before", 1, 2, 3]


async def test_a_read_waits_in_vain_for_one_that_hangs() -> None:
    threads, go, reads = Threads(turn_s=0.01), threading.Event(), itertools.count(1)
    first = threads.start("x", lambda: go.wait(5))

    with pytest.raises(Transient, match="an earlier read of x has not returned"):
        await threads.start_in_turn("x", lambda: next(reads))
    go.set()

    assert await first is True
    assert await threads.start_in_turn("x", lambda: next(reads)) == 1


async def test_an_unreadable_source_raises_in_everyone_who_asks(facts: Facts) -> None:
    (facts.roots.proc / "self" / "mountinfo").write_text("garbage\n")

    for _ in range(2):
        with pytest.raises(ValueError, match="mountinfo"):
            await facts.mounts()


@pytest.mark.parametrize(
    ("path", "key"), [("/lustre/a/b", "/lustre"), ("/lustre", "/lustre"), ("/etc/a", "/etc/a"), ("/", "/")]
)
async def test_a_probe_is_keyed_by_the_mount_that_could_hang(facts: Facts, path: str, key: str) -> None:
    assert await facts._probe_key(path) == key


async def test_an_offline_tree_is_looked_at_from_its_own_root(roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("bob:x:1234:1::/:/bin/sh\n")
    offline = Roots(roots.proc, roots.sys, tmp_path)
    pool = ProbePool(root=offline.root)
    facts = source(offline, pool)()

    stat, uid = await facts.stat("/etc/passwd"), await facts.uid("bob")
    await pool.aclose()

    assert (stat.type, uid) == ("file", 1234)


async def test_a_number_stands_for_itself(facts: Facts) -> None:
    assert await facts.uid("4711") == 4711


async def test_processes_links_and_sys_come_from_the_given_roots(
    facts: Facts, add_process: Callable[..., None]
) -> None:
    add_process(42, "x", b"x\0")
    (facts.roots.sys / "some").write_text("thing")

    assert [process.pid for process in await facts.processes()] == [42]
    assert await facts.link("eth0") is None
    assert await facts.sys_text("some") == "thing"


async def test_reads_of_one_turn_share_a_thread(threads: Threads) -> None:
    asked = [threads.start(str(number), threading.get_ident) for number in range(5)]

    assert len(set(await asyncio.gather(*asked))) == 1
    assert threading.get_ident() not in {each.result() for each in asked}


async def test_a_read_that_hangs_holds_up_none_of_its_turn(threads: Threads) -> None:
    go = threading.Event()
    before = threads.start("before", lambda: "before")
    hung = [threads.start(f"hung {number}", lambda: go.wait(30)) for number in range(2)]
    behind = threads.start("behind", lambda: "behind")

    async with asyncio.timeout(10):
        assert [await before, await behind] == ["before", "behind"]
    assert not any(each.done() for each in hung)
    go.set()
    assert await asyncio.gather(*hung) == [True, True]


async def test_each_read_of_a_turn_is_made_once(threads: Threads) -> None:
    go, made = threading.Event(), itertools.count(1)
    hung = threads.start("hung", lambda: go.wait(30))
    behind = [threads.start(str(number), lambda: next(made)) for number in range(20)]

    assert await asyncio.gather(*behind) == list(range(1, 21))
    go.set()
    assert await hung is True
    assert next(made) == 21


async def test_one_of_a_turn_that_raises_raises_for_itself_alone(threads: Threads) -> None:
    def fail() -> None:
        raise OSError(5, "no")

    bad, good = threads.start("bad", fail), threads.start("good", lambda: 7)

    assert await good == 7
    with pytest.raises(OSError, match="no"):
        await bad


@pytest.fixture
def threads() -> Threads:
    """Threads of a test's own."""
    return Threads()


@pytest.fixture
def passes(roots: Roots, pool: ProbePool) -> Callable[[], Facts]:
    """The facts of one pass after the other."""
    return source(roots, pool)


async def note(facts: Facts, *asks: Callable[[Facts], Awaitable[object]]) -> Asked:
    """What is noted when this is asked."""
    notes = Asked()
    token = NOTES.set(notes)
    for ask in asks:
        await ask(facts)
    NOTES.reset(token)
    return notes


async def test_a_pass_may_begin_with_what_the_last_one_asked(passes: Callable[[], Facts], roots: Roots) -> None:
    (roots.proc / "loadavg").write_text("1.0")
    file = roots.proc / "file"
    file.write_text("one")
    notes = await note(
        passes(), lambda facts: facts.proc_text("loadavg"), lambda facts: facts.content(str(file), 9), Facts.mounts
    )
    (roots.proc / "loadavg").write_text("2.0")
    file.write_text("two")
    facts = passes()

    await facts.ask_ahead(notes)
    file.unlink()
    (roots.proc / "loadavg").unlink()

    assert await facts.proc_text("loadavg") == "2.0"
    assert await facts.content(str(file), 9) == b"two"


async def test_what_was_asked_ahead_is_asked_again_when_something_was_changed(
    passes: Callable[[], Facts], roots: Roots
) -> None:
    file = roots.proc / "file"
    file.write_text("old")
    ask = (lambda facts: facts.proc_text("file"), lambda facts: facts.content(str(file), 9), Facts.mounts)
    notes, facts = await note(passes(), *ask), passes()
    await facts.ask_ahead(notes)
    await facts.mounts()
    assert await facts.read("mounts", lambda: "read since") == "read since"  # and so all that was begun before it

    facts.forget_ahead()
    file.write_text("new")

    assert await facts.proc_text("file") == "new"
    assert await facts.content(str(file), 9) == b"new"


async def test_nothing_is_noted_once_something_was_changed(passes: Callable[[], Facts], roots: Roots) -> None:
    (roots.proc / "file").write_text("x")

    async def change(facts: Facts) -> None:
        facts.forget_ahead()

    notes = await note(passes(), Facts.mounts, change, lambda facts: facts.proc_text("file"), lambda f: f.examine("/"))

    assert (list(notes.reads), notes.questions) == (["the mount table"], {})


async def test_only_what_its_name_tells_all_of_is_read_ahead(passes: Callable[[], Facts]) -> None:
    notes = await note(passes(), Facts.mounts, lambda facts: facts.read("stuck processes again", lambda: 1))

    assert list(notes.reads) == ["the mount table"]


async def test_what_failed_ahead_fails_for_who_wants_it(passes: Callable[[], Facts], roots: Roots) -> None:
    file = roots.proc / "file"
    file.write_text("x")
    notes, facts = (
        await note(passes(), lambda facts: facts.proc_text("file"), lambda facts: facts.content(str(file), 9)),
        passes(),
    )
    file.unlink()
    await facts.ask_ahead(notes)

    with pytest.raises(FileNotFoundError):
        await facts.proc_text("file")
    with pytest.raises(FileNotFoundError):
        await facts.content(str(file), 9)
