# SPDX-License-Identifier: Apache-2.0
import asyncio
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from refloat_checks.facts import Facts, Threads, source
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
