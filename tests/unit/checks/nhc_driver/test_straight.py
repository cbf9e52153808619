# SPDX-License-Identifier: Apache-2.0
"""The engine without an event loop: what hangs is killed, blames only itself, and is asked no more."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from refloat_checks import probe_worker, process_table
from refloat_checks.nhc.checks.launching import launch
from refloat_checks.nhc.engine import NeedsLoop
from refloat_checks.nhc.native import NhcRun
from refloat_checks.nhc.straight import Straight, drive
from refloat_checks.nhc.straight_facts import StraightFacts
from refloat_checks.probed import Unanswered, Usage
from refloat_contract.errors import Refused, Transient


@pytest.fixture
def engine() -> Straight:
    return Straight()


@pytest.fixture
def facts(engine: Straight) -> Iterator[StraightFacts]:
    made = StraightFacts(engine)
    yield made
    made.close()


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> str:
    """A path in a filesystem that does not answer; each child is forked from this process, and so hangs there."""
    look = probe_worker.LOOKS["statvfs"]

    def hang(root: str, path: str) -> object:
        if path == "/hung":
            time.sleep(60)
        return look(root, path)

    monkeypatch.setitem(probe_worker.LOOKS, "statvfs", hang)
    return "/hung"


def within(engine: Straight, seconds: float | None, work: Coroutine[Any, Any, object]) -> object:
    return drive(engine.within(seconds, work))


def test_a_probe_that_hangs_is_given_up_and_the_next_is_answered(
    engine: Straight, facts: StraightFacts, hung: str
) -> None:
    with pytest.raises(TimeoutError):
        within(engine, 0.1, facts.usage(hung))

    assert isinstance(within(engine, 10, facts.usage("/")), Usage)


def test_what_hangs_in_the_kernel_is_not_asked_again_and_not_waited_for(
    engine: Straight, facts: StraightFacts, hung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    # The standard library's: a process in uninterruptible sleep takes no signal.
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    with pytest.raises(TimeoutError):
        within(engine, 0.1, facts.usage(hung))

    with pytest.raises(Unanswered, match="/hung has not answered for"):
        within(engine, 10, facts.usage(hung))
    assert isinstance(within(engine, 10, facts.usage("/")), Usage)

    monkeypatch.undo()
    os.kill(killed[0], signal.SIGKILL)
    os.waitpid(killed[0], 0)


def test_what_the_kernel_says_of_a_path_is_raised_as_it_is(facts: StraightFacts) -> None:
    with pytest.raises(OSError, match="No such file") as raised:
        drive(facts.usage("/nowhere"))

    assert raised.value.errno == 2


def test_a_child_that_ends_by_itself_is_no_answer(
    engine: Straight, facts: StraightFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(probe_worker.LOOKS, "statvfs", lambda *_: os._exit(3))

    with pytest.raises(Transient, match="ended by itself"):
        within(engine, 10, facts.usage("/"))


def test_a_reading_that_may_hang_is_done_by_a_child_and_once(facts: StraightFacts) -> None:
    pids = [drive(facts.read("some driver's file", os.getpid)) for _ in range(2)]

    assert pids[0] == pids[1] != os.getpid()
    assert drive(facts.read("memory", os.getpid)) == os.getpid()


def test_what_a_reading_raised_it_raises_again(facts: StraightFacts) -> None:
    def bad() -> None:
        raise ValueError("not a line")

    for source in ("some driver's file", "memory"):
        for _ in range(2):
            with pytest.raises(ValueError, match="not a line"):
                drive(facts.read(source, bad))


def test_processes_are_named_but_neither_we_nor_our_child(facts: StraightFacts) -> None:
    titles = {each.pid: each.title for each in drive(process_table.titles(facts))}

    assert 1 in titles
    assert os.getpid() not in titles
    assert drive(process_table.identities(facts, (1,)))[1].uid == 0


def test_users_and_files_are_asked_through_the_child(facts: StraightFacts, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\n")

    assert drive(facts.user_name(0)) == "root"
    assert drive(facts.group_name(0)) == "root"
    assert drive(facts.uid("root")) == 0
    assert drive(facts.content(f"{tmp_path}/file", 1)) == b"\xff\n"
    assert drive(facts.examine(f"{tmp_path}/file")).target is not None
    assert drive(facts.examine(f"{tmp_path}/gone")).errno == 2
    assert drive(facts.stat(str(tmp_path))).type == "directory"
    drive(facts.try_write(str(tmp_path)))
    drive(facts.try_read(str(tmp_path), directory=True))
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_command_ends_with_its_status_and_what_it_said(engine: Straight) -> None:
    done = drive(
        engine.command(("sh", "-c", "echo out $X; echo err >&2; exit 3"), deadline_s=10, env={"X": "y", "PATH": "/bin"})
    )

    assert (done.returncode, done.stdout, done.stderr) == (3, "out y\n", "err\n")


def alive_in(group: str) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group, *_ = place.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if of_group == group and state != "Z":
            found.append(place.parent.name)
    return found


@pytest.mark.parametrize(
    "script", ["sleep 60", "(trap '' TERM; sleep 60)", "trap '' TERM; sleep 60", "exec >&- 2>&-; sleep 60"]
)
def test_a_command_is_killed_with_its_children_when_its_time_is_over(
    engine: Straight, tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refloat_checks.nhc.straight._GRACE_S", 0.1)

    with pytest.raises(Transient, match="killed"):
        drive(engine.command(("sh", "-c", f"echo $$ > {tmp_path}/pid; {script}; :"), deadline_s=0.3))

    group = (tmp_path / "pid").read_text().strip()
    while alive_in(group):
        time.sleep(0.01)


def test_a_program_that_is_not_there_is_refused(engine: Straight) -> None:
    with pytest.raises(Refused, match="nosuch"):
        drive(engine.command(("nosuch",), deadline_s=10))
    with pytest.raises(Refused, match="not a program"):
        drive(engine.command(("A=b",), deadline_s=10))


def test_a_command_that_says_too_much_is_killed(engine: Straight) -> None:
    with pytest.raises(Transient, match="more than 1000 bytes"):
        drive(engine.command(("yes",), deadline_s=10, cap_bytes=1000))


def test_of_two_deadlines_the_one_that_passed_is_told(engine: Straight, facts: StraightFacts) -> None:
    run = NhcRun(facts, {"PATH": "/bin:/usr/bin"}, waiting=engine)

    assert drive(launch(("sleep", "60"), run, 0.1)).timed_out
    with pytest.raises(TimeoutError):
        within(engine, 0.1, launch(("sleep", "60"), run, 30))


def test_the_end_of_a_process_is_waited_for(engine: Straight) -> None:
    waker, never = os.pipe()

    assert not drive(engine.ends(waker, 0.01))
    os.close(never)
    assert drive(engine.ends(waker, 10))
    os.close(waker)


def test_what_needs_a_loop_says_so(engine: Straight) -> None:
    with pytest.raises(NeedsLoop):
        engine.require_loop()


LEAN = """
import sys
sys.argv = ["nhc", "-q", "-l", "/dev/null", "-c", sys.argv[1], "--local", "MARK_OFFLINE=0"]
from refloat_cli.nhc import options as nhc_options
from refloat_cli.nhc import running as nhc_running
assert nhc_running.run(nhc_options.parse(sys.argv[1:])) == 0
slow = {"asyncio", "typing", "dataclasses", "pathlib", "re", "json", "socket", "subprocess", "inspect", "pydantic"}
print(*sorted(slow & sys.modules.keys()))
"""


def test_a_pass_loads_nothing_that_takes_longer_than_it(tmp_path: Path) -> None:
    lines = ("check_hw_eth lo", "check_file_stat -m 0666 /dev/null", "check_fs_mount_rw -t '/(tmpfs|.*)/' -f /proc",
             "check_ps_service -0 nosuchd", "check_ps_loadavg 99999", "check_fs_free / 1kb")  # fmt: skip
    (tmp_path / "nhc.conf").write_text("".join(f"* || {line}\n" for line in lines))

    argv = [sys.executable, "-I", "-c", LEAN, str(tmp_path / "nhc.conf")]
    assert subprocess.run(argv, check=True, capture_output=True, text=True).stdout == "\n"
