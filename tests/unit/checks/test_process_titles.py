# SPDX-License-Identifier: Apache-2.0
"""Titles read through descriptors that stay open are those of now, and of the processes that are there now."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from refloat_checks.proc import Roots
from refloat_checks.process_titles import TitleReader

EXECS = 'echo begun; read line; exec -a "named anew" sh -c "echo begun; read line"'
MOST = 4096


@pytest.fixture
def execs() -> Iterator[subprocess.Popen[bytes]]:
    """A process that names itself anew when it is told a line, and ends when it is told another."""
    with subprocess.Popen(["bash", "-c", EXECS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield process
        process.kill()


def go_on(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def titles(reader: TitleReader) -> dict[int, str]:
    return {each.pid: each.title for each in reader.read()}


def open_places() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted only


def test_a_title_that_an_exec_changed_is_seen(execs: subprocess.Popen[bytes]) -> None:
    reader = TitleReader(Roots(), MOST)
    before = titles(reader)[execs.pid]
    again = titles(reader)[execs.pid]
    go_on(execs)
    assert execs.stdout is not None
    execs.stdout.readline()

    after = titles(reader)[execs.pid]

    assert before == again
    assert before.startswith("bash -c echo begun")
    assert after.startswith("named anew -c")


def test_a_zombie_is_seen_as_one(execs: subprocess.Popen[bytes]) -> None:
    reader = TitleReader(Roots(), MOST)
    reader.read()
    execs.kill()
    os.waitid(os.P_PID, execs.pid, os.WEXITED | os.WNOWAIT)

    assert titles(reader)[execs.pid] == "[bash]"


def test_a_process_that_ended_is_left_out_and_its_descriptor_closed(execs: subprocess.Popen[bytes]) -> None:
    reader = TitleReader(Roots(), MOST)
    bystanders = open_places()
    reader.read()
    assert open_places() > bystanders
    execs.kill()
    execs.wait()

    assert execs.pid not in titles(reader)
    reader.close()
    assert open_places() == bystanders


def test_a_process_that_ends_between_listing_and_reading_is_left_out(
    execs: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = TitleReader(Roots(), MOST)
    reader.read()
    execs.kill()
    execs.wait()
    # The moment between the two cannot be met in any other way.
    monkeypatch.setattr(os, "listdir", lambda _: [str(execs.pid)])

    assert reader.read() == ()


def test_no_more_descriptors_stay_open_than_allowed(execs: subprocess.Popen[bytes]) -> None:
    before = open_places()
    reader = TitleReader(Roots(), 1)

    first, second = titles(reader), titles(reader)

    assert open_places() == before + 1
    assert first[execs.pid] == second[execs.pid]


def test_a_reader_that_goes_closes_what_it_opened(execs: subprocess.Popen[bytes]) -> None:
    before = open_places()
    reader = TitleReader(Roots(), MOST)
    assert execs.pid in titles(reader)

    del reader

    assert open_places() == before


def test_only_so_many_witnesses_are_kept() -> None:
    reader = TitleReader(Roots())
    for number in range(10_000):
        reader.keep_witness(("check_ps_service", str(number)), number)

    kept = [number for number in range(10_000) if reader.witness(("check_ps_service", str(number))) is not None]

    assert kept[-1] == 9_999
    assert len(kept) <= 256


def test_files_of_a_fixture_are_opened_anew(tmp_path: Path) -> None:
    cmdline = tmp_path / "1234567" / "cmdline"
    cmdline.parent.mkdir()
    cmdline.write_bytes(b"one\0")
    reader = TitleReader(Roots(proc=tmp_path), MOST)
    before = titles(reader)
    cmdline.unlink()
    cmdline.write_bytes(b"two\0")

    assert (before, titles(reader)) == ({1234567: "one"}, {1234567: "two"})
